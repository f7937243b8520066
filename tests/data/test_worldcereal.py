"""WorldCereal: the reader on made-up and real files, its units and errors, and the shifts of configs/shift."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.datamodule import DomainDataModule
from eo_adapt.data.readers.worldcereal import CLASSES, SENSORS, SERIES, WorldCereal, plausible
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.synthetic.worldcereal import WorldCerealWorld
from eo_adapt.registry import config, instantiate, names

REAL = Path(__file__).parents[3] / "shared/data/worldcereal"
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
SHIFTS = [name for name in names("shift") if name.startswith("worldcereal")]


def change(root: Path, **fields: Any) -> None:
    """Write the file again with other fields; None takes one away."""
    with np.load(root / SERIES) as archive:
        file = {**{name: archive[name] for name in archive.files}, **fields}
    np.savez(root / SERIES, **{name: value for name, value in file.items() if value is not None})


def scaled(root: Path, band: str, factor: float, offset: float = 0.0) -> np.ndarray:
    with np.load(root / SERIES) as archive:
        values, bands = archive["X"].copy(), archive["bands"].tolist()
    values[..., bands.index(band)] = values[..., bands.index(band)] * factor + offset
    return values


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    WorldCerealWorld(parcels=14).write(tmp_path)
    return tmp_path


def test_round_trip(tmp_path: Path) -> None:
    known = WorldCerealWorld(parcels=20, lacking=0.3).write_known(tmp_path)
    found = list(WorldCereal().read(tmp_path))
    for one, truth in zip(found, known, strict=True):
        for name in ("key", "label", "country", "region", "year"):
            assert getattr(one, name) == getattr(truth, name)
        assert (one.lon, one.lat) == pytest.approx((truth.lon, truth.lat))
        for sensor, series in truth.series.items():
            assert one.series[sensor].days.tolist() == series.days.tolist()
            want = np.where(np.isnan(series.values).any(1, keepdims=True), np.nan, series.values)
            np.testing.assert_array_equal(one.series[sensor].values, want)
    assert {one.region for one in found} == {"France-mainland", "Corsica", "Flanders", "EastAfrica"}
    assert {one.country for one in found} == {"FRA", "BEL", "UGA"}
    assert "ignore" not in {one.label for one in found}
    assert "" in {one.label for one in found}


def test_days_are_the_middle_of_the_months(raw: Path) -> None:
    days = next(iter(WorldCereal().read(raw))).series["s2"].days.tolist()
    assert days == [-17, 14, 45, 73, 104, 134, 165, 195, 226, 257, 287, 318]
    change(raw, year=np.full(56, 2024))
    assert next(iter(WorldCereal().read(raw))).series["s2"].days.tolist()[3] == 74, "a leap year"


def test_another_taxonomy_names_other_classes(raw: Path) -> None:
    assert "maize" in {one.label for one in WorldCereal("CROPTYPE24").read(raw)}
    with pytest.raises(ValueError, match=r"no taxonomy 'LANDCOVER11'; it has \['CROPTYPE24', 'LANDCOVER10'\]"):
        list(WorldCereal("LANDCOVER11").read(raw))


def test_a_store_keeps_what_is_missing_of_each_sensor(tmp_path: Path) -> None:
    WorldCerealWorld(parcels=40, lacking=0.3).write(tmp_path / "raw")
    store = Recipe.load("worldcereal").prepare(tmp_path / "raw", tmp_path / "store")
    some = {name: ragged.valid.view(-1, 12).any(1) for name, ragged in store.arrays.items()}
    assert some["s2"].all()
    assert 0.1 < (~some["s1"]).float().mean() < 0.5
    assert [len(sensor.bands) for sensor in store.sensors.values()] == [9, 2, 2]
    assert {name: sensor.units for name, sensor in store.sensors.items()} == {
        "s2": "reflectance",
        "s1": "dB",
        "weather": "K, mm",
    }


def test_a_month_mixed_with_a_fill_value_is_missing(raw: Path) -> None:
    with np.load(raw / SERIES) as archive:
        values = archive["X"].copy()
    values[0, 3, :9] = 0.2
    values[0, 3, 4] = 6.15
    change(raw, X=values)
    first = next(iter(WorldCereal().read(raw)))
    assert np.isnan(first.series["s2"].values[3]).all()
    assert not np.isnan(first.series["s1"].values).all()


@pytest.mark.parametrize(
    ("band", "factor", "offset", "what"),
    [
        ("B08", 10_000, 0, r"B08 lies in \[.*\]; as reflectance it should lie in \[-0.1, 1.5\]: convert it first"),
        ("TMEAN_K", 1, -273.15, r"TMEAN_K lies in .* it should lie in \[200, 340\]"),
        ("VV_dB", 10, 0, r"VV_dB lies in .* as dB it should lie in \[-60, 15\], and below 0 over land"),
    ],
)
def test_other_units_are_refused(raw: Path, band: str, factor: float, offset: float, what: str) -> None:
    change(raw, X=scaled(raw, band, factor, offset))
    with pytest.raises(ValueError, match=what):
        list(WorldCereal().read(raw))


def test_linear_power_is_no_decibels() -> None:
    with pytest.raises(ValueError, match="below 0 over land"):
        plausible(Path("x"), "s1", np.full((3, 12, 2), 0.05, np.float32))
    mixed = np.full((3, 12, 2), -12.0, np.float32)
    mixed[..., 1] = 0.05
    mixed[0, 0, 1] = -1e-5
    with pytest.raises(ValueError, match="x: VH_dB lies in"):
        plausible(Path("x"), "s1", mixed)


def test_damaged_and_foreign_files_are_refused(raw: Path) -> None:
    whole = (raw / SERIES).read_bytes()
    for fields, what in (
        ({"lon": None}, r"has no \['lon'\]; it has"),
        ({"bands": np.array(["B02"] * 13)}, r"has no bands \['B03'"),
        ({"year": np.zeros(3, int)}, r"\['year'\] must have one entry for each of 56 samples"),
        ({"X": np.zeros((56, 11, 13))}, r"X has shape \(56, 11, 13\); .* must be \(56, 12, 13\)"),
        ({"steps": np.array(["Month1"] * 12)}, "step 'Month1' is no month"),
        ({"ewoc_code": np.array(["99"] * 56)}, "has the code '99', which LANDCOVER10"),
    ):
        (raw / SERIES).write_bytes(whole)
        change(raw, **fields)
        with pytest.raises(ValueError, match=what):
            list(WorldCereal().read(raw))
    (raw / SERIES).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        list(WorldCereal().read(raw))
    (raw / SERIES).write_bytes(whole)
    (raw / CLASSES).write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        list(WorldCereal().read(raw))
    (raw / CLASSES).unlink()
    with pytest.raises(FileNotFoundError, match="WorldCereal test resources"):
        list(WorldCereal().read(raw))


def data(shift: str, root: Path, **options: object) -> DomainDataModule:
    cfg = config(f"shift={shift}", f"data.root={root}", *(f"data.{key}={value}" for key, value in options.items()))
    made: DomainDataModule = instantiate(
        cfg.data, shift=instantiate(cfg.shift), seed=0, kind=options.get("kind", "closed"), oracle=False
    )
    made.setup()
    return made


@pytest.mark.parametrize("shift", SHIFTS)
def test_shifts_are_between_places_and_leave_precipitation_out(shift: str, tmp_path: Path) -> None:
    WorldCerealWorld(parcels=150).write(tmp_path)
    made = data(shift, tmp_path)
    assert made.sensors == {"s2": 9, "s1": 2, "weather": 1}
    assert made.bands["weather"] == ("TMEAN",)
    assert "_to_".join(d.domain.name for d in made.parcels) == shift.removeprefix("worldcereal_")
    assert set(made.legend.names) == set(made.classes)
    assert "" not in made.label_set.source_private, "points without a label have no class"


@real_data
def test_real_file() -> None:
    found = list(make(Recipe.load("worldcereal").reader).read(REAL))
    assert len(found) == 1600
    assert Counter(one.region for one in found) == {
        "France-mainland": 500,
        "Corsica": 500,
        "EastAfrica": 500,
        "Flanders": 100,
    }
    with np.load(REAL / SERIES) as archive:
        values, bands, cover = archive["X"], archive["bands"].tolist(), archive["landcover"].tolist()
    assert [one.label or "ignore" for one in found] == cover
    for sensor, names_ in SENSORS.items():
        mine = np.stack([one.series[sensor].values for one in found])
        theirs = values[..., [bands.index(band) for band in names_.values()]]
        odd = (theirs > 1.5).any(-1) & (sensor == "s2")
        same = ~np.isnan(theirs).any(-1) & ~odd
        np.testing.assert_array_equal(mine[same], theirs[same])
        assert np.isnan(mine).any(-1).sum() == (~same).sum()
    spoilt = (values[..., :9] > 1.5).any((1, 2))
    assert {found[i].region for i in np.flatnonzero(spoilt)} == {"Flanders"}
    lacking = {s: sum(np.isnan(one.series[s].values).any(1).all() for one in found) for s in SENSORS}
    assert lacking == {"s2": 3, "s1": 15, "weather": 16}
    assert {one.country for one in found} == {"FRA", "BEL", "UGA", "SSD", "AF"}


@real_data
@pytest.mark.parametrize("shift", SHIFTS)
def test_real_splits_hold_every_class(shift: str) -> None:
    made = data(shift, REAL)
    label = made.store.index["label"].to_numpy(str)  # those of the target's points are sealed
    for d in made.parcels:
        for split, least in (("train", 5), ("val", 1), ("test", 5)):
            counts = Counter(label[d.of(split)[0]].tolist())
            assert min(counts[name] for name in made.legend.names) >= least, (d.domain.name, split, counts)


def test_the_generator_writes_the_genuine_layout(raw: Path) -> None:
    with np.load(raw / SERIES, allow_pickle=False) as archive:
        assert archive["X"].dtype == np.float32
        assert archive["steps"].tolist()[:2] == ["Dec(y-1)", "Jan"]
        assert len(archive["bands"]) == 13
    assert json.loads((raw / CLASSES).read_text())["LANDCOVER10"]["1101060000"] == "temporary_crops"
