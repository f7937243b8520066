"""Scenes of made-up classes, and networks that say what they see: maps of them are known beforehand."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from rasterio.transform import from_origin
from torch import Tensor

from eo_adapt.mapping.answer import Network
from eo_adapt.mapping.mapper import Loads, Mapper
from eo_adapt.types import Inputs

CLASSES = 5
UTM = "EPSG:32631"


def echo(device: torch.device, sensor: str = "img", band: int = 0) -> Network:
    """A network that answers with the class that a band's value says, whatever is around."""

    def said(inputs: Inputs) -> Tensor:
        values = inputs[sensor].values[:, band].round().long().clamp(0, CLASSES - 1)
        return 50.0 * torch.nn.functional.one_hot(values, CLASSES).permute(0, 3, 1, 2).float()

    return said


def blurring(device: torch.device, sensor: str = "img") -> Network:
    """A network that looks at neighbours, so that windows disagree where they meet."""
    kernel = torch.randn(CLASSES, 1, 9, 9, generator=torch.Generator().manual_seed(0)) / 9

    def said(inputs: Inputs) -> Tensor:
        return torch.nn.functional.conv2d(inputs[sensor].values[:, :1] / 10, kernel, padding=4)

    return said


def dying(device: torch.device, flag: str, after: int = 0) -> Network:
    """The same, but its process is killed once, at its first look or later."""
    network, looks = blurring(device), 0

    def said(inputs: Inputs) -> Tensor:
        nonlocal looks
        looks += 1
        if not Path(flag).exists() and looks > after:
            Path(flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return network(inputs)

    return said


def spec(bands: Sequence[str] = ("class",), **more: Any) -> dict[str, Any]:
    """An imagery as checkpoints spell it."""
    known = {"units": "digital number", "scale": 1.0, "offset": 0.0, "nodata": None, "dtype": "uint8"}
    return {"bands": list(bands), **known, "kind": "raster", "hidden": None, "minus": [], "optional": False, **more}


def mapper(loads: Loads = echo, sensors: dict[str, dict[str, Any]] | None = None, gsd: float = 10.0) -> Mapper:
    """A checkpoint of these sensors."""
    sensors = sensors or {"img": spec()}
    names = [f"class {i}" for i in range(CLASSES)]
    card = {
        "bands": {name: list(imagery["bands"]) for name, imagery in sensors.items()},
        "imagery": sensors,
        "statistics": {n: [[0.0] * len(s["bands"]), [1.0] * len(s["bands"])] for n, s in sensors.items()},
        "gsd": dict.fromkeys(sensors, gsd),
        "legend": {"names": names, "codes": names},
        "maps": True,
    }
    return Mapper(loads, card, "here", "0" * 64)


def write(path: Path, values: np.ndarray, names: Sequence[str] = ("class",), **more: Any) -> Path:
    """A GeoTIFF of (C, H, W) at 10 m in UTM zone 31."""
    profile = {"crs": UTM, "transform": from_origin(600_000, 5_600_000, 10, 10), "nodata": None, **more}
    count, height, width = values.shape
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=count, dtype=values.dtype, **profile
    ) as file:
        file.write(values)
        for number, name in enumerate(names, 1):
            file.set_band_description(number, name)
    return path


def classes(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(1, H, W) uint8 random classes."""
    return np.random.default_rng(seed).integers(0, CLASSES, (1, height, width)).astype(np.uint8)


def read(path: Path | str) -> np.ndarray:
    """All bands of a raster."""
    with rasterio.open(path) as file:
        return file.read()


DYING = partial(dying, after=3)
