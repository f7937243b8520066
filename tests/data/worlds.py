"""Tiny stores through the StoreWriter: a few countries, a few crops, ragged dates and pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eo_adapt.data.records import Record, Sensor, Series
from eo_adapt.data.store import Store
from eo_adapt.data.writer import StoreWriter
from eo_adapt.types import Batch, Domain, Shift

S2 = Sensor(("B02", "B04", "B08"))
S1 = Sensor(("VV", "VH"), units="dB", scale=1.0, dtype="float32")
CENTRES = {"EE": (25.8, 58.6), "LV": (25.0, 56.9), "PT": (-8.0, 39.5)}
CROPS = {"EE": ("wheat", "barley", "oats"), "LV": ("wheat", "barley", "rye"), "PT": ("wheat", "oats", "rye")}
HCAT = {"wheat": "3301010100", "barley": "3301010400", "oats": "3301010500", "rye": "3301010300", "flax": "3301061000"}


def series(
    rng: np.random.Generator, dates: int, pixels: int = 0, sensor: Sensor = S2, gdd: bool = False, **changes: Any
) -> Series:
    """Random counts (or dB) on sorted days, some of them before 1 January; ``pixels`` 0 is a parcel series."""
    shape = (*([pixels] if pixels else []), dates, len(sensor.bands))
    counts = rng.integers(0, 65536, shape).astype(np.uint16)
    values = counts if sensor.dtype == "uint16" else rng.normal(-12, 3, shape).astype(np.float32)
    days = np.sort(rng.choice(np.arange(-90, 360), dates, replace=False))
    heat = np.sort(rng.uniform(0, 3000, dates)).astype(np.float32) if gdd else None
    return replace(Series(values, days, gdd=heat), **changes)


def record(key: str, series: Series | Mapping[str, Series], **changes: Any) -> Record:
    """A wheat parcel in Estonia, unless ``changes`` say otherwise."""
    named = {"s2": series} if isinstance(series, Series) else series
    usual: dict[str, Any] = {"label": "wheat", "lon": 25.8, "lat": 58.6, "hcat": HCAT["wheat"], "year": 2021}
    return Record(key=key, series=named, **{**usual, "country": "EE", **changes})


def write(path: Path, records: Iterable[Record], sensors: Mapping[str, Sensor] | None = None, **options: Any) -> Store:
    """A store of these records."""
    with StoreWriter(path, "toy", sensors or {"s2": S2}, **options) as writer:
        for one in records:
            writer.add(one)
    return Store(path)


def parcels(
    country: str,
    n: int = 120,
    year: int = 2021,
    seed: int = 0,
    pixels: int = 0,
    crops: Sequence[str] = (),
    attributes: int = 0,
) -> list[Record]:
    """``n`` parcels over some 60 x 60 km of a country; its crops come in turn."""
    rng = np.random.default_rng([seed, year, *country.encode()])
    lon, lat = CENTRES[country]
    names = crops or CROPS[country]
    made = []
    for i in range(n):
        label = names[i % len(names)]
        one = series(rng, int(rng.integers(2, 7)), int(rng.integers(1, pixels + 1)) if pixels else 0)
        some = rng.random(len(one.days)) > 0.2
        some[0] = True
        made.append(
            record(
                f"{country}{year}-{i}",
                replace(one, valid=some),
                label=label,
                hcat=HCAT.get(label, ""),
                lon=lon + rng.uniform(-0.5, 0.5),
                lat=lat + rng.uniform(-0.27, 0.27),
                country=country,
                year=year,
                attributes=rng.normal(size=attributes) if attributes else None,
            )
        )
    return made


def permuted(records: Sequence[Record], country: str, seed: int = 0) -> list[Record]:
    """The same parcels, with the labels of one country dealt anew."""
    at = [i for i, r in enumerate(records) if r.country == country]
    other = np.random.default_rng(seed).permutation(at)
    changed = {
        i: replace(records[i], label=records[j].label, hcat=records[j].hcat) for i, j in zip(at, other, strict=True)
    }
    return [changed.get(i, r) for i, r in enumerate(records)]


def domain(country: str, year: int = 2021) -> Domain:
    """All parcels of a country and year."""
    return Domain(f"{country}-{year}", "toy", {"country": country, "year": year})


def shift(sources: str = "EE", targets: str = "LV") -> Shift:
    """Space-separated countries, 2021."""
    return Shift(tuple(map(domain, sources.split())), tuple(map(domain, targets.split())))


def tensors(batch: Batch) -> dict[str, torch.Tensor | None]:
    """All that a batch holds, by name."""
    found: dict[str, torch.Tensor | None] = {"labels": batch.labels, "lonlat": batch.lonlat, "rows": batch.rows}
    for name, o in batch.inputs.items():
        found |= {f"{name}.{part}": getattr(o, part) for part in ("values", "days", "valid", "valid_pixels", "gdd")}
    return found


def same(a: Batch, b: Batch) -> bool:
    """Whether two batches are bit-identical."""
    left, right = tensors(a), tensors(b)
    return left.keys() == right.keys() and all(
        (x is None and y is None) or (x is not None and y is not None and x.dtype == y.dtype and torch.equal(x, y))
        for x, y in ((left[name], right[name]) for name in left)
    )
