"""Simulated countries as tables, without files: one cause of shift at a time."""

from __future__ import annotations

import numpy as np

from eo_adapt.data.synthetic.eurocropsml import CLOUDY_RED, CropWorld
from eo_adapt.data.synthetic.scene import RED
from eo_adapt.diagnosis.profiles import bin_edges, bin_series
from eo_adapt.diagnosis.scene import Scene
from eo_adapt.diagnosis.table import Binned, ParcelTable, Series, blocks_of, in_season, pooled

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
OFF = {"phenology": 0.0, "radiometry": 0.0, "priors": 0.0, "gaps": 1.0, "gap_contrast": 0.0, "private_class": 0.0}
KNOBS = {  # as configs/shift/embedded_<cause>.yaml
    "phenology": {"phenology": 1.0},
    "radiometry": {"radiometry": 5.0},
    "priors": {"priors": 2.5},
    "gaps": {"gap_contrast": 1.0},
    "private_class": {"private_class": 2.5},
    "none": {},
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
