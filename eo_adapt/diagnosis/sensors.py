"""What the store says of the sensors that the domains were seen by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .profiles import typical_step
from .radiometry import wasserstein
from .table import ParcelTable

if TYPE_CHECKING:
    from ..data.datamodule import DomainDataModule


def describe(data: DomainDataModule, table: ParcelTable) -> dict[str, Any]:
    """Sensor names of the index, days between dates and pixels a parcel of each sensor, years of one domain."""
    index = data.store.index.iloc[table.rows]
    rows = torch.from_numpy(table.rows)
    return {
        "names": sorted({str(x) for x in index["sensor"]} - {""}) if "sensor" in index else [],
        "years": sorted({int(x) for x in index["year"]} - {0}) if "year" in index else [],
        "step": {name: typical_step(s.days, s.real) for name, s in table.series.items()},
        "pixels": {name: float(data.store.arrays[name].counts[rows].double().mean()) for name in table.series},
        "bands": {name: list(data.bands[name]) for name in table.series},
    }


def attributes(data: DomainDataModule, source: ParcelTable, target: ParcelTable) -> list[float]:
    """Wasserstein distance of each parcel attribute / source standard deviation; empty without attributes."""
    every = data.store.attributes
    if every is None:
        return []
    a, b = (every[torch.from_numpy(t.rows)].double().numpy() for t in (source, target))
    return [wasserstein(a[:, i], b[:, i]) / max(float(np.std(a[:, i])), 1e-12) for i in range(a.shape[1])]
