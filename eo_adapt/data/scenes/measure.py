"""One patch, read once when a store is written: checked, its bands summed up, the pixels of its classes counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .geo import transformer
from .instances import read_instances
from .labels import UNKNOWN, Remap, other_footprint, read_labels, same_grid
from .measure_series import NO_SERIES, Measured, measure_series
from .points import measured
from .raster import Grid, grid_of, read_image
from .records import Imagery, Points, Raster, Scene, Series, Vectors
from .units import misfit

ATTRIBUTE = "attribute."  # columns of numbers of a patch that are no pixels
NUMBERS = ("n", "mean", "m2")  # of each sensor: pixels, mean and sum of squared deviations of each band


def measure(root: Path, scene: Scene, sensors: Mapping[str, Imagery], remap: Remap) -> dict[str, Any]:
    """The patch's row of the index.

    Args:
        root: Raw folder.
        scene: The patch.
        sensors: Sensor name -> how its numbers are to be read.
        remap: Ids of masks -> classes of the data set.

    Returns:
        Columns of the index; ``seen`` is the share of pixels of the first sensor that hold anything, or, where that is
        a series, 1 if a valid date of any sensor shows anything, else 0.

    Raises:
        TileError: If a file is missing, cut short or damaged.
        ValueError: If the patch does not fit what the reader says of the data set; names file and patch.
    """
    first = next(iter(sensors))
    _check_sensors(scene, sensors, first)
    if scene.crs:
        transformer(scene.crs)
    row: dict[str, Any] = {}
    for name, imagery in sensors.items():
        if name not in scene.images:
            row |= {f"{name}.{key}": value for key, value in _lacking(imagery).items()}
            continue
        image = _of_kind(scene, name, imagery)
        if isinstance(image, Points):
            if name == first:
                raise ValueError(f"patch {scene.key!r}: the first sensor is a raster, {name!r} holds points")
            size = row["height"], row["width"]
            row |= {f"{name}.{key}": value for key, value in measured(root, scene.key, image, imagery, size).items()}
            continue
        found, grid, seen = _measured(root, scene, name, image, imagery)
        row |= {f"{name}.{key}": value for key, value in found.items()}
        if name == first:
            # Clouds hide no label: a series says nothing of where labels hold.
            known = np.ones_like(seen) if imagery.series else seen
            row |= {"height": grid.height, "width": grid.width, "seen": float(seen.mean())}
            row |= _labels(root, scene, Raster(found["path"], found["window"]), grid, known, remap)
            row |= _instances(root, scene, Raster(found["path"], found["window"]), grid)
            ground = grid
        elif problem := other_footprint(grid, ground):
            raise ValueError(f"patch {scene.key!r}: the image of {name} {root / found['path']} {problem}")
        row[f"{name}.size"] = [grid.height, grid.width]
    if sensors[first].series:
        row["seen"] = float(any(row[f"{name}.n"] for name in sensors))
    return {**_about(scene), **row}


def _check_sensors(scene: Scene, sensors: Mapping[str, Imagery], first: str) -> None:
    needed = {name for name, imagery in sensors.items() if name == first or not imagery.optional}
    if not needed <= set(scene.images) <= set(sensors):
        raise ValueError(
            f"patch {scene.key!r} has sensors {sorted(scene.images)}; the data set has {sorted(sensors)}, of which a "
            f"patch may lack {sorted(set(sensors) - needed)}"
        )


def _lacking(imagery: Imagery) -> dict[str, Any]:
    """Columns of a sensor that the patch lacks, but for its size, which only the other patches tell."""
    zeros = [0.0] * len(imagery.bands)
    sums = {"n": 0, "mean": zeros, "m2": zeros}
    if imagery.kind == "points":
        return {"path": "", "rows": [0, 0], "size": None, **sums}
    return {**_where(None), **(NO_SERIES if imagery.series else {}), "size": None, **sums}


def _of_kind(scene: Scene, name: str, imagery: Imagery) -> Raster | Series | Points:
    """The record of one sensor; refuses one of another kind than declared."""
    image = scene.images[name]
    if not isinstance(image, {"raster": Raster, "series": Series, "points": Points}[imagery.kind]):
        raise ValueError(
            f"patch {scene.key!r}: {name} is declared as {imagery.kind!r}, its record is a {type(image).__name__}: "
            "correct Imagery.kind or the record"
        )
    return image


def _measured(root: Path, scene: Scene, name: str, image: Raster | Series, imagery: Imagery) -> Measured:
    """Columns of one sensor, its grid, and which of its pixels hold anything."""
    if isinstance(image, Series):
        return measure_series(root, scene, name, image, imagery)
    grid = _checked(root, scene, name, image, imagery)
    counts, seen = read_image(root, image, imagery, range(len(imagery.bands)))
    sums, values = _moments(counts, seen, imagery)
    if problem := misfit(values, imagery.units, imagery.bands):
        raise ValueError(f"patch {scene.key!r}: {name} {root / image.path}: {problem}")
    return Measured({**_where(image), **sums}, grid, seen)


def _about(scene: Scene) -> dict[str, Any]:
    names = ("country", "region", "year", "sensor", "zone", "split", "date", "lon", "lat", "x", "y", "crs", "gsd")
    attributes = {f"{ATTRIBUTE}{name}": float(number) for name, number in scene.attributes.items()}
    if odd := [name for name, number in scene.attributes.items() if not np.isfinite(number)]:
        raise ValueError(
            f"patch {scene.key!r}: its attributes {odd} are no finite numbers; leave them out of the reader's"
        )
    return {"parcel_id": scene.key, **{name: getattr(scene, name) for name in names}, **attributes}


def _where(raster: Raster | Vectors | None) -> dict[str, Any]:
    if isinstance(raster, Vectors):
        return {"path": raster.path, "window": None, "bands": [], "column": raster.column, "layer": raster.layer}
    raster = raster or Raster("")
    return {
        "path": raster.path,
        "window": None if raster.window is None else list(raster.window),
        "bands": list(raster.bands),
    }


def _checked(root: Path, scene: Scene, name: str, raster: Raster, imagery: Imagery) -> Grid:
    grid, path = grid_of(root, raster), root / raster.path
    wanted = raster.bands or tuple(range(1, len(imagery.bands) + 1))
    if len(wanted) != len(imagery.bands):
        raise ValueError(
            f"patch {scene.key!r}: {name} has bands {list(imagery.bands)}, its record names {len(wanted)} band numbers"
        )
    pairs = zip(imagery.bands, wanted, imagery.minus or wanted, strict=True)
    if missing := [band for band, *numbers in pairs if max(numbers) > grid.bands]:
        raise ValueError(
            f"{path} has {grid.bands} bands and lacks {missing} of {list(imagery.bands)}; correct the reader's bands, "
            "or leave the file out"
        )
    if not raster.bands and grid.bands > len(imagery.bands):
        raise ValueError(
            f"{path} has {grid.bands} bands, the reader names {list(imagery.bands)}: nobody knows which they are; give "
            "band numbers (Raster.bands)"
        )
    _check_names(path, grid, imagery.bands, wanted)
    if grid.dtype != imagery.dtype:
        raise ValueError(
            f"{path} holds {grid.dtype}, {name} is declared as {imagery.dtype}: the numbers would mean something else. "
            "Correct the reader's dtype and scale, or convert the file"
        )
    return grid


def _check_names(path: Path, grid: Grid, bands: Sequence[str], wanted: Sequence[int]) -> None:
    """Refuse a file that calls one of its bands by the name of another; most files call them nothing."""
    said = [grid.names[number - 1] for number in wanted]
    for band, number, name in zip(bands, wanted, said, strict=True):
        others = {other.lower() for other in bands} - {band.lower()}
        if name.lower() in others:
            raise ValueError(
                f"{path} calls band {number} {name!r}, the reader calls it {band!r} (file: {said}, reader: "
                f"{list(bands)}): correct the order of the reader's bands"
            )


def _moments(counts: np.ndarray, seen: np.ndarray, imagery: Imagery) -> tuple[dict[str, Any], np.ndarray]:
    """Number of pixels, mean and sum of squared deviations of each band in physical units; values (C, n) float64."""
    values = counts[:, seen].astype(np.float64) * imagery.scale + imagery.offset
    n = values.shape[1]
    mean = values.mean(1) if n else np.zeros(len(values))
    return {"n": n, "mean": mean.tolist(), "m2": np.square(values - mean[:, None]).sum(1).tolist()}, values


def _labels(root: Path, scene: Scene, image: Raster, grid: Grid, seen: np.ndarray, remap: Remap) -> dict[str, Any]:
    """Where the mask lies, and pixels of each class; nothing is counted where the image is empty."""
    where = {f"mask.{key}": value for key, value in {"column": "", "layer": "", **_where(scene.mask)}.items()}
    counts = np.zeros(len(remap.numbers), np.int64)
    if scene.mask is None:
        return {**where, "counts": counts.tolist()}
    if isinstance(scene.mask, Raster) and (problem := same_grid(root, scene.mask, grid)):
        raise ValueError(f"patch {scene.key!r}: the mask {root / scene.mask.path} {problem}")
    labels = read_labels(root, scene.mask, image, remap)
    known = labels[seen & (labels != UNKNOWN)]
    return {**where, "counts": np.bincount(known, minlength=len(counts)).tolist()}


def _instances(root: Path, scene: Scene, image: Raster, grid: Grid) -> dict[str, Any]:
    """Where the numbers of instances lie, and how many there are; nothing where they are not known."""
    if scene.instances is None:
        return {}
    if isinstance(scene.instances, Raster) and (problem := same_grid(root, scene.instances, grid)):
        raise ValueError(f"patch {scene.key!r}: the instances {root / scene.instances.path} {problem}")
    numbers = np.unique(read_instances(root, scene.instances, image))
    place = {"column": "", "layer": "", **_where(scene.instances)}
    where = {f"instances.{key}": value for key, value in place.items()}
    return {**where, "instances.n": int((numbers > 0).sum())}
