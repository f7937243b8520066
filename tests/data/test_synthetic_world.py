"""The simulated crops: layout, landscape, knobs."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from eo_adapt.data.readers.eurocropsml import EuroCropsML
from eo_adapt.data.synthetic import visits
from eo_adapt.data.synthetic.countries import COUNTRIES, SHARED, crop_shares
from eo_adapt.data.synthetic.crops import CROPS
from eo_adapt.data.synthetic.eurocropsml import CLOUDY_RED, CropWorld
from eo_adapt.data.synthetic.landscape import assign_crops, counts, landscape
from eo_adapt.data.synthetic.sky import Knobs, Sky

ROOT = Path(__file__).parents[2]
HCAT = dict(pd.read_csv(ROOT / "data_recipes" / "legends" / "hcat3.csv", dtype=str).values.tolist())


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# layout


def test_files_have_the_publishers_layout(tmp_path: Path) -> None:
    world = CropWorld(countries=("LV", "EE"), parcels_per_country=60)
    world.write(tmp_path)
    paths = sorted((tmp_path / "preprocess").glob("*.npz"))
    assert len(paths) == 120
    with np.load(paths[0], allow_pickle=False) as file:
        assert file.files == ["data", "dates", "center"]
        assert (file["data"].dtype, file["dates"].dtype) == (np.int64, np.dtype("datetime64[D]"))
        assert file["center"].dtype == np.float64
        assert file["center"].shape == (2,)
        assert file["data"].shape == (len(file["dates"]), 13)
        assert (np.diff(file["dates"]) > np.timedelta64(0)).all()
        assert file["data"][:, 3].max() <= CLOUDY_RED * 10_000
    pretrain = json.loads((tmp_path / "split/LV_vs_EE/pretrain/region_split.json").read_text())
    finetune = json.loads((tmp_path / "split/LV_vs_EE/finetune/region_split_all.json").read_text())
    assert {part: len(names) for part, names in pretrain.items()} == {"train": 48, "val": 12}
    assert {part: len(names) for part, names in finetune.items()} == {"train": 36, "val": 12, "test": 12}
    listed = [name for split in (pretrain, finetune) for names in split.values() for name in names]
    assert sorted(listed) == sorted(path.name for path in paths)


def test_round_trip_through_the_reader(tmp_path: Path) -> None:
    world = CropWorld(countries=("PT", "EE"), parcels_per_country=100)
    world.write(tmp_path)
    splits = ["PT_vs_EE/pretrain/region_split.json", "PT_vs_EE/finetune/region_split_all.json"]
    records = list(EuroCropsML(splits=splits, names=HCAT).read(tmp_path))
    land, crops, seen = world.simulate("EE")
    ours = {(record.lon, record.lat): record for record in records}
    for row in range(0, 100, 7):
        record = ours[float(land.lon[row]), float(land.lat[row])]
        mine = seen.parcel == row
        mine &= np.rint(seen.reflectance[:, 3] * 1e4) <= CLOUDY_RED * 1e4
        assert (record.label, record.country) == (crops[row], "EE")
        assert record.region == COUNTRIES["EE"].regions[land.region[row]].nuts
        np.testing.assert_array_equal(record.series["s2"].days, seen.day[mine])
        np.testing.assert_allclose(record.series["s2"].values * 1e-4, seen.reflectance[mine], atol=0.51e-4)
    assert {record.split for record in records} == {"train", "val", "test"}


def test_crops_regions_and_places_are_real() -> None:
    assert {crop.hcat: crop.name for crop in CROPS.values()}.items() <= HCAT.items()
    assert len(SHARED) >= 10
    assert len(COUNTRIES) >= 5
    for code, country in COUNTRIES.items():
        assert all(region.nuts.startswith(code) and len(region.nuts) == 5 for region in country.regions)
    box = {"PT": (-9.6, 36.9, -6.1, 42.2), "FR": (-5.2, 42.3, 8.3, 51.1), "AT": (9.5, 46.3, 17.2, 49.1)}
    box |= {"LV": (20.9, 55.6, 28.3, 58.1), "EE": (21.7, 57.5, 28.3, 59.8)}
    for code, (west, south, east, north) in box.items():
        land, _, _ = CropWorld().simulate(code)
        assert west < land.lon.min()
        assert land.lon.max() < east
        assert south < land.lat.min()
        assert land.lat.max() < north


# reproducibility


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        CropWorld(countries=("FR", "EE"), parcels_per_country=30, seed=seed).write(tmp_path / name)
    a, b, c = (files(tmp_path / name / "preprocess") for name in "abc")
    assert a == b
    assert a != c


def test_a_country_does_not_depend_on_the_others() -> None:
    alone = CropWorld(countries=("EE",), parcels_per_country=50).simulate("EE")[2]
    among = CropWorld(countries=("PT", "EE"), parcels_per_country=50).simulate("EE")[2]
    np.testing.assert_array_equal(alone.reflectance, among.reflectance)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"countries": ("XX",)}, "XX.*allowed"),
        ({"countries": ("EE", "EE")}, "different"),
        ({"phenology": 1.5}, "phenology"),
        ({"cloud_share": 1.0}, "cloud_share"),
        ({"parcels_per_country": 0}, "parcels_per_country"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CropWorld(**settings)


def test_an_existing_data_set_is_not_mixed_with_another(tmp_path: Path) -> None:
    world = CropWorld(countries=("EE",), parcels_per_country=3)
    world.write(tmp_path)
    with pytest.raises(FileExistsError, match="not empty"):
        world.write(tmp_path)


# landscape, dates, priors


@pytest.mark.parametrize("code", sorted(COUNTRIES))
def test_crop_shares_are_met(code: str) -> None:
    shares = crop_shares(COUNTRIES[code], 1.0, 1.0)
    _, crops, _ = CropWorld(parcels_per_country=700).simulate(code)
    found = pd.Series(crops).value_counts(normalize=True)
    assert set(found.index) == set(shares)
    assert sum(shares.values()) == pytest.approx(1)
    assert max(abs(found[name] - share) for name, share in shares.items()) < 1 / 700
    table = COUNTRIES[code].shares
    assert shares["oats"] / shares["peas"] == pytest.approx(table["oats"] / table["peas"])


def test_private_crops_are_private() -> None:
    grown = {code: set(crop_shares(country, 1.0, 1.0)) for code, country in COUNTRIES.items()}
    for code, country in COUNTRIES.items():
        for crop in country.private:
            assert [other for other in grown if crop in grown[other]] == [code]
    assert "spring_rapeseed_rape" in grown["EE"]
    assert "rice" in grown["PT"]
    assert "sunflower" in grown["FR"]
    assert "sunflower" not in grown["EE"]


def test_without_priors_and_private_classes_all_grow_the_same() -> None:
    shares = [crop_shares(country, 0.0, 0.0) for country in COUNTRIES.values()]
    assert set(shares[0]) == set(SHARED)
    for other in shares:
        assert other == pytest.approx(shares[0])


def test_counts_are_the_largest_remainders() -> None:
    assert counts({"a": 0.5, "b": 0.3, "c": 0.2}, 7) == {"a": 4, "b": 2, "c": 1}


def test_parcels_cluster_and_farms_repeat_crops() -> None:
    rng = np.random.default_rng(0)
    land = landscape(rng, COUNTRIES["EE"].regions, 2000)
    crops = assign_crops(rng, land, crop_shares(COUNTRIES["EE"], 1.0, 1.0))
    same_farm = crops[:-1][land.farm[:-1] == land.farm[1:]] == crops[1:][land.farm[:-1] == land.farm[1:]]
    shuffled = rng.permutation(crops)
    assert same_farm.mean() > 1.3 * (shuffled[:-1] == shuffled[1:]).mean()
    km = np.stack([land.lon * np.cos(np.deg2rad(58.6)), land.lat], axis=1) * 111.2
    centre = np.stack([km[land.village == v].mean(axis=0) for v in range(land.village.max() + 1)])
    within = np.linalg.norm(km - centre[land.village], axis=1)
    apart = np.linalg.norm(centre[:, None] - centre[None], axis=-1) + 1e9 * np.eye(len(centre))
    assert np.quantile(within, 0.95) < 4
    assert np.median(apart.min(axis=1)) > 11


def test_villages_keep_apart() -> None:
    """A block of 10 km then holds whole villages or none, give or take its edge."""
    for code in COUNTRIES:
        land, _, _ = CropWorld().simulate(code)
        km = np.stack([land.village_lon * np.cos(np.deg2rad(land.village_lat)), land.village_lat], axis=1) * 111.2
        apart = np.linalg.norm(km[:, None] - km[None], axis=-1) + 1e9 * np.eye(len(km))
        assert apart.min() > 10, code


def test_passes_repeat_every_five_days_and_clouds_meet_their_share() -> None:
    rng = np.random.default_rng(0)
    seen = visits.passes(rng, 500)
    assert set(seen.sum(axis=1)) == {73, 146}
    np.testing.assert_array_equal(seen[:, :-5], seen[:, 5:])
    assert visits.clear_sky(rng, 500, 0.3).mean() == pytest.approx(0.7, abs=0.01)
    assert visits.visits(rng, np.arange(50) // 4, 0.999).any(axis=1).all()


# knobs


def test_without_gaps_every_pass_is_seen() -> None:
    _, _, seen = CropWorld(countries=("EE",), parcels_per_country=100, gaps=0.0).simulate("EE")
    assert set(np.bincount(seen.parcel)) == {73, 146}


def test_a_knob_leaves_the_other_draws_alone() -> None:
    base = CropWorld(countries=("EE",), parcels_per_country=100)
    changes: list[dict[str, Any]] = [{"phenology": 0.0}, {"radiometry": 0.0}]
    for change in changes:
        other = dataclasses.replace(base, **change)
        (land, crops, seen), (land0, crops0, seen0) = base.simulate("EE"), other.simulate("EE")
        np.testing.assert_array_equal(land.lon, land0.lon)
        np.testing.assert_array_equal(crops, crops0)
        np.testing.assert_array_equal(seen.day, seen0.day)
        assert not np.allclose(seen.reflectance, seen0.reflectance)


def test_without_radiometry_all_countries_look_alike() -> None:
    def sky(code: str, strength: float) -> Sky:
        land = landscape(np.random.default_rng(0), COUNTRIES[code].regions, 40)
        return Sky.draw(np.random.default_rng(1), COUNTRIES[code], land, Knobs(1.0, strength, 0.0, 0.5))

    for field in ("gain", "haze", "soil_red", "slope"):
        off = [getattr(sky(code, 0.0), field) for code in COUNTRIES]
        on = [getattr(sky(code, 1.0), field) for code in COUNTRIES]
        assert all(np.allclose(value, off[0]) for value in off[1:])
        assert not all(np.allclose(value, on[0]) for value in on[1:])


def test_without_any_cause_and_noise_a_crop_is_the_same_everywhere() -> None:
    """What remains between countries is the weather of the year (some days) and the farmers' weeds and volunteers."""
    curves = []
    for code in ("PT", "EE"):
        world = CropWorld((code,), 1500, noise=0.0, phenology=0.0, radiometry=0.0, priors=0.0)
        _, crops, seen = world.simulate(code)
        wheat = crops[seen.parcel] == "winter_common_soft_wheat"
        month = seen.day // 31
        curves.append([seen.reflectance[wheat & (month == m), 7].mean() for m in range(11)])
    assert np.abs(np.array(curves[0]) - np.array(curves[1])).max() < 0.03


def test_a_default_world_takes_seconds(tmp_path: Path) -> None:
    """Processor time, not wall time: other work on the machine does not count."""
    start = time.process_time()
    CropWorld().write(tmp_path)
    assert time.process_time() - start < 30
    assert len(list((tmp_path / "preprocess").glob("*.npz"))) == 7500
