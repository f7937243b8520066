"""The embedded shift France and Austria to Estonia: hard, learnable, and no trivial feature gives it away.

Splits are by village (weather, haze and orbit are a village's) or the project's own blocks; probes are random forests
and logistic regression.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from crop_tables import Table, dates, domain_score, forest, logistic, table
from pyproj import Transformer
from sklearn.metrics import f1_score

from eo_adapt.data.splits import split_blocks
from eo_adapt.data.synthetic.countries import SHARED
from eo_adapt.data.synthetic.eurocropsml import CropWorld

SOURCES, TARGET = ("FR", "AT"), "EE"


@pytest.fixture(scope="module")
def tables() -> dict[str, Table]:
    world = CropWorld(parcels_per_country=1000)
    return {code: table(world, code) for code in (*SOURCES, TARGET)}


@pytest.fixture(scope="module")
def grids(tables: dict[str, Table]) -> dict[str, npt.NDArray[np.float64]]:
    return {code: one.grid() for code, one in tables.items()}


def class_score(one: Table, x: np.ndarray, seen: np.ndarray | None = None) -> float:
    """Macro-F1 of the shared crops on held-out villages of one country."""
    keep = one.known if seen is None else one.known & seen
    probe = forest().fit(x[keep & ~one.test], one.crops[keep & ~one.test])
    guess = probe.predict(x[keep & one.test])
    return float(f1_score(one.crops[keep & one.test], guess, labels=SHARED, average="macro", zero_division=0))


def test_neither_the_number_nor_the_list_of_dates_tells_country_or_crop(tables: dict[str, Table]) -> None:
    target = tables[TARGET]
    for code in SOURCES:
        source = tables[code]
        a, b = dates(source), dates(target)
        assert domain_score(source, target, a.sum(1, keepdims=True), b.sum(1, keepdims=True)) < 0.62
        assert domain_score(source, target, a, b) < 0.62
    for one in tables.values():
        assert class_score(one, dates(one).sum(1, keepdims=True)) < 0.2
        assert class_score(one, dates(one)) < 0.2


@pytest.mark.parametrize("block_size", [10_000.0, 20_000.0])
def test_the_list_of_dates_stays_silent_under_the_splits_of_the_project(block_size: float) -> None:
    """Block edges cut villages; parcels on both sides must not share a list of dates. Five lotteries, full world."""
    world, to_metres = CropWorld(), Transformer.from_crs(4326, 3035, always_xy=True)
    raw = {code: world.simulate(code) for code in (*SOURCES, TARGET)}
    scores: dict[str, list[float]] = {code: [] for code in SOURCES}
    for seed in range(5):
        parts = {}
        for code, (land, crops, seen) in raw.items():
            x, y = to_metres.transform(land.lon, land.lat)
            ratios = {"train": 0.6, "val": 0.15, "test": 0.25}
            split = split_blocks(x, y, block_size=block_size, buffer=1000.0, ratios=ratios, seed=seed)
            used = np.isin(split, ("train", "test"))
            one = Table(crops, split == "test", seen.parcel, seen.day, seen.reflectance)
            parts[code] = (one, dates(one), used)
        target, b, b_used = parts[TARGET]
        for code in SOURCES:
            source, a, a_used = parts[code]
            scores[code].append(domain_score(source, target, a, b, np.concatenate([a_used, b_used])))
    assert max(np.mean(values) for values in scores.values()) < 0.58, scores


@pytest.mark.parametrize("day", [15, 75, 105, 165, 225, 285])
def test_no_single_date_tells_the_country_well(tables: dict[str, Table], day: int) -> None:
    target = tables[TARGET]
    for code in SOURCES:
        (a_seen, a), (b_seen, b) = tables[code].near(day), target.near(day)
        assert domain_score(tables[code], target, a, b, np.concatenate([a_seen, b_seen])) < 0.80


def test_no_single_date_tells_the_crop(tables: dict[str, Table], grids: dict[str, np.ndarray]) -> None:
    for code in ("FR", TARGET):
        one = tables[code]
        full = class_score(one, grids[code])
        for day in (105, 135, 165, 195, 225):
            seen, values = one.near(day)
            assert class_score(one, values, seen) < full - 0.20


def test_the_shift_is_hard_learnable_and_partly_recoverable(
    tables: dict[str, Table], grids: dict[str, np.ndarray]
) -> None:
    target = tables[TARGET]
    test = target.test & target.known

    def score(x: np.ndarray, y: np.ndarray, seen: np.ndarray) -> float:
        guess = logistic().fit(x, y).predict(seen)  # type: ignore[attr-defined]
        return float(f1_score(target.crops[test], guess, labels=SHARED, average="macro", zero_division=0))

    train = [~tables[code].test for code in SOURCES]
    y = np.concatenate([tables[code].crops[keep] for code, keep in zip(SOURCES, train, strict=True)])
    x = np.concatenate([grids[code][keep] for code, keep in zip(SOURCES, train, strict=True)])
    z = {code: (grid - grid.mean(0)) / grid.std(0) for code, grid in grids.items()}
    zx = np.concatenate([z[code][keep] for code, keep in zip(SOURCES, train, strict=True)])
    source_only = score(x, y, grids[TARGET][test])
    oracle = score(grids[TARGET][~target.test], target.crops[~target.test], grids[TARGET][test])
    moved = score(x, y, target.grid(10)[test])
    standardised = score(zx, y, z[TARGET][test])
    assert oracle > 0.78
    assert source_only < oracle - 0.20
    assert moved > source_only + 0.10
    assert standardised > source_only + 0.02


def test_without_any_cause_nothing_is_lost() -> None:
    world = CropWorld(parcels_per_country=600, phenology=0.0, radiometry=0.0, priors=0.0, private_class=0.0)
    source, target = table(world, "FR"), table(world, TARGET)
    a, b = source.grid(), target.grid()
    seen = logistic().fit(a, source.crops).predict(b[target.test])  # type: ignore[attr-defined]
    own = logistic().fit(b[~target.test], target.crops[~target.test]).predict(b[target.test])  # type: ignore[attr-defined]
    truth = target.crops[target.test]
    assert f1_score(truth, seen, average="macro") > f1_score(truth, own, average="macro") - 0.05
