"""Checking a copy: what is missing, what differs, and whether samples can be read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from toys import recipe, sha

from eo_adapt.data.fetch.check import check

pytestmark = pytest.mark.usefixtures("toy")


def test_check_names_what_is_wrong(packed: dict[str, Any], tmp_path: Path) -> None:
    raw, toy = tmp_path / "raw", recipe(packed, {"file": "extra.csv", "sha256": sha(b"1"), "bytes": 1})
    assert [str(f) for f in check(toy, raw, toy.files())] == [
        f"missing  there is no folder {raw}; give the place of the raw files as raw="
    ]
    raw.mkdir()
    texts = [str(finding) for finding in check(toy, raw, toy.files())]
    assert texts[0].startswith("missing  toy.zip (nor keys.txt); from http://127.0.0.1")
    assert texts[1] == "missing  extra.csv; from its publisher, by hand"
    assert texts[2].startswith("bad      the reader: ")
    (raw / "extra.csv").write_text("2")
    (raw / "toy.zip").write_bytes((tmp_path / "toy.zip").read_bytes()[:-5])
    (raw / "keys.txt").write_text("a b c")
    texts = [str(finding) for finding in check(toy, raw, toy.files())]
    assert "bytes, the recipe says" in texts[0]
    assert texts[1].startswith("bad      extra.csv has the sha256")
    assert texts[2] == "ok       the reader: 3 samples read"
    (raw / "extra.csv").write_text("1")
    shutil.copy(tmp_path / "toy.zip", raw / "toy.zip")
    assert {finding.state for finding in check(toy, raw, toy.files())} == {"ok"}
    (raw / "toy.zip").unlink()
    assert str(check(toy, raw, toy.files())[0]) == "ok       toy.zip: unpacked"


def test_check_reads_samples_only(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(" ".join(f"p{i}" for i in range(100)))
    assert str(check(recipe(), tmp_path, ())[-1]) == "ok       the reader: 20 samples read"
    (tmp_path / "keys.txt").write_text("a a")
    assert "occurs twice" in str(check(recipe(), tmp_path, ())[-1])
    assert {p.name for p in tmp_path.iterdir()} == {"keys.txt"}
