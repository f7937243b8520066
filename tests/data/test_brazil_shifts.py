"""The shifts of configs/shift/brazil_*.yaml, on made-up points and, where they are at hand, on the real ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eo_adapt.data.datamodule import DomainDataModule
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.parcel_steps import RondoniaWorld, StepsWorld
from eo_adapt.registry import config, instantiate

REAL = Path(__file__).parents[3] / "shared/data/brazil_series"
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
GRASS = {"Cerrado", "Pasture", "Soy_Corn", "Soy_Cotton", "Soy_Millet"}
BOTH_WAYS = {
    "brazil_north_to_south": GRASS,
    "brazil_south_to_north": GRASS,
    "brazil_s2_to_l8": {"Deforestation", "Forest", "NonForest"},
    "brazil_l8_to_s2": {"Deforestation", "Forest", "NonForest"},
}


def data(shift: str, **options: object) -> DomainDataModule:
    """The data of a shift, set up."""
    cfg = config(f"shift={shift}", *(f"data.{key}={value}" for key, value in options.items()))
    more = {"shift": instantiate(cfg.shift), "seed": 0, "kind": "closed", "oracle": False}
    made: DomainDataModule = instantiate(cfg.data, **more)
    made.setup()
    return made


def test_mato_grosso_is_cut_at_13_5_degrees_south(tmp_path: Path) -> None:
    StepsWorld(parcels=300).write(tmp_path / "raw")
    store = Recipe.load("brazil_matogrosso").prepare(tmp_path / "raw", tmp_path / "store")
    for shift in ("brazil_north_to_south", "brazil_south_to_north"):
        found = {d.domain.name: d for d in data(shift, store=store.path).parcels}
        north, south = (store.index["lat"].to_numpy()[found[name].rows] for name in ("north", "south"))
        assert len(north) + len(south) == 300
        assert south.max() < -13.5 <= north.min()
        assert found[shift.split("_")[1]].role == "source"


def test_rondonia_is_cut_by_sensor(tmp_path: Path) -> None:
    RondoniaWorld(parcels=150).write(tmp_path / "raw")
    store = Recipe.load("brazil_rondonia").prepare(tmp_path / "raw", tmp_path / "store")
    for shift in ("brazil_s2_to_l8", "brazil_l8_to_s2"):
        made = data(shift, store=store.path)
        assert made.sensors == {"vi": 2}
        assert [set(store.index["sensor"].to_numpy()[d.rows]) for d in made.parcels] == [
            {name} for name in shift.removeprefix("brazil_").split("_to_")
        ]


@real_data
@pytest.mark.parametrize("shift", sorted(BOTH_WAYS))
def test_real_splits_hold_every_shared_class(shift: str) -> None:
    made = data(shift, root=REAL)
    assert set(made.label_set.shared) == set(made.legend.names) == BOTH_WAYS[shift]
    least = {"train": 15, "val": 3, "test": 10}
    label = made.store.index["label"].to_numpy(str)  # those of the target's parcels are sealed
    for d in made.parcels:
        for split, wanted in least.items():
            counts = Counter(label[d.of(split)[0]].tolist())
            assert min(counts[name] for name in BOTH_WAYS[shift]) >= wanted, (d.domain.name, split, counts)
        assert min(d.distances.values()) > 1000


@real_data
def test_real_classes_of_one_side_and_the_rare_one_are_not_learnt() -> None:
    north = data("brazil_north_to_south", root=REAL).label_set
    assert "Fallow_Cotton" in north.target_private
    south = data("brazil_south_to_north", root=REAL).label_set
    assert south.source_private == ("Fallow_Cotton",)
    assert {"Soy_Fallow", "Soy_Sunflower"} <= set(south.target_private)


@real_data
def test_real_distances_are_metres() -> None:
    """The recipes name no CRS; equal-area coordinates around the data then lie close to distances on the sphere."""
    index = data("brazil_north_to_south", root=REAL).store.index
    rng = np.random.default_rng(0)
    a, b = (index.iloc[rng.integers(0, len(index), 300)] for _ in range(2))
    lat1, lat2 = np.deg2rad(a["lat"].to_numpy()), np.deg2rad(b["lat"].to_numpy())
    dlon = np.deg2rad(b["lon"].to_numpy() - a["lon"].to_numpy())
    cosine = np.sin(lat1) * np.sin(lat2) + np.cos(lat1) * np.cos(lat2) * np.cos(dlon)
    known = 6_371_000 * np.arccos(cosine.clip(-1, 1))
    found = np.hypot(b["x"].to_numpy() - a["x"].to_numpy(), b["y"].to_numpy() - a["y"].to_numpy())
    far = known > 10_000
    np.testing.assert_allclose(found[far], known[far], rtol=0.01)
