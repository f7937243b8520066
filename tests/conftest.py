"""Fixtures for all tests: a small world in a cache of its own, so that no test reads or fills the user's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before torch is imported: see eo_adapt/cli.py.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # small networks: a second thread costs more than it brings

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that all tests of this session share."""
    place = tmp_path_factory.mktemp("cache")
    before = os.environ.get("EO_ADAPT_CACHE")
    os.environ["EO_ADAPT_CACHE"] = str(place)
    yield place
    if before is None:
        del os.environ["EO_ADAPT_CACHE"]
    else:
        os.environ["EO_ADAPT_CACHE"] = before


# Files are dealt whole to two processes, in order: the longest go first, or one process waits minutes for the other.
LONGEST = ("test_contract.py", "test_cli.py", "test_benchmark.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; the order within a file stays."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
