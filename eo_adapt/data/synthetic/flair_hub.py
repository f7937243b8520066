"""Made-up data in the raw layout of FLAIR-HUB; see :mod:`eo_adapt.data.readers.flair_hub`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..readers.flair_hub import CRS, LABELS, SPLIT_FILE
from ..scenes.flair_classes import COSIA, FLAIR
from ..scenes.flair_splits import SPLITS
from .aerial_departments import DEPARTMENTS
from .aerial_light import ELEVATION_STEP, GSD
from .aerial_world import AerialWorld, Patch

SPOT_STEP, PAN_STEP = 8, 2  # pixels of 0.2 m in one of SPOT and of the historical images
SPOT_COUNTS = 12.0  # of SPOT a count of the aerial image
FOLDS = tuple(f"split_{i}" for i in range(1, 6))


@dataclass(frozen=True)
class HubWorld:
    """Generator of data like FLAIR-HUB: the departments of :class:`AerialWorld` with all single-date modalities.

    Attributes:
        departments: Which of :data:`DEPARTMENTS`.
        zones: Regions of interest a department.
        grid: Patches along an edge of one.
        size: Edge of a patch, pixels of 0.2 m (512 in FLAIR-HUB); a multiple of 8.
        seed: Seed of all draws.
    """

    departments: Sequence[str] = tuple(DEPARTMENTS)
    zones: int = 6
    grid: int = 2
    size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size % SPOT_STEP:
            raise ValueError(f"size is a multiple of {SPOT_STEP} pixels, for a pixel of SPOT is 1.6 m; got {self.size}")

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> dict[str, Patch]:
        """Write all files and return the patches by their ids."""
        world = AerialWorld(self.departments, self.zones, self.grid, self.size, self.seed)
        known = {}
        for name in world.departments:
            for patch in world.patches(name):
                row, column = divmod((patch.number - 1) % self.grid**2, self.grid)
                number, letters = str(patch.about["zone"])[1:].split("_")
                roi = f"{letters}-S1-{number}"
                domain = name.replace("_", "-")
                known[f"{domain}_{roi}_{row + 1}-{column + 1}"] = patch
                _write_patch(Path(root), domain, roi, f"{row + 1}-{column + 1}", patch)
        _write_splits(Path(root) / SPLIT_FILE, known)
        return known


def cosia(mask: np.ndarray) -> npt.NDArray[np.uint8]:
    """FLAIR#1's numbers -> COSIA's, by name."""
    numbers = {name: number for number, name in COSIA.items()}
    table = np.zeros(max(FLAIR) + 1, np.uint8)
    for number, name in FLAIR.items():
        table[number] = numbers[name]
    return np.asarray(table[mask])


def elevations(patch: Patch) -> npt.NDArray[np.float32]:
    """(2, H, W) metres: surface and terrain."""
    height = patch.image[4].astype(np.float32) * ELEVATION_STEP
    terrain = np.full_like(height, patch.about["patch_centroid_z"])
    return np.stack([terrain + height, terrain])


def coarser(image: np.ndarray, step: int) -> npt.NDArray[np.float64]:
    """(C, H, W) -> (C, H / step, W / step), means."""
    bands, height, width = image.shape
    return np.asarray(image.reshape(bands, height // step, step, width // step, step).mean((2, 4)))


def _write_patch(root: Path, domain: str, roi: str, cell: str, patch: Patch) -> None:
    spot = np.rint(SPOT_COUNTS * coarser(patch.image[:4], SPOT_STEP)).astype(np.uint16)
    grey = np.rint(coarser(patch.image[:3].mean(0, keepdims=True), PAN_STEP)).astype(np.uint8)
    past = f"{domain.rsplit('-', 1)[0]}-195X"
    for folder, values, step in (
        (f"{domain}_AERIAL_RGBI", patch.image[:4], 1),
        (f"{domain}_DEM_ELEV", elevations(patch), 1),
        (f"{domain}_SPOT_RGBI", spot, SPOT_STEP),
        (f"{past}_AERIAL-RLT_PAN", grey, PAN_STEP),
        (f"{domain}_{LABELS}", cosia(patch.mask)[None], 1),
    ):
        _write(root / folder / roi / f"{folder}_{roi}_{cell}.tif", values, patch, GSD * step)


def _write(path: Path, values: np.ndarray, patch: Patch, gsd: float) -> None:
    """A GeoTIFF of (C, H, W) around the centre of the patch."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = values.shape
    west = patch.about["patch_centroid_x"] - gsd * columns / 2
    north = patch.about["patch_centroid_y"] + gsd * rows / 2
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=bands, dtype=values.dtype, crs=CRS,
        transform=from_origin(west, north, gsd, gsd), compress="deflate",
    ) as file:  # fmt: skip
        file.write(values)


def _write_splits(path: Path, known: dict[str, Patch]) -> None:
    """The GeoPackage: fold 1 as published, the others rotated by department."""
    import geopandas
    from shapely.geometry import Point

    path.parent.mkdir(parents=True, exist_ok=True)
    names = {"train": "train", "val": "valid", "test": "test"}
    fold = [names[SPLITS["flair_hub"].get(key.split("-")[0], "train")] for key in known]
    departments = sorted({key.split("-")[0] for key in known})
    columns = {"patch_id": list(known), FOLDS[0]: fold}
    for i, column in enumerate(FOLDS[1:]):
        turn = [(departments.index(key.split("-")[0]) + i) % 3 for key in known]
        columns[column] = [tuple(names.values())[t] for t in turn]
    points = [Point(p.about["patch_centroid_x"], p.about["patch_centroid_y"]) for p in known.values()]
    geopandas.GeoDataFrame(columns, geometry=points, crs=CRS).to_file(path, driver="GPKG")
