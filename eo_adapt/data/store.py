"""The one prepared form of every dataset: index.parquet (GeoParquet) + flat memory-mapped arrays.

Why flat arrays: docs/architecture.md has the measurement. The layout of the arrays is in :mod:`.ragged`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..types import Inputs, Observation
from .prepared import Prepared
from .ragged import Ragged
from .records import Sensor
from .scenes.records import Imagery

if TYPE_CHECKING:
    pass

FORMAT = 1
DOMAIN_COLUMNS = ("country", "region", "year", "sensor")


class Store(Prepared):
    """A prepared dataset of parcels; see :class:`.prepared.Prepared`."""

    kind, version = "parcels", FORMAT

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        self.sensors = {
            name: Sensor(**{**spec, "bands": tuple(spec["bands"])}) for name, spec in self.about["sensors"].items()
        }

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.path,)  # a worker process maps the files itself instead of receiving a copy

    @cached_property
    def attributes(self) -> Tensor | None:
        """(N, A) float32 parcel attributes, or None."""
        path = self.path / "attributes.npy"
        return torch.from_numpy(np.load(path)) if path.exists() else None

    @cached_property
    def fingerprint(self) -> str:
        """What these data are, in 16 hex digits: parcels, labels, sensors, sizes, and a sample of the values.

        Results are only compared when their data agree.
        """
        sizes = {name: size for name, size in self.about["files"].items() if name.endswith(".bin")}
        found = hashlib.sha256(json.dumps([self.about["sensors"], sizes], sort_keys=True).encode())
        found.update(pd.util.hash_pandas_object(self.index, index=False).to_numpy().tobytes())
        for ragged in self.arrays.values():
            flat = ragged.values.flatten()
            found.update(flat[:: max(1, len(flat) // 10_000)].numpy().tobytes())
        return found.hexdigest()[:16]

    @cached_property
    def arrays(self) -> dict[str, Ragged]:
        """Sensor name -> arrays, mapped on first use."""
        return {name: Ragged.open(self.path / name, sensor) for name, sensor in self.sensors.items()}

    def gather(
        self,
        rows: Tensor,
        bands: Mapping[str, Sequence[str]],
        pixels: int = 32,
        generator: torch.Generator | None = None,
        arrays: Mapping[str, Ragged] | None = None,
    ) -> Inputs:
        """Inputs of some parcels.

        Args:
            rows: (B,) int64.
            bands: Sensor -> band names wanted, in order.
            pixels: Pixels drawn a parcel, for pixel sets.
            generator: Source of that draw; None = the same evenly spaced pixels every time.
            arrays: Resident arrays to read instead of the mapped files.
        """
        inputs: dict[str, Observation] = {}
        for name, wanted in bands.items():
            ragged = (arrays or self.arrays)[name]
            numbers = band_numbers(self.sensors[name], wanted, name)
            chosen = ragged.draw_pixels(rows, pixels, generator) if ragged.is_pixel_set else None
            inputs[name] = ragged.gather(rows, numbers, chosen)
        if self.attributes is not None:
            inputs["attributes"] = Observation(self.attributes[rows.cpu()].to(rows.device))
        return inputs


def band_numbers(sensor: Sensor | Imagery, wanted: Sequence[str], name: str = "sensor") -> list[int]:
    """Positions of bands asked for by name.

    Raises:
        LookupError: Naming the missing bands and those that exist.
    """
    if missing := [band for band in wanted if band not in sensor.bands]:
        raise LookupError(f"{name} has no band {missing}; it has {list(sensor.bands)}")
    return [sensor.bands.index(band) for band in wanted]
