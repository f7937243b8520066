"""The words of prepare: list, show, check, and recipe=<name> with its default places."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eo_adapt import registry
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.synthetic.timesen2crop import TimeSen2CropWorld
from eo_adapt.prepare import main, words


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EO_ADAPT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def run(*overrides: str) -> None:
    main(registry.config(*overrides, name="prepare"))


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ([], []),
        (["recipe=cawa"], ["recipe=cawa"]),
        (["--help"], ["--help"]),
        (["list"], ["do=list"]),
        (["check", "recipe=cawa", "raw=x"], ["do=check", "recipe=cawa", "raw=x"]),
    ],
)
def test_a_plain_first_word(given: list[str], understood: list[str]) -> None:
    assert words(given) == understood


def test_a_word_that_is_not_known() -> None:
    with pytest.raises(
        ValueError, match=r"prepare knows no 'chekc'; did you mean 'check'\? it has \['list', 'show', 'check'\]"
    ):
        words(["chekc", "recipe=cawa"])
    with pytest.raises(ValueError, match=r"do is one of \['make', 'list', 'show', 'check'\]; got 'all'"):
        run("do=all")
    with pytest.raises(ValueError, match=r"prepare needs recipe=<name>: `python -m eo_adapt\.prepare list` shows all"):
        run()


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    run("do=list")
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " download " in rows["pastis"]
    assert " by hand " in rows["pastis_hd"]
    assert " parts " in rows["lidar_hd"]
    assert " embedded " in rows["synthetic"]
    assert "TimeSen2Crop, Sentinel-2 series of pixels" in rows["timesen2crop"]


def test_show(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    run("do=show", "recipe=pastis")
    told = capsys.readouterr().out
    for text in (
        "PASTIS.zip  28.8 GB; md5 cfc441bf18137ff0bbf4fad58828fb98",
        "https://zenodo.org/records/5012942/files/PASTIS.zip",
        "revision   Zenodo record 5012942",
        "bands B02, B03, B04",
        f"raw files  {cache}/raw/pastis",
        f"result     {cache}/prepared/pastis",
    ):
        assert text in told
    run("do=show", "recipe=pastis_hd")
    told = capsys.readouterr().out
    assert "by hand    The files lie one by one on Hugging Face" in told
    assert "19.8 MB; hash unknown until first verified download" in told


@pytest.mark.parametrize("name", ["eurocrops", "lidar_hd", "flair_hub", "cawa", "synthetic", "breizhcrops"])
def test_show_any(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run("do=show", f"recipe={name}")
    assert Recipe.load(name).title in capsys.readouterr().out


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TimeSen2CropWorld(tiles=("33UVP",), pixels=1).write(tmp_path / "raw")
    run("do=check", "recipe=timesen2crop", f"raw={tmp_path / 'raw'}")
    told = capsys.readouterr().out.splitlines()
    assert told == ["ok       TimeSen2Crop.zip: unpacked", "ok       the reader: 16 samples read"]
    (tmp_path / "raw" / "33UVP" / "dates.csv").unlink()
    with pytest.raises(ValueError, match="is not a whole copy of timesen2crop: 2 of 2 findings are not ok"):
        run("do=check", "recipe=timesen2crop", f"raw={tmp_path / 'raw'}")
    assert capsys.readouterr().out.startswith(
        "missing  TimeSen2Crop.zip (nor */dates.csv); from https://zenodo.org/rec"
    )


def test_default_places(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    TimeSen2CropWorld(tiles=("33UVP",), pixels=1).write(cache / "raw" / "timesen2crop")
    run("recipe=timesen2crop")
    out = cache / "prepared" / "timesen2crop"
    assert f"16 parcels: {out}\n" in capsys.readouterr().out
    found = json.loads((out / "PROVENANCE.json").read_text())
    assert found["options"]["recipe"] == "timesen2crop"
    assert found["steps"][0] == {"file": "TimeSen2Crop.zip", "found": ["*/dates.csv"]}
    run("recipe=timesen2crop")
    assert f"16 parcels: {out} (nothing to do: made before, of the same inputs)" in capsys.readouterr().out


def test_parts_and_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(Recipe.load("eurocrops").synthetic).write(tmp_path / "raw")
    options = ["recipe=eurocrops", f"raw={tmp_path / 'raw'}", f"out={tmp_path / 'out'}", "parts=[LV_2021,SI_2021]"]
    with pytest.raises(ValueError, match=r"LV_2021\.zip has the md5 .*set verify=false to use it as it is"):
        run(*options)
    run(*options, "verify=false")
    assert "118 parcel outlines, 2 dropped (" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no part 'LV_2012'; did you mean 'LV_2021'"):
        run("recipe=eurocrops", "parts=LV_2012")


def test_by_hand(cache: Path) -> None:
    with pytest.raises(FileNotFoundError, match=rf"must be fetched by hand and put below {cache}/raw/cawa.*figshare"):
        run("recipe=cawa")
    with pytest.raises(FileNotFoundError, match=r"no folder .*with the raw files of cawa"):
        run("recipe=cawa", "fetch=false")
