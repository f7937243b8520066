"""FLAIR#2: the folders and departments in which it differs from FLAIR#1."""

from __future__ import annotations

from pathlib import Path

import pytest

from eo_adapt.data.readers.flair1 import PARTS2, Flair1, Flair2
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.records import Raster
from eo_adapt.data.synthetic.aerial_world import AerialWorld
from eo_adapt.registry import config, instantiate

SMALL = {"departments": ("D006_2020", "D067_2021", "D064_2021", "D071_2020"), "zones": 3, "grid": 1, "size": 16}


def test_round_trip(tmp_path: Path) -> None:
    known = AerialWorld(**SMALL, release="flair2").write_known(tmp_path)
    found = list(Flair2().read(tmp_path))
    assert found == known
    assert {(s.region, s.split) for s in found} == {
        ("D006", "train"), ("D067", "val"), ("D064", "test"), ("D071", "test"),
    }  # fmt: skip
    test = next(s for s in found if s.split == "test")
    assert test.images["aerial"].path.startswith("flair_2_aerial_test/D064_2021/Z1_")
    assert isinstance(test.mask, Raster)
    assert test.mask.path.startswith("flair_2_labels_test/D064_2021/Z1_")
    assert {path.name for path in tmp_path.iterdir()} == {
        *PARTS2, *PARTS2.values(), "flair_aerial_metadata.json",
    }  # fmt: skip


def test_each_release_has_its_own_test_departments(tmp_path: Path) -> None:
    AerialWorld(**SMALL, release="flair2").write(tmp_path)
    ours, theirs = ({s.region for s in reader.read(tmp_path)} for reader in (Flair2(), Flair1()))
    assert ours - theirs == {"D064", "D071"}  # FLAIR#1 has no such folder
    for part in ("flair_2_aerial_test", "flair_2_labels_test"):
        (tmp_path / part / "D064_2021").rename(tmp_path / part / "D015_2020")  # in FLAIR#2's test alone
    as_two, as_one = ({s.region: s.split for s in reader.read(tmp_path)} for reader in (Flair2(), Flair1(parts=PARTS2)))
    assert (as_two["D015"], as_one["D015"]) == ("test", "train")
    with pytest.raises(ValueError, match=r"release is one of \['flair1', 'flair2'\]; got 'flair3'"):
        AerialWorld(release="flair3")


def test_the_recipe_and_its_shift(tmp_path: Path) -> None:
    recipe = Recipe.load("flair2")
    make({**recipe.synthetic, **SMALL}).write(tmp_path / "raw")
    recipe.prepare(tmp_path / "raw", tmp_path / "store")
    cfg = config("shift=flair2_test")
    split = {"_target_": "eo_adapt.data.parts.Split", "block_size": 0.0, "buffer": 0.0}
    changes = {"store": str(tmp_path / "store"), "min_per_class": 1, "crop": 8, "workers": 0, "split": split}
    given = {"shift": instantiate(cfg.shift), "seed": 0, "kind": "closed", "oracle": False}
    data = instantiate({**cfg.data, **changes}, **given)
    data.setup()
    train, test = (set(data.store.index["region"].to_numpy()[d.rows]) for d in data.parcels)
    assert (train, test) == ({"D006", "D067"}, {"D064", "D071"})
