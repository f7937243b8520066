"""Tiny GeoTIFF worlds: zones of neighbouring patches with masks whose classes the pixels tell."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from pyproj import Transformer
from rasterio.transform import from_origin

from eo_adapt.data.parts import Split
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.data.scenes.records import Classes, Imagery, Raster, Scene
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.types import Domain, Shift

SPLIT = Split(block_size=0.0, buffer=100.0)
X, Y = 6e5, 6.6e6
CRS, GSD, SIZE = "EPSG:2154", 0.5, 16
NAMES = {1: "water", 2: "forest", 3: "roof", 4: "pool", 5: "forest"}
CLASSES = Classes(NAMES, frozenset({0}), {"water": "#0000ff", "forest": "#00ff00"})
AERIAL = {"aerial": Imagery(("red", "green", "elevation"), nodata=255.0)}
TO_DEGREES = Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)


def write_tiff(
    path: Path, values: np.ndarray, x: float = 6e5, y: float = 6.6e6, gsd: float = GSD, crs: str = CRS, **more: Any
) -> None:
    """(C, H, W) or (H, W) with its centre at x, y."""
    values = values if values.ndim == 3 else values[None]
    count, height, width = values.shape
    place = from_origin(x - gsd * width / 2, y + gsd * height / 2, gsd, gsd)
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"dtype": values.dtype, "count": count, "height": height, "width": width, "driver": "GTiff"}
    with (
        warnings.catch_warnings(),
        rasterio.open(path, "w", **{**about, **({"crs": crs, "transform": place} if crs else {}), **more}) as file,
    ):
        file.write(values)


def scene(key: str, x: float, y: float, zone: str, region: str, **more: Any) -> Scene:
    lon, lat = TO_DEGREES.transform(x, y)
    images = {"aerial": Raster(f"{key}.tif")}
    usual = Scene(key, images, Raster(f"{key}_m.tif"), lon, lat, x, y, CRS, GSD, zone, "FR", region, 2020)
    return replace(usual, **more)


@dataclass(frozen=True)
class Tiles:
    """A reader of scenes that are known beforehand."""

    scenes: Sequence[Scene]
    sensors: Mapping[str, Imagery] = field(default_factory=lambda: AERIAL)
    classes: Classes = CLASSES

    def read(self, root: Path) -> Iterator[Scene]:
        yield from self.scenes


def draw(rng: np.random.Generator, shape: tuple[int, int] = (SIZE, SIZE), ids: Sequence[int] = (1, 2, 3)) -> np.ndarray:
    """A mask of four blocks."""
    mask = np.zeros(shape, np.uint8)
    rows, columns = shape[0] // 2, shape[1] // 2
    for r in (slice(None, rows), slice(rows, None)):
        for c in (slice(None, columns), slice(columns, None)):
            mask[r, c] = rng.choice(ids)
    return mask


def paint(mask: np.ndarray, rng: np.random.Generator, light: float = 1.0) -> np.ndarray:
    """(3, H, W) counts that tell the class; the third band is elevation."""
    base = np.array([[90, 90, 5], [20, 40, 2], [40, 100, 60], [200, 90, 30], [60, 180, 2], [40, 100, 60]], float)
    noisy = base[mask].transpose(2, 0, 1) + rng.normal(0, 4, (3, *mask.shape))
    noisy[:2] *= light
    return np.clip(noisy, 0, 254).astype(np.uint8)


def world(
    root: Path, regions: Sequence[str] = ("A", "B"), zones: int = 8, patches: int = 4, ids: Sequence[int] = (1, 2, 3)
) -> list[Scene]:
    """Patches of some regions 100 km apart, zones 2 km apart, patches side by side."""
    made = []
    for r, region in enumerate(regions):
        rng = np.random.default_rng([r, 7])
        for zone in range(zones):
            for patch in range(patches):
                key = f"{region}{zone}_{patch}"
                x = 5e5 + 1e5 * r + 2000.0 * (zone % 4) + GSD * SIZE * (patch % 2)
                y = 6.6e6 + 2000.0 * (zone // 4) + GSD * SIZE * (patch // 2)
                mask = draw(rng, ids=ids)
                write_tiff(root / f"{key}_m.tif", mask, x, y)
                write_tiff(root / f"{key}.tif", paint(mask, rng, 1.0 - 0.3 * r), x, y)
                made.append(scene(key, x, y, f"z{zone}", region, split=("train", "val", "test")[min(zone % 4, 2)]))
    return made


def store_of(path: Path, root: Path, scenes: Sequence[Scene], **more: Any) -> SceneStore:
    """A store of these patches."""
    reader = Tiles(scenes, **{k: more.pop(k) for k in ("sensors", "classes") if k in more})
    write_scenes(path, "toy", root, reader.read(root), reader.sensors, reader.classes, **more)
    return SceneStore(path)


def shift(sources: str = "A", targets: str = "B") -> Shift:
    """Space-separated regions."""
    both = (tuple(Domain(r, "toy", {"region": r}) for r in names.split()) for names in (sources, targets))
    return Shift(*both)


def raster(path: Path) -> np.ndarray:
    """All bands of a file."""
    with rasterio.open(path) as file:
        return file.read()


def module(prepared: SceneStore, sources: str = "A", targets: str = "B", **changes: Any) -> SceneDataModule:
    usual: dict[str, Any] = {"seed": 0, "kind": "closed", "oracle": False, "recipe": "toy", "store": str(prepared.path)}
    data = SceneDataModule(shift(sources, targets), **{**usual, "split": SPLIT, "batch_size": 6, **changes})
    data.setup()
    return data


def one(root: Path, image: np.ndarray, mask: np.ndarray | None = None, **more: object) -> Scene:
    """A patch with these pixels."""
    write_tiff(root / "p.tif", image, X, Y)
    if mask is not None:
        write_tiff(root / "p_m.tif", mask, X, Y)
    return scene("p", X, Y, "z", "A", **({} if mask is not None else {"mask": None}), **more)
