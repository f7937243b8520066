"""Everything that is decided before the first pixel is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import coverage
from .engine import Job, Run
from .errors import BadImageError, FatalError
from .grid import Grid
from .images import Acquisition
from .manifest import Manifest, Unit, unit_id
from .masks import Mask
from .parcels import Parcels
from .sources import Lost
from .tiles import Tile, assign, learn_grids
from .unit import Task, run_coverage, run_pixels, save_shapes

if TYPE_CHECKING:
    from .reader import ParcelExtraction

Place = tuple[str, str]


@dataclass
class Plan:
    """What to do.

    Attributes:
        parcels: Those on at least one tile.
        tiles: With their parcels.
        acquisitions: Place -> its acquisitions.
        lost: (name, why) of images that cannot be used.
    """

    parcels: Parcels
    tiles: list[Tile]
    acquisitions: dict[Place, list[Acquisition]]
    lost: Lost = field(default_factory=list)


def make_plan(parcels: Parcels, found: list[Acquisition], lost: Lost) -> Plan:
    """Learn the tiles' grids and share out the parcels.

    Raises:
        ValueError: If no parcel lies on an image.
    """
    places: dict[Place, list[Acquisition]] = defaultdict(list)
    for one in found:
        places[one.family, one.tile].append(one)
    grids: dict[Place, Mapping[str, Grid]] = {}
    for place, mine in places.items():
        try:
            grids[place] = learn_grids(mine)
        except BadImageError as error:
            lost += [(one.name, str(error)) for one in mine]
    if not grids:
        raise ValueError(f"no image can be used; the last error was: {lost[-1][1]}")
    tiles = assign(parcels.frame, grids)
    there = np.zeros(len(parcels), bool)
    for tile in tiles:
        there[tile.rows] = True
    if not there.any():
        raise ValueError(_outside(parcels, grids))
    if not there.all():
        parcels, number = parcels.keep(there, "outside the images"), there.cumsum() - 1
        tiles = [replace(tile, rows=number[tile.rows]) for tile in tiles]
    return Plan(parcels, tiles, {place: places[place] for place in grids}, lost)


def _outside(parcels: Parcels, grids: Mapping[Place, Mapping[str, Grid]]) -> str:
    from rasterio.warp import transform_bounds

    place, bands = next(iter(grids.items()))
    grid = next(iter(bands.values()))
    images = transform_bounds(grid.crs, "EPSG:4326", *grid.bounds)
    mine = parcels.frame.geometry.to_crs("EPSG:4326").total_bounds
    return (
        f"none of {len(parcels)} parcels lies on an image. Parcels: lon {mine[0]:.3f} to {mine[2]:.3f}, lat "
        f"{mine[1]:.3f} to "
        f"{mine[3]:.3f}; the first of {len(grids)} tiles ({place[1]}): lon {images[0]:.3f} to {images[2]:.3f}, lat "
        f"{images[1]:.3f} to {images[3]:.3f}. Check the CRS that the layer states (parcels_crs= is for layers without)"
    )


def make_tasks(options: ParcelExtraction, plan: Plan, manifest: Manifest, run: Run) -> dict[Place, Task]:
    """Compute matrices and pixel sets that are not there yet.

    Raises:
        FatalError: If one cannot be computed.
    """
    jobs: dict[str, Job] = {}
    asked = {}
    for tile in plan.tiles:
        known = sorted(set(tile.grids.values()), key=lambda grid: (grid.resolution, grid.key))
        shapes = manifest.folder / "shapes" / f"{coverage.key(tile.finest, tile.shapes)}.npz"
        folders = [manifest.folder / "coverage" / coverage.key(grid, tile.shapes) for grid in known]
        for grid, folder in zip(known, folders, strict=True):
            if not folder.is_dir():
                if not shapes.is_file():
                    save_shapes(shapes, tile.shapes)
                jobs[str(folder)] = (run_coverage, (grid, str(shapes), str(folder.parent)))
        asked[tile.place] = (tile, known, folders)
    _all(run, jobs, "coverage weights")
    tasks: dict[Place, Task] = {}
    chosen: dict[str, Job] = {}
    for place, (tile, known, folders) in asked.items():
        pixels = ""
        if options.pixels:
            pixels = f"{manifest.folder}/pixels/{folders[0].name}_{options.pixels}_{options.min_cover:g}.npz"
            if not Path(pixels).is_file():
                chosen[pixels] = (run_pixels, (str(folders[0]), options.min_cover, options.pixels, pixels))
        radar = place[0] == "s1"
        tasks[place] = Task(
            tuple(str(folder) for folder in folders), {band: known.index(grid) for band, grid in tile.grids.items()},
            tuple(known), tuple(s for s in options.statistics if s != "share"), pixels,
            Mask("none") if radar else Mask(options.mask, tuple(options.mask_bad), options.cloud_max),
            options.reproject, radar, options.memory_bytes,
        )  # fmt: skip
    _all(run, chosen, "pixel sets")
    return tasks


def _all(run: Run, jobs: Mapping[str, Job], what: str) -> None:
    for folder, _, error, attempts in run(jobs):
        if error is not None:
            raise FatalError(f"the {what} for {folder} failed {attempts} times: {error}") from error


def make_units(plan: Plan, tasks: Mapping[Place, Task]) -> list[Unit]:
    """Units of all tiles that hold a parcel, by tile and time."""
    units = []
    for tile in plan.tiles:
        for one in plan.acquisitions[tile.place]:
            units.append(Unit(unit_id(one, tasks[tile.place]), one, tile.place))
    return units
