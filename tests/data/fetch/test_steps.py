"""Steps from sources to a result: each done once, gone on with after a kill, never done over somebody's files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from flaky import Server

from eo_adapt.data.fetch import provenance, steps
from eo_adapt.data.fetch.check import check
from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.fetch.sources import SourceError, Unpack, read_parts, read_sources, select
from eo_adapt.data.fetch.steps import Wishes, bring, merge
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.records import Record, Sensor, Series

SAID: list[str] = []
QUIET = Wishes(say=SAID.append)


@dataclass
class Keys:
    """Reads a parcel a line of keys.txt."""

    sensors: dict[str, Any] = field(default_factory=lambda: {"s2": Sensor(("B04", "B08"))})

    def read(self, root: Path) -> Iterator[Record]:
        for i, key in enumerate((root / "keys.txt").read_text().split()):
            series = Series(np.full((2, 2), i + 1, np.uint16), np.array([10, 20]))
            yield Record(key, "crop", 10.0 + i, 50.0, {"s2": series})


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("eo_adapt.data.readers.keys")
    module.__dict__.update(Keys=Keys)
    monkeypatch.setitem(__import__("sys").modules, module.__name__, module)
    SAID.clear()


def recipe(*sources: dict[str, Any], **more: Any) -> Recipe:
    return Recipe(
        name="toy",
        title="Toy",
        licence={"id": "CC0"},
        citation="nobody",
        reader={"_target_": "eo_adapt.data.readers.keys.Keys"},
        sources=sources,
        text=json.dumps([sources, more], default=str),
        **more,
    )


def archive(path: Path, **files: str) -> bytes:
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in files.items():
            packed.writestr(name.replace("__", "/").replace("_txt", ".txt"), text)
    return path.read_bytes()


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def packed(server: Server, tmp_path: Path) -> dict[str, Any]:
    data = archive(tmp_path / "toy.zip", toy__keys_txt="a b", toy__more__x_txt="x")
    link = server.put("/toy.zip", data)
    return {"url": link, "sha256": sha(data), "bytes": len(data), "unpack": {"into": ""}, "gives": ["keys.txt"]}


# -- fetching and unpacking --------------------------------------------------------------------------------------------


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


# -- parts -------------------------------------------------------------------------------------------------------------


def test_parts_choose_files() -> None:
    files = read_sources(
        [
            {"page": "https://a/"},
            {"url": "https://a/always.csv"},
            {"url": "https://a/LV.zip", "part": "LV"},
            {"url": "https://a/SI.zip", "part": "SI"},
            {"url": "https://a/big.zip", "part": "big", "optional": True},
        ]
    )
    names = lambda *parts: [source.file for source in select(files, parts, "toy")]  # noqa: E731
    assert names() == ["always.csv", "LV.zip", "SI.zip"]
    assert names("SI") == ["always.csv", "SI.zip"]
    assert names("big", "LV") == ["always.csv", "LV.zip", "big.zip"]
    with pytest.raises(
        SourceError, match=r"recipe toy has no part 'LVA'; did you mean 'LV'\? there are \['LV', 'SI', 'big'\]"
    ):
        names("LVA")
    with pytest.raises(SourceError, match="has no parts to choose from; leave parts out"):
        select(files[:2], ("LV",), "toy")


def test_templates_stand_for_parts(tmp_path: Path) -> None:
    spec = {"url": "https://a/{part}_X.zip", "unpack": {"into": "{part}"}, "gives": ["{part}/*.tif"]}
    files = read_sources([spec])
    one, two = select(files, ("D1", "D2"))
    assert (one.url, one.file, one.unpack, one.gives) == ("https://a/D1_X.zip", "D1_X.zip", Unpack("D1"), ("D1/*.tif",))
    assert two.part == "D2"
    with pytest.raises(SourceError, match="the name of a part has letters"):
        select(files, ("../x",))
    with pytest.raises(SourceError, match=r"fetched in parts: name some with parts=\[...\]"):
        bring(tmp_path, select(files, ()), QUIET)
    (tmp_path / "D7").mkdir()
    (tmp_path / "D7" / "a.tif").write_text("")
    assert bring(tmp_path, select(files, ()), QUIET) == []


def test_links_as_parts() -> None:
    files = read_sources([{"url": "{part}", "gives": ["*.laz"]}])
    link = "https://data.example.org/tiles/LHD_FXX_0664_6715.copc.laz"
    assert select(files, (link,))[0].file == "LHD_FXX_0664_6715.copc.laz"
    assert select(files, (link,))[0].gives == ()  # another tile that is there says nothing of this one
    for wrong in ("LHD_FXX", "file:///etc/passwd", "https://a.org/", "ftp://a/b"):
        with pytest.raises(SourceError, match=r"is the link of a file, https://|does not end in a file's name"):
            select(files, (wrong,))
    with pytest.raises(SourceError, match="several parts would be files of one name"):
        select(files, (link, link.replace("tiles", "others")))


def test_parts_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "tiles.txt").write_text("# mine\nhttps://a/b.laz#x\n\nD1  # first\nD1\n")
    assert read_parts(str(tmp_path / "tiles.txt")) == ("https://a/b.laz#x", "D1")
    assert read_parts(["a", "b", "a"]) == ("a", "b")
    assert read_parts("LV_2021") == ("LV_2021",)
    assert read_parts("") == read_parts([]) == ()
    with pytest.raises(FileNotFoundError, match=r"there is no such file; give one part a line"):
        read_parts(str(tmp_path / "nothing.txt"))
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(SourceError, match="names no part"):
        read_parts(str(tmp_path / "empty.txt"))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "has a url .* a page .* or a file"),
        ({"url": "ftp://a/b"}, "begins with https"),
        ({"url": "https://a/"}, "does not end in a file's name"),
        ({"url": "https://a/%2e%2e"}, "does not end in a file's name"),
        ({"file": "../a"}, "no absolute path and no"),
        ({"file": "/a"}, "no absolute path and no"),
        ({"url": "https://a/b", "sha256": "abc"}, "sha256 is 64 lower-case hexadecimal digits or 'unknown until first"),
        ({"url": "https://a/b", "sha256": "A" * 64}, "lower-case"),
        ({"url": "https://a/b", "md5": "0" * 31}, "md5 is 32"),
        ({"url": "https://a/b", "bytes": -1}, "bytes is a number of bytes or a text that begins with 'unknown"),
        ({"url": "https://a/b", "bytes": "3 GB"}, "bytes is a number"),
        ({"url": "https://a/b", "bytes": True}, "bytes is a number"),
        ({"url": "https://a/b", "unpack": "here"}, "unpack is a mapping of"),
        ({"url": "https://a/b", "unpack": {"into": 2017}}, "put it in quotes"),
        ({"url": "https://a/b", "unpack": {"into": "..", "strip": "alone"}}, "below the raw folder"),
        ({"url": "https://a/b", "unpack": {"strip": "2"}}, "'alone' or 'none'"),
        ({"url": "https://a/b", "gives": ["/etc/*"]}, "below the raw folder"),
        ({"url": "https://a/b", "optional": True}, "needs the name of its part"),
        ({"url": "https://a/b", "shasum": "x"}, r"unknown keys \['shasum'\]; a source has"),
    ],
)
def test_sources_are_checked(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError, match=rf"source 2 of recipe toy: .*{message}"):
        read_sources([{"page": "https://a/"}, entry], "toy")


# -- the result --------------------------------------------------------------------------------------------------------


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


# -- checking a copy ---------------------------------------------------------------------------------------------------


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
