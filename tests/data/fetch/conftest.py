"""A server, and a toy of a recipe, for all tests of downloads."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from flaky import Server, running
from toys import SAID, Keys, archive, sha


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine; proxies of the surroundings do not lead to it."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with running() as it:
        yield it


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of the toy, under a name that recipes may give."""
    module = ModuleType("eo_adapt.data.readers.keys")
    module.__dict__.update(Keys=Keys)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    SAID.clear()


@pytest.fixture
def packed(server: Server, tmp_path: Path) -> dict[str, Any]:
    """A source: the toy's raw files as a zip on the server."""
    data = archive(tmp_path / "toy.zip", toy__keys_txt="a b", toy__more__x_txt="x")
    link = server.put("/toy.zip", data)
    return {"url": link, "sha256": sha(data), "bytes": len(data), "unpack": {"into": ""}, "gives": ["keys.txt"]}
