"""Made-up aerial images and land cover in the raw layout of FLAIR#1 or #2; see :mod:`eo_adapt.data.readers.flair1`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..readers.flair1 import BANDS, CRS, METADATA, PARTS, PARTS2, patch_scene
from ..scenes.flair_splits import SPLITS
from ..scenes.records import Scene
from .aerial_departments import DEPARTMENTS, Department, grain, light, shares
from .aerial_land import PARCEL, Land, Painter
from .aerial_light import GSD, Camera, counts, elevation, reflectance
from .landscape import counts as whole_numbers

LETTERS = {"meadow": "N", "field": "A", "vineyard": "A", "soil": "N", "forest": "F", "water": "N", "urban": "U"}
FIRST_TEST = 61_713  # number of the first test patch of FLAIR#1
SPACING = 3_000.0  # metres between zones
SECOND = {"rgb40_aerial_train": "rgb40_labels_train", "rgb40_aerial_test": "rgb40_labels_test"}
RELEASES = {"flair1": PARTS, "flair2": PARTS2}
SECOND_METADATA = "rgb40_aerial_metadata.json"
SECOND_CAMERA = Camera((0.85, 1.05, 1.15, 1.0), 0.08)


@dataclass(frozen=True)
class Patch:
    """One patch in memory.

    Attributes:
        number: Of its file names.
        image: (5, H, W) uint8: R, G, B, NIR, elevation.
        mask: (H, W) uint8, FLAIR#1 classes.
        coarse: (3, H/2, W/2) uint8: R, G, B of the second sensor.
        about: Its entry in the metadata.
    """

    number: int
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    coarse: npt.NDArray[np.uint8]
    about: dict[str, Any]


@dataclass(frozen=True)
class AerialWorld:
    """Generator of data like FLAIR#1.

    Attributes:
        departments: Which of :data:`DEPARTMENTS`; D064 and D071 lie in FLAIR#1's test folders.
        zones: Zones a department, some 3 km apart.
        grid: Patches along an edge of a zone; they are neighbours.
        size: Edge of a patch, pixels of 0.2 m (512 in FLAIR#1); even.
        seed: Seed of all draws.
        radiometry: 0..1: own light, haze, camera response, season and soil colour of each department; 0 = all alike.
        priors: 0..1: own shares of land use.
        texture: 0..1: own rows, crowns, roofs, roughness and blur.
        second: Whether to write a second sensor, too: R, G, B at 0.4 m, by another camera, with masks of its own.
        compress: Of the GeoTIFF files: ``deflate`` or ``none``.
        release: Whose folders: ``flair1`` or ``flair2``.
    """

    departments: Sequence[str] = tuple(DEPARTMENTS)
    zones: int = 10
    grid: int = 3
    size: int = 64
    seed: int = 0
    radiometry: float = 1.0
    priors: float = 1.0
    texture: float = 1.0
    second: bool = False
    compress: str = "deflate"
    release: str = "flair1"

    def __post_init__(self) -> None:
        object.__setattr__(self, "departments", tuple(self.departments))
        if unknown := sorted(set(self.departments) - set(DEPARTMENTS)):
            raise ValueError(f"departments {unknown} are not known; there are {list(DEPARTMENTS)}")
        if self.size % 2 or self.size < 16 or min(self.zones, self.grid) < 1:
            raise ValueError(
                f"size is an even number of at least 16 pixels, zones and grid are at least 1; got size={self.size}, "
                f"zones={self.zones}, grid={self.grid}"
            )
        for name in ("radiometry", "priors", "texture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 (departments alike) and 1; got {getattr(self, name)}")
        if self.compress not in ("deflate", "none"):
            raise ValueError(f"compress is deflate or none; got {self.compress!r}")
        if self.release not in RELEASES:
            raise ValueError(f"release is one of {list(RELEASES)}; got {self.release!r}")

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Scene]:
        """Write all files and return what a reader should find: the patches of 0.2 m, by key."""
        known: list[Scene] = []
        metadata: dict[str, Any] = {}
        first = {False: 1, True: FIRST_TEST}
        for name in sorted(self.departments):
            test = SPLITS[self.release].get(name.split("_")[0]) == "test"
            for patch in self.patches(name, first[test]):
                folders = list(RELEASES[self.release].items())[test]
                image, mask = _paths(folders, patch, "IMG")
                _write(root / image, patch.image, patch.about, GSD, self.compress)
                _write(root / mask, patch.mask[None], patch.about, GSD, self.compress)
                if self.second:
                    image2, mask2 = _paths(list(SECOND.items())[test], patch, "RGB")
                    _write(root / image2, patch.coarse, patch.about, 2 * GSD, self.compress)
                    _write(root / mask2, patch.mask[None, 1::2, 1::2], patch.about, 2 * GSD, self.compress)
                metadata[f"IMG_{patch.number:06d}"] = patch.about
                known.append(patch_scene(image, mask, patch.about, GSD, BANDS, self.release))
            first[test] += self.zones * self.grid**2
        (Path(root) / METADATA).write_text(json.dumps(metadata))
        if self.second:
            coarse = {k.replace("IMG", "RGB"): {**v, "camera": "RGB40"} for k, v in metadata.items()}
            (Path(root) / SECOND_METADATA).write_text(json.dumps(coarse))
        return sorted(known, key=lambda scene: scene.key)

    def patches(self, name: str, first: int = 1) -> Iterator[Patch]:
        """The patches of one department, zone by zone; knobs change their own cause only."""
        department = DEPARTMENTS[name]
        streams = np.random.SeedSequence([self.seed, list(DEPARTMENTS).index(name)]).spawn(2)
        plan, *zones = (np.random.default_rng(s) for s in (streams[0], *streams[1].spawn(self.zones)))
        parcels = max(4, round((self.grid * self.size / PARCEL) ** 2))
        wanted = whole_numbers(shares(self.priors, department.shares), parcels * self.zones)
        uses = plan.permutation([use for use, count in wanted.items() for _ in range(count)])
        for zone, rng in enumerate(zones):
            mine = [str(use) for use in uses[zone * parcels : (zone + 1) * parcels]]
            yield from self._zone(rng, name, zone, mine, first + zone * self.grid**2)

    def _zone(self, rng: np.random.Generator, name: str, zone: int, uses: list[str], first: int) -> Iterator[Patch]:
        department = DEPARTMENTS[name]
        own, fine = light(self.radiometry, department.light), grain(self.texture, department.grain)
        paint, noise, place = (np.random.default_rng(s) for s in rng.integers(2**32, size=3))
        land = Painter(paint, uses, self.grid * self.size, fine).paint()
        image, coarse = _images(noise, land, own, fine)
        about = _about(place, name, zone, uses, department)
        side = int(np.ceil(np.sqrt(self.zones)))
        corner = np.array([department.x, department.y]) + SPACING * (np.array(divmod(zone, side)) - (side - 1) / 2)
        corner = np.round((corner + place.uniform(-500, 500, 2)) / GSD) * GSD
        for i in range(self.grid**2):
            row, column = divmod(i, self.grid)
            at = np.s_[..., row * self.size : (row + 1) * self.size, column * self.size : (column + 1) * self.size]
            half = self.size // 2
            small = np.s_[..., row * half : (row + 1) * half, column * half : (column + 1) * half]
            x, y = corner + GSD * self.size * np.array([column + 0.5, -row - 0.5])
            centre = {"patch_centroid_x": round(float(x), 2), "patch_centroid_y": round(float(y), 2)}
            yield Patch(first + i, image[at], land.labels[at], coarse[small], {**about, **centre})


def _images(rng: np.random.Generator, land: Land, light: Any, grain: Any) -> tuple[np.ndarray, np.ndarray]:
    """(5, N, N) of the first sensor and (3, N/2, N/2) of the second."""
    rho = reflectance(land, light)
    image = np.concatenate([counts(rng, rho, light, grain.blur), elevation(rng, land, grain)[None]])
    n = rho.shape[1] // 2
    mean = rho.reshape(4, n, 2, n, 2).mean((2, 4))
    return image, counts(rng, mean, light, grain.blur, SECOND_CAMERA)[:3]


def _about(
    rng: np.random.Generator, name: str, zone: int, uses: Sequence[str], department: Department
) -> dict[str, Any]:
    """What FLAIR's metadata say of a patch, but for its centre."""
    letters = [LETTERS[use] for use in uses]
    ranked = sorted(set(letters), key=lambda letter: (-letters.count(letter), letter))
    return {
        "domain": name,
        "zone": f"Z{zone + 1}_{''.join((ranked * 2)[:2])}",
        "patch_centroid_z": round(department.z + float(rng.normal(0, 10)), 4),
        "date": department.date,
        "time": department.time,
        "camera": department.camera,
    }


def _paths(folders: tuple[str, str], patch: Patch, prefix: str) -> tuple[str, str]:
    """Paths of image and mask below the root."""
    place = f"{patch.about['domain']}/{patch.about['zone']}"
    image = f"{folders[0]}/{place}/img/{prefix}_{patch.number:06d}.tif"
    return image, f"{folders[1]}/{place}/msk/MSK_{patch.number:06d}.tif"


def _write(path: Path, values: np.ndarray, about: dict[str, Any], gsd: float, compress: str) -> None:
    """A GeoTIFF of (C, H, W) around the centre of the patch."""
    import rasterio
    from rasterio.transform import from_origin

    path.parent.mkdir(parents=True, exist_ok=True)
    bands, rows, columns = values.shape
    west = about["patch_centroid_x"] - gsd * columns / 2
    north = about["patch_centroid_y"] + gsd * rows / 2
    with rasterio.open(
        path, "w", driver="GTiff", width=columns, height=rows, count=bands, dtype="uint8", crs=CRS,
        transform=from_origin(west, north, gsd, gsd), compress=compress,
    ) as file:  # fmt: skip
        file.write(values)
