"""A server for all tests of downloads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flaky import Server, running


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine; proxies of the surroundings do not lead to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as it:
        yield it
