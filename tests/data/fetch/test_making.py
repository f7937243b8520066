"""From raw files to a result: made once, replaced when whole, with what made it beside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from toys import QUIET, Keys, recipe, sha

from eo_adapt.data.fetch import provenance
from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.fetch.steps import bring

pytestmark = pytest.mark.usefixtures("toy")


def test_provenance_says_what_made_what(packed: dict[str, Any], tmp_path: Path) -> None:
    toy, raw = recipe(packed, revision="v1"), tmp_path / "raw"
    store, fresh = make_result(toy, raw, tmp_path / "out", bring(raw, toy.files(), QUIET), {"verify": True})
    assert fresh
    found = json.loads((store.path / "PROVENANCE.json").read_text())
    assert found["recipe"]["name"] == "toy"
    assert found["recipe"]["revision"] == "v1"
    assert found["recipe"]["sha256"] == sha(toy.text.encode())
    assert found["options"] == {"verify": True}
    assert found["made_with"].startswith("eo_adapt ")
    assert len(found["code_sha256"]) == len(found["key"]) == 64
    assert {"python", "numpy"} <= set(found["libraries"])
    got, made = found["steps"]
    assert (got["download"]["url"], got["download"]["sha256"]) == (packed["url"], packed["sha256"])
    assert got["unpack"]["files"] == 2
    assert made["prepare"]["raw"]["files"] == 3
    assert made["prepare"]["outputs"] == {
        p.relative_to(store.path).as_posix(): p.stat().st_size
        for p in store.path.rglob("*")
        if p.is_file() and p.name != "PROVENANCE.json"
    }


def test_a_result_is_made_again_only_of_other_inputs(tmp_path: Path) -> None:
    raw, out, toy = tmp_path / "raw", tmp_path / "out", recipe()
    raw.mkdir()
    (raw / "keys.txt").write_text("a b")
    assert make_result(toy, raw, out)[1]
    before = (out / "store.json").stat().st_mtime_ns
    assert not make_result(toy, raw, out)[1]
    assert (out / "store.json").stat().st_mtime_ns == before
    (raw / "keys.txt").write_text("a b c")
    with pytest.raises(FileExistsError, match="made of other inputs; force=true replaces it"):
        make_result(toy, raw, out)
    assert len(make_result(toy, raw, out, force=True)[0]) == 3
    with pytest.raises(FileExistsError, match="made of other inputs"):
        make_result(recipe(notes="changed"), raw, out)


def test_a_result_below_the_raw_files(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("a b")
    assert make_result(recipe(), tmp_path, tmp_path / "stores" / "out")[1]
    assert not make_result(recipe(), tmp_path, tmp_path / "stores" / "out")[1]


@pytest.mark.parametrize("place", ["raw", "."])
def test_raw_files_are_never_replaced(tmp_path: Path, place: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "keys.txt").write_text("a")
    (tmp_path / place / "store.json").write_text("{}")
    with pytest.raises(FileExistsError, match="would be replaced; choose another out"):
        make_result(recipe(), tmp_path / "raw", tmp_path / place, force=True)


def test_what_is_no_result_is_never_replaced(tmp_path: Path) -> None:
    for folder in ("raw", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "raw" / "keys.txt").write_text("a")
    (tmp_path / "out" / "thesis.docx").write_text("")
    with pytest.raises(FileExistsError, match="exists and is no store; it would be lost"):
        make_result(recipe(), tmp_path / "raw", tmp_path / "out", force=True)
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere with the raw files of toy"):
        make_result(recipe(), tmp_path / "nowhere", tmp_path / "out2")


def test_a_failing_preparation_leaves_the_old_result(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "keys.txt").write_text("a b")
    make_result(recipe(), tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw" / "keys.txt").write_text("a a")
    with pytest.raises(ValueError, match="occurs twice"):
        make_result(recipe(), tmp_path / "raw", tmp_path / "out", force=True)
    assert provenance.key_of(tmp_path / "out")


@pytest.mark.parametrize("last", ["provenance.write", "replace_folder"])
def test_a_kill_just_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "keys.txt").write_text("a b")
    reads: list[Path] = []
    monkeypatch.setattr(Keys, "read", lambda self, root, read=Keys.read: reads.append(root) or read(self, root))

    def dying(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"eo_adapt.data.fetch.making.{last}", dying)
        with pytest.raises(KeyboardInterrupt):
            make_result(recipe(), tmp_path / "raw", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    store, fresh = make_result(recipe(), tmp_path / "raw", tmp_path / "out")
    assert (len(store), fresh, len(reads)) == (2, True, 2 if last == "provenance.write" else 1)
    assert provenance.key_of(tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"raw", "out", ".out.lock"}
