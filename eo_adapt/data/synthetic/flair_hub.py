"""Made-up data in the raw layout of FLAIR-HUB; see :mod:`eo_adapt.data.readers.flair_hub`.

Not written: crop labels (LPIS), dates of aerial and SPOT images, and archives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..readers.flair_hub import CRS, HISTORICAL, IMAGES, LABELS, MODALITIES, SPLIT_FILE
from ..readers.flair_hub_series import SERIES
from ..scenes.flair_classes import COSIA, FLAIR
from ..scenes.flair_splits import SPLITS
from .aerial_departments import DEPARTMENTS
from .aerial_light import ELEVATION_STEP, GSD
from .aerial_world import AerialWorld, Patch
from .flair_hub_seasons import CONIFEROUS, reclassed, sky
from .flair_hub_series import PIXEL, Sentinels, write_dates, write_tif

SPOT_STEP, PAN_STEP = 8, 2  # pixels of 0.2 m in one of SPOT and of the historical images
SPOT_COUNTS = 12.0  # of SPOT a count of the aerial image
DARK = 0.93  # factor of the aerial counts of conifers
FOLDS = tuple(f"split_{i}" for i in range(1, 6))


@dataclass(frozen=True)
class HubWorld:
    """Generator of data like FLAIR-HUB: departments of :class:`AerialWorld`, and a year of Sentinel-1 and 2 on them.

    With series, woods are deciduous or coniferous and bare parcels stay so or are plowed; aerial images hardly tell.
    Patches of 512 pixels of 0.2 m are large; a coarser ``gsd`` stretches the same landscape.

    Attributes:
        departments: Which of :data:`DEPARTMENTS`.
        zones: Regions of interest a department.
        grid: Patches along an edge of one.
        size: Edge of a patch, aerial pixels (512 in FLAIR-HUB); a multiple of 8.
        seed: Seed of all draws.
        gsd: Metres an aerial pixel (0.2 in FLAIR-HUB). With series, a patch is at least 20 m wide: two of their pixels.
        modalities: Which to write, of those that the reader knows.
        lacking: Modality -> departments without it.
        revisit: Days between dates of Sentinel-2; those of an orbit of Sentinel-1 are a fifth further apart.
        radiometry: 0..1: own light, haze, camera, soil, gain of Sentinel-2 and radar angles of each department.
        priors: 0..1: own shares of land use.
        texture: 0..1: own rows, crowns, roofs, roughness and blur.
        clouds: 0..1: own cloudiness; the departments of the test are the cloudiest.
    """

    departments: Sequence[str] = tuple(DEPARTMENTS)
    zones: int = 6
    grid: int = 2
    size: int = 64
    seed: int = 0
    gsd: float = GSD
    modalities: Sequence[str] = tuple(IMAGES)
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    revisit: int = 15
    radiometry: float = 1.0
    priors: float = 1.0
    texture: float = 1.0
    clouds: float = 1.0

    def __post_init__(self) -> None:
        if self.size % SPOT_STEP:
            raise ValueError(f"size is a multiple of {SPOT_STEP} pixels, for so many are one of SPOT; got {self.size}")
        if odd := sorted((set(self.modalities) | set(self.lacking)) - set(MODALITIES)):
            raise ValueError(f"modalities are {list(MODALITIES)}; got {odd}")
        if odd := sorted({name for names in self.lacking.values() for name in names} - set(DEPARTMENTS)):
            raise ValueError(f"lacking maps modalities to departments, of {list(DEPARTMENTS)}; got {odd}")
        if self.seasons and self.size * self.gsd < 2 * PIXEL:
            raise ValueError(
                f"a patch of {self.size} pixels of {self.gsd:g} m is too small for series, whose pixels are "
                f"{PIXEL:g} m: set a larger size or gsd"
            )
        if not 1 <= self.revisit <= 100 or not 0 <= self.clouds <= 1:
            raise ValueError(f"revisit is 1 to 100 days, clouds 0 to 1; got {self.revisit} and {self.clouds}")

    @property
    def seasons(self) -> bool:
        """Whether any series is written."""
        return bool(set(self.modalities) & set(SERIES))

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> dict[str, Patch]:
        """Write all files and return the patches by their ids."""
        root, causes = Path(root), (self.radiometry, self.priors, self.texture)
        world = AerialWorld(self.departments, self.zones, self.grid, self.size, self.seed, *causes)
        known: dict[str, Patch] = {}
        dates: dict[str, dict[str, tuple[str, ...]]] = {name: {} for name in self.modalities if name in SERIES}
        for name in world.departments:
            wanted = [m for m in self.modalities if name not in self.lacking.get(m, ())]
            seasons = Sentinels(sky(name, self.clouds, self.radiometry), self.revisit, int(name[-4:]))
            stream = np.random.default_rng([self.seed, list(DEPARTMENTS).index(name), 2])
            for zone in _zones(world.patches(name), self.grid**2):
                zone = self._stretched(zone)
                zone = self._in_season(stream, zone) if self.seasons else zone
                cloudy = seasons.cloudy(stream)
                for patch in zone:
                    domain, roi, cell = self._named(name, patch)
                    key = f"{domain}_{roi}_{cell}"
                    known[key] = patch
                    _write_patch(root, domain, roi, cell, patch, self.gsd, wanted)
                    for modality in (m for m in wanted if m in SERIES):
                        place = (root, domain, roi, cell)
                        dates[modality][key] = seasons.write(stream, place, modality, patch, self.gsd, cloudy)
        _write_splits(root / SPLIT_FILE, known)
        for modality, listed in dates.items():
            write_dates(root / SERIES[modality][1], listed, known)
        return known

    def _named(self, name: str, patch: Patch) -> tuple[str, str, str]:
        """Domain, region of interest and cell, as file names have them."""
        row, column = divmod((patch.number - 1) % self.grid**2, self.grid)
        number, letters = str(patch.about["zone"])[1:].split("_")
        return name.replace("_", "-"), f"{letters}-S1-{number}", f"{row + 1}-{column + 1}"

    def _stretched(self, zone: Sequence[Patch]) -> list[Patch]:
        """The patches as far apart as their pixels are large."""
        if self.gsd == GSD:
            return list(zone)
        x, y = (zone[0].about[f"patch_centroid_{axis}"] for axis in "xy")
        side = self.size * self.gsd
        found = []
        for i, patch in enumerate(zone):
            row, column = divmod(i, self.grid)
            centre = {"patch_centroid_x": x + side * column, "patch_centroid_y": y - side * row}
            found.append(replace(patch, about={**patch.about, **centre}))
        return found

    def _in_season(self, rng: np.random.Generator, zone: Sequence[Patch]) -> list[Patch]:
        """The patches with the classes that only seasons tell apart; conifers are a little darker from the air."""
        n = self.size
        rows = [[patch.mask for patch in zone[i : i + self.grid]] for i in range(0, len(zone), self.grid)]
        labels = reclassed(rng, np.block(rows))
        found = []
        for i, patch in enumerate(zone):
            row, column = divmod(i, self.grid)
            mask = labels[row * n : (row + 1) * n, column * n : (column + 1) * n]
            image = patch.image.copy()
            image[:4] = np.where(mask == CONIFEROUS, np.rint(DARK * image[:4]), image[:4])
            found.append(replace(patch, image=image, mask=mask))
        return found


def _zones(patches: Iterator[Patch], each: int) -> Iterator[list[Patch]]:
    """Patches zone by zone."""
    while zone := list(islice(patches, each)):
        yield zone


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


def _write_patch(root: Path, domain: str, roi: str, cell: str, patch: Patch, gsd: float, wanted: Sequence[str]) -> None:
    """The images of one patch, and its labels."""
    spot = np.rint(SPOT_COUNTS * coarser(patch.image[:4], SPOT_STEP)).astype(np.uint16)
    grey = np.rint(coarser(patch.image[:3].mean(0, keepdims=True), PAN_STEP)).astype(np.uint8)
    past = f"{domain.rsplit('-', 1)[0]}-195X"
    for modality, values, step in (
        ("AERIAL_RGBI", patch.image[:4], 1),
        ("DEM_ELEV", elevations(patch), 1),
        ("SPOT_RGBI", spot, SPOT_STEP),
        (HISTORICAL, grey, PAN_STEP),
        (LABELS, cosia(patch.mask)[None], 1),
    ):
        if modality in wanted or modality == LABELS:
            folder = f"{past if modality == HISTORICAL else domain}_{modality}"
            write_tif(root / folder / roi / f"{folder}_{roi}_{cell}.tif", values, patch, gsd * step)


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
