"""Steps from sources to raw files: each done once, gone on with after a kill, never done over somebody's files."""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flaky import Server
from toys import QUIET, SAID, archive, recipe, sha

from eo_adapt.data.fetch import steps
from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.fetch.steps import Wishes, bring, merge

pytestmark = pytest.mark.usefixtures("toy")


def test_each_step_is_done_once(server: Server, packed: dict[str, Any], tmp_path: Path) -> None:
    toy, raw = recipe(packed), tmp_path / "raw"
    (notes,) = bring(raw, toy.files(), QUIET)
    assert notes["download"]["verified"] == "sha256"
    assert notes["unpack"] | {"key": "", "when": ""} == {"key": "", "into": "", "files": 2, "bytes": 4, "when": ""}
    assert (raw / "keys.txt").read_text() == "a b"
    assert (raw / "more" / "x.txt").read_text() == "x"
    assert [said.split()[0] for said in SAID] == ["fetching", "unpacking"]
    before = {p: p.stat().st_mtime_ns for p in raw.rglob("*")}
    assert bring(raw, toy.files(), QUIET) == [notes]
    assert before == {p: p.stat().st_mtime_ns for p in raw.rglob("*")}
    assert len(server.files["/toy.zip"].asked) == 1


def test_another_way_to_unpack_is_another_step(packed: dict[str, Any], tmp_path: Path) -> None:
    bring(tmp_path / "raw", recipe(packed).files(), QUIET)
    moved = {**packed, "unpack": {"into": "deep", "strip": "none"}, "gives": ["deep/toy/keys.txt"]}
    bring(tmp_path / "raw", recipe(moved).files(), QUIET)
    assert (tmp_path / "raw" / "deep" / "toy" / "keys.txt").is_file()


def test_archives_need_not_be_kept(server: Server, packed: dict[str, Any], tmp_path: Path) -> None:
    wishes = Wishes(keep=False, say=SAID.append)
    first = bring(tmp_path / "raw", recipe(packed).files(), wishes)
    assert not (tmp_path / "raw" / "toy.zip").exists()
    assert bring(tmp_path / "raw", recipe(packed).files(), wishes) == first
    assert len(server.files["/toy.zip"].asked) == 1


def test_a_layout_that_somebody_else_made_is_used(server: Server, packed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "keys.txt").write_text("mine")
    assert bring(tmp_path / "raw", recipe(packed).files(), QUIET) == [{"file": "toy.zip", "found": ["keys.txt"]}]
    assert server.files["/toy.zip"].asked == []
    assert {p.name for p in (tmp_path / "raw").iterdir()} == {"keys.txt"}


def test_an_archive_that_somebody_put_there_is_unpacked(server: Server, packed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    shutil.copy(tmp_path / "toy.zip", tmp_path / "raw" / "toy.zip")
    bring(tmp_path / "raw", recipe(packed).files(), QUIET)
    assert server.files["/toy.zip"].asked == []
    assert (tmp_path / "raw" / "keys.txt").is_file()


def test_an_archive_that_is_another_one(packed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    archive(tmp_path / "raw" / "toy.zip", keys_txt="other")
    with pytest.raises(
        ValueError, match=r"toy\.zip has [\d,]+ bytes, the recipe says .*set verify=false to use it as it is"
    ):
        bring(tmp_path / "raw", recipe(packed).files(), QUIET)
    assert not (tmp_path / "raw" / "keys.txt").exists()
    (notes,) = bring(tmp_path / "raw", recipe(packed).files(), Wishes(verify=False, say=SAID.append))
    assert notes["download"]["verified"] == "no"
    assert (tmp_path / "raw" / "keys.txt").read_text() == "other"


def test_an_archive_that_holds_something_else(packed: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"was unpacked, but nothing below .* is called keys\.csv: the publisher packs"
    ):
        bring(tmp_path / "raw", recipe({**packed, "gives": ["keys.csv"]}).files(), QUIET)


def test_a_bad_archive_is_not_half_unpacked(server: Server, tmp_path: Path) -> None:
    evil = archive(tmp_path / "evil.zip", keys_txt="a")
    with zipfile.ZipFile(tmp_path / "evil.zip", "a") as more:
        more.writestr("../../keys.txt", "evil")
    link = server.put("/evil.zip", (tmp_path / "evil.zip").read_bytes())
    assert evil
    with pytest.raises(ValueError, match="leads out of the folder"):
        bring(tmp_path / "raw", recipe({"url": link, "unpack": {"into": ""}, "gives": ["keys.txt"]}).files(), QUIET)
    assert not (tmp_path / "raw" / "keys.txt").exists()
    assert not (tmp_path / "keys.txt").exists()


def test_without_the_network(packed: dict[str, Any], tmp_path: Path) -> None:
    offline = Wishes(fetch=False, say=SAID.append)
    assert bring(tmp_path / "raw", recipe(packed).files(), offline) == [{"file": "toy.zip", "missing": True}]
    assert SAID == []


def test_merging_goes_on_and_refuses_what_is_in_the_way(tmp_path: Path) -> None:
    for path in ("from/a/x", "from/b", "to/a/y", "to/b"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    merge(tmp_path / "from", tmp_path / "to")
    merge(tmp_path / "from", tmp_path / "to")
    assert {p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*")} == {"a", "a/x", "a/y", "b"}
    assert (tmp_path / "to" / "b").read_text() == "from/b"
    (tmp_path / "from" / "b").mkdir()
    with pytest.raises(FileExistsError, match=r"to/b is in the way of a folder of that name"):
        merge(tmp_path / "from", tmp_path / "to")


def test_a_kill_between_any_two_moves(packed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = recipe(packed)
    replace = os.replace
    for stop in range(12):
        raw, left = tmp_path / f"raw{stop}", [stop]

        def dying(a: Any, b: Any, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(a, b)

        with monkeypatch.context() as patched:
            patched.setattr(steps.os, "replace", dying)
            with contextlib.suppress(KeyboardInterrupt):
                bring(raw, toy.files(), QUIET)
        bring(raw, toy.files(), QUIET)
        assert (raw / "keys.txt").read_text() == "a b"
        assert (raw / "more" / "x.txt").read_text() == "x"
        assert not list((raw / ".eo_adapt").glob("*unpack*"))


def test_a_folder_that_cannot_be_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "keys.txt").write_text("a b")
    toy = recipe({"file": "keys.txt", "sha256": sha(b"a b")})

    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied", str(raw))

    with monkeypatch.context() as patched:
        patched.setattr("eo_adapt.data.fetch.ledger.write_json", denied)
        notes = bring(raw, toy.files(), QUIET)
    assert notes[0]["download"]["verified"] == "sha256"
    assert bring(raw, toy.files(), QUIET)[0]["download"]["sha256"] == sha(b"a b")
    assert {p.name for p in raw.iterdir()} == {"keys.txt"}  # nothing is noted of files that were there
    assert len(make_result(toy, raw, tmp_path / "out", notes)[0]) == 2
