"""Simulated countries as tables, without files: one cause of shift at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml

from eo_adapt.data.synthetic.eurocropsml import CLOUDY_RED, CropWorld
from eo_adapt.data.synthetic.scene import RED
from eo_adapt.diagnosis.profiles import bin_edges, bin_series
from eo_adapt.diagnosis.scene import Scene
from eo_adapt.diagnosis.table import Binned, ParcelTable, Series, blocks_of, in_season, pooled

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
SHIFTS = Path(__file__).parents[2] / "configs" / "shift"
NAMES = {"private": "private_class"}  # the others are called as their cause is


def knobs(name: str) -> dict[str, float]:
    """The generator's knobs of configs/shift/embedded_<name>.yaml."""
    about: dict[str, float] = yaml.safe_load((SHIFTS / f"embedded_{name}.yaml").read_text())["data"]["generator"]
    return {key: value for key, value in about.items() if key != "countries"}


OFF = knobs("none")
KNOBS = {
    NAMES.get(name, name): knobs(name) for name in ("phenology", "radiometry", "priors", "gaps", "private", "none")
}


def padded(parcel: np.ndarray, day: np.ndarray, values: np.ndarray, parcels: int) -> Series:
    """Observations sorted by parcel -> padded series."""
    counts = np.bincount(parcel, minlength=parcels)
    at = np.arange(len(parcel)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (parcels, int(counts.max()))
    x, days, real = np.zeros((*shape, values.shape[1])), np.zeros(shape, np.int64), np.zeros(shape, bool)
    x[parcel, at], days[parcel, at], real[parcel, at] = values, day, True
    return Series(x, days, real, real)


def tables(parcels: int, seed: int, **knobs: float) -> list[ParcelTable]:
    """FR, AT (sources) and EE (target)."""
    world = CropWorld(parcels_per_country=parcels, seed=seed, **{**OFF, **knobs})
    places, labels, series = [], [], []
    for code in ("FR", "AT", "EE"):
        land, crops, seen = world.simulate(code)
        clear = seen.reflectance[:, RED] <= CLOUDY_RED
        series.append(padded(seen.parcel[clear], seen.day[clear], seen.reflectance[clear], parcels))
        places.append(np.column_stack([land.lon * np.cos(np.deg2rad(land.lat)), land.lat]) * 111_200)
        labels.append(crops)
    blocks, _ = blocks_of(np.concatenate(places), [parcels] * 3, 20_000)
    edges = bin_edges(np.concatenate([s.days[s.valid] for s in series]), 5)
    found = []
    for i, code in enumerate(("FR", "AT", "EE")):
        sensors = {"s2": Binned(BANDS, *bin_series(series[i].values, series[i].days, series[i].valid, edges))}
        role = "target" if code == "EE" else "source"
        season = np.ones(len(edges) - 1, bool)
        whole = ParcelTable(
            code, role, np.arange(parcels), labels[i].astype(str), blocks[i], edges, season, sensors, {"s2": series[i]}
        )
        found.append(whole.take(whole.counts.any(1)))
    return in_season(found)


def scene(parcels: int, seed: int, **knobs: float) -> Scene:
    """FR and AT against EE; of the target's labels, the set of names alone."""
    *sources, target = tables(parcels, seed, **knobs)
    source = pooled(sources, "sources")
    mine, theirs = set(source.labels), set(target.labels)
    return Scene(source, target, frozenset(mine - theirs), bool(theirs - mine), seed)
