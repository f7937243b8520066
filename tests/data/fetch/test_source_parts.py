"""Parts of a source: chosen by name, by template, from a file; entries that cannot be meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toys import QUIET

from eo_adapt.data.fetch.sources import SourceError, Unpack, read_parts, read_sources, select
from eo_adapt.data.fetch.steps import bring

pytestmark = pytest.mark.usefixtures("toy")


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
