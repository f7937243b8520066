"""Class tables and splits of FLAIR and LoveDA: by name, against the published lists."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from eo_adapt.data.scenes.flair_classes import COSIA, FLAIR, LEGENDS, flair_classes
from eo_adapt.data.scenes.flair_splits import GEOMT_SOURCES, GEOMT_TARGETS, SPLITS, split_of
from eo_adapt.data.scenes.land_cover import loveda_classes

REAL = Path(__file__).parents[3] / "../shared/data/flair"
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")


def test_numbers_mean_other_things_in_flair_and_cosia() -> None:
    assert (FLAIR[1], FLAIR[7], FLAIR[12], FLAIR[18], FLAIR[19]) == (
        "building", "deciduous", "plowed land", "greenhouse", "other",
    )  # fmt: skip
    assert (COSIA[0], COSIA[1], COSIA[10], COSIA[12], COSIA[14]) == (
        "building", "greenhouse", "plowed land", "deciduous", "brushwood",
    )  # fmt: skip
    assert sorted(FLAIR.values()) == sorted(COSIA.values())
    assert list(FLAIR) == list(range(1, 20))
    assert list(COSIA) == list(range(19))


@pytest.mark.parametrize(("legend", "learnt"), [("flair19", 19), ("flair15", 15), ("flair13", 13), ("flair12", 12)])
def test_legends_of_both_numberings_name_the_same_classes(legend: str, learnt: int) -> None:
    flair, cosia = flair_classes(legend), flair_classes(legend, "cosia")
    assert set(flair.names.values()) == set(cosia.names.values()) == set(flair.colours)
    assert len(flair.colours) == learnt
    for found, ids in ((flair, FLAIR), (cosia, COSIA)):
        assert set(found.names) | found.ignored == set(ids)
        assert not set(found.names) & found.ignored


def test_what_legends_leave_out() -> None:
    assert flair_classes("flair15").ignored == {15, 16, 17, 19}
    assert flair_classes("flair15", "cosia").ignored == {15, 16, 17, 18}
    assert flair_classes("flair12").ignored == set(range(13, 20))
    assert {n for n, name in flair_classes("flair13").names.items() if name == "other"} == set(range(13, 20))
    assert flair_classes().colours["building"] == "#db0e9a"
    assert set(LEGENDS["land_cover"]) == set(FLAIR.values()) - {"snow", "clear cut", "other"}


def test_loveda_legends() -> None:
    assert loveda_classes().names == {
        1: "background", 2: "building", 3: "road", 4: "water", 5: "barren", 6: "forest", 7: "agriculture",
    }  # fmt: skip
    assert loveda_classes().ignored == {0}
    four = loveda_classes("lovecs4")
    assert four.names == {2: "building", 3: "road", 4: "water", 5: "land", 6: "land", 7: "land"}
    assert four.ignored == {0, 1}
    common = loveda_classes("land_cover")
    assert set(common.names.values()) == set(flair_classes("land_cover").names.values())
    assert common.colours == {name: flair_classes("land_cover").colours[name] for name in common.colours}


def test_unknown_tables_name_the_nearest() -> None:
    with pytest.raises(LookupError, match=r"no legend called 'flair14'; did you mean 'flair1.'"):
        flair_classes("flair14")
    with pytest.raises(LookupError, match="no numbering called 'hub'; there are: \\['cosia', 'flair'\\]"):
        flair_classes("flair12", "hub")
    with pytest.raises(LookupError, match="no legend called 'loveda'"):
        loveda_classes("loveda")
    with pytest.raises(LookupError, match="did you mean 'uda_nas'"):
        split_of("uda-nas", "D006", "Z1_UU")


@real_data
def test_splits_agree_with_the_official_lists() -> None:
    for part in ("val", "test"):
        with (REAL / f"flair-1-paths-{part}.csv").open() as file:
            there = {Path(row[0]).parts[-4].split("_")[0] for row in csv.reader(file)}
        assert there == {name for name, its in SPLITS["flair1"].items() if its == part}
    names = {name.split("_")[0] for name in json.loads((REAL / "class_histograms.json").read_text())["share"]}
    assert names == {*GEOMT_SOURCES.split(), *GEOMT_TARGETS.split()}


def test_split_of_a_zone() -> None:
    assert [split_of("flair1", d, "Z1_UU") for d in ("D006", "D067", "D068")] == ["train", "val", "test"]
    assert [split_of("uda_nas", d, "Z5_UU") for d in ("D012", "D075", "D071")] == ["train", "val", "test"]
    source = [split_of("uda_nas", "D006", f"Z{n}_AU") for n in range(1, 11)]
    assert source == ["train", "train", "train", "test", "val"] * 2
    assert split_of("flair_hub", "D077", "Z1") == "val"
    assert split_of("flair_hub", "D070", "Z1") == "train"
    assert split_of("flair2", "D015", "Z1") == "test"
