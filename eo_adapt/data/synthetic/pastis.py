"""Made-up data in the raw layout of PASTIS-R; see :mod:`eo_adapt.data.readers.pastis`.

Parcels grow by the calendar of their tile, clouds are in the images and in no mask, as in PASTIS; radar has speckle, an
angle of its own on each orbit, and no clouds. Some patches have two acquisitions on one day. Not written:
``HEATMAP_*.npy`` and ``ZONES_*.npy`` of the instances.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..readers.pastis import CRS, GSD, INSTANCES, METADATA
from .pastis_land import Fields, Knobs, Land, grown, optical, radar, state, tile_land
from .pastis_tiles import TILES, between

FIRST, LAST = -120, 305  # September 2018 to October 2019, days since 1 January 2019
SPACING = 6000.0  # metres between patches
CLOUDIEST = 0.85  # scenes with more clouds are not in the archive
FOLDS = 5


@dataclass(frozen=True)
class Known:
    """What was written of one patch.

    Attributes:
        number: ID_PATCH.
        tile: MGRS tile.
        fold: 1 to 5.
        x: Centre, metres of EPSG:2154.
        y: See ``x``.
        days: Satellite -> (T,) days since 1 January 2019.
        images: Satellite -> (T, C, S, S).
        target: (3, S, S).
    """

    number: int
    tile: str
    fold: int
    x: float
    y: float
    days: dict[str, np.ndarray] = field(default_factory=dict)
    images: dict[str, np.ndarray] = field(default_factory=dict)
    target: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class PastisWorld:
    """Generator of data like PASTIS-R.

    Attributes:
        tiles: Which of :data:`.pastis_tiles.TILES`.
        patches: Patches a tile.
        size: Pixels of 10 m along the edge of a patch (128 in PASTIS).
        revisit: Days between passes of Sentinel-2 (5 in PASTIS); cloudy ones are left out.
        radar: Whether to write Sentinel-1, too, every ``revisit + 1`` days.
        seed: Seed of all draws.
        phenology: 0..1: own climate, and so calendar, of each tile; 0 = all alike.
        radiometry: 0..1: own calibration, soils and radar angles.
        priors: 0..1: own shares of crops.
        clouds: 0..1: own cloudiness.
    """

    tiles: Sequence[str] = tuple(TILES)
    patches: int = 24
    size: int = 32
    revisit: int = 10
    radar: bool = True
    seed: int = 0
    phenology: float = 1.0
    radiometry: float = 1.0
    priors: float = 1.0
    clouds: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tiles", tuple(self.tiles))
        if unknown := sorted(set(self.tiles) - set(TILES)):
            raise ValueError(f"tiles {unknown} are not known; there are {list(TILES)}")
        if self.patches < 1 or self.size < 8 or not 1 <= self.revisit <= 100:
            raise ValueError(
                f"patches is at least 1, size at least 8 pixels, revisit 1 to 100 days; got patches={self.patches}, "
                f"size={self.size}, revisit={self.revisit}"
            )
        for name in ("phenology", "radiometry", "priors", "clouds"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 (tiles alike) and 1; got {getattr(self, name)}")

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Known]:
        """Write all files and return what a reader should find, by id."""
        root = Path(root)
        satellites = ("S2", "S1A", "S1D") if self.radar else ("S2",)
        for name in (*(f"DATA_{s}" for s in satellites), "ANNOTATIONS", INSTANCES):
            (root / name).mkdir(parents=True, exist_ok=True)
        known = sorted((p for tile in self.tiles for p in self._tile(root, tile)), key=lambda patch: patch.number)
        features = [_feature(patch, self.size) for patch in known]
        crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{CRS.replace(':', '::')}"}}
        (root / METADATA).write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
        for name in satellites:
            _write_norm(root / f"NORM_{name}_patch.json", name, known)
        return known

    def _tile(self, root: Path, tile: str) -> list[Known]:
        knobs = Knobs(self.phenology, self.radiometry, self.priors, self.clouds)
        streams = np.random.SeedSequence([self.seed, list(TILES).index(tile)]).spawn(5)
        paint, farm, dates, looks, place = (np.random.default_rng(s) for s in streams)
        land = tile_land(paint, tile, self.patches, self.size, knobs)
        fields = grown(farm, tile, land, knobs)
        orbit = int(dates.integers(self.revisit))
        side = int(np.ceil(np.sqrt(self.patches)))
        made = []
        for patch in range(self.patches):
            at = SPACING * (np.array(divmod(patch, side)) - (side - 1) / 2) + place.uniform(-400, 400, 2)
            x, y = np.round(np.array([TILES[tile].x, TILES[tile].y]) + at, -1)
            number = 10000 * TILES[tile].digit + patch
            one = Known(number, tile, patch % FOLDS + 1, float(x), float(y))
            self._series(one, land, fields, patch, orbit, (dates, looks), knobs)
            instance = np.where(land.target[patch] > 0, land.maps[patch] - land.maps[patch].min() + 1, 0)
            target = np.stack([land.target[patch], instance, instance > 0]).astype(np.uint8)
            np.save(root / f"ANNOTATIONS/TARGET_{number}.npy", target)
            np.save(root / f"ANNOTATIONS/ParcelIDs_{number}.npy", instance.astype(np.int32))
            np.save(root / f"{INSTANCES}/INSTANCES_{number}.npy", instance.astype(np.int32))
            for name, values in one.images.items():
                np.save(root / f"DATA_{name}/{name}_{number}.npy", values)
            made.append(Known(number, tile, one.fold, one.x, one.y, one.days, one.images, target))
        return made

    def _series(
        self,
        one: Known,
        land: Land,
        fields: Fields,
        patch: int,
        orbit: int,
        rng: tuple[np.random.Generator, np.random.Generator],
        knobs: Knobs,
    ) -> None:
        """Fill in dates and images of one patch."""
        dates, looks = rng
        days = np.arange(FIRST + orbit, LAST, self.revisit)
        if patch % 4 == 0:  # where two granules overlap, one day is there twice
            days = np.sort(np.append(days, days[len(days) // 2]))
        mean = float(between(self.clouds, "clouds", one.tile))
        cloudy = dates.beta(0.8 * mean + 0.05, 0.8 * (1 - mean) + 0.05, len(days))
        kept = cloudy <= CLOUDIEST
        kept[np.argmin(cloudy)] = True
        days, cloudy = days[kept], cloudy[kept]
        one.days["S2"] = days
        one.images["S2"] = optical(
            looks, land, patch, state(looks, one.tile, land, fields, patch, days, knobs), np.round(cloudy, 2)
        )
        angles = between(self.radiometry, "angles", one.tile)
        for i, name in enumerate(("S1A", "S1D") if self.radar else ()):
            when = np.arange(FIRST + (orbit + 3 * i + patch) % 6, LAST, self.revisit + 1)
            now = state(looks, one.tile, land, fields, patch, when, knobs)
            one.days[name], one.images[name] = when, radar(looks, land, patch, now, float(angles[i]))


def _feature(patch: Known, size: int) -> dict[str, Any]:
    """A patch in the metadata."""
    half = GSD * size / 2
    west, south, east, north = patch.x - half, patch.y - half, patch.x + half, patch.y + half
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    about: dict[str, Any] = {
        "ID_PATCH": patch.number,
        "Fold": patch.fold,
        "TILE": patch.tile.lower(),
        "N_Parcel": int(len(np.unique(patch.target[1])) - 1),
        "Parcel_Cover": round(float((patch.target[0] > 0).mean()), 4),
    }
    new_year = datetime.date(2019, 1, 1)
    for name, days in patch.days.items():
        stamps = [int((new_year + datetime.timedelta(int(day))).strftime("%Y%m%d")) for day in days]
        about[f"dates-{name}"] = {str(i): stamp for i, stamp in enumerate(stamps)}
    return {"type": "Feature", "properties": about, "geometry": {"type": "MultiPolygon", "coordinates": [[ring]]}}


def _write_norm(path: Path, name: str, known: Sequence[Known]) -> None:
    """Mean and standard deviation of each band, fold by fold."""
    found = {}
    for fold in range(1, FOLDS + 1):
        some = [p.images[name].astype(np.float64) for p in known if p.fold == fold]
        if some:
            values = np.concatenate(some).swapaxes(0, 1).reshape(some[0].shape[1], -1)
            found[f"Fold_{fold}"] = {"mean": values.mean(1).tolist(), "std": values.std(1).tolist()}
    path.write_text(json.dumps(found))
