"""Writes a scene store: an index of patches that stay where they are. Every file is read once, checked, counted."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ... import __version__
from ..prepared import StoreError
from ..writer import OnEmpty, is_empty, replace_folder
from .geo import footprints
from .labels import Remap
from .measure import ATTRIBUTE, measure
from .raster import TileError
from .records import Classes, Imagery, Scene

SCENE_FORMAT = 1
KIND = "images"
OnCorrupt = Literal["error", "skip"]
AT_ONCE = 64  # patches in flight
THREADS = 4
NAMED = 5  # corrupt tiles that an error names


def write_scenes(
    path: Path,
    recipe: str,
    root: Path,
    scenes: Iterable[Scene],
    sensors: Mapping[str, Imagery],
    classes: Classes,
    on_empty: OnEmpty = "error",
    on_corrupt: OnCorrupt = "error",
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a store under a temporary name and rename it when it is whole; an existing one is replaced then.

    Args:
        path: Folder of the store to be.
        recipe: Name of the recipe that prepares it.
        root: Raw folder; the store reads from it ever after.
        scenes: The patches.
        sensors: Sensor name -> how its numbers are to be read.
        classes: What the ids in masks mean.
        on_empty: What to do with a patch without a pixel: ``error`` or ``drop`` (listed in dropped.csv). A patch whose
            series are all cloud, but for one, stays; store.json counts under ``unseen`` the patches without a valid
            date of each series, and under ``lacking`` those without each optional sensor.
        on_corrupt: What to do with a patch that cannot be read: ``error``, which names the first five, or ``skip``
            (listed in skipped.csv).
        about: Licence, citation and the like, kept in store.json.

    Raises:
        FileExistsError: If something that is no store lies at ``path``.
        TileError: If tiles cannot be read.
        ValueError: If a patch is none of this data set, or empty.
    """
    path = _free(path)
    names = list(dict.fromkeys(classes.names.values()))
    rows, left = _rows(root, scenes, sensors, Remap.to(classes, names), on_empty, on_corrupt)
    if not rows:
        raise StoreError(f"the {recipe} data below {root} gave no usable patch ({left or 'there are none'})")
    lacking = {name: _fill_sizes(rows, name) for name, imagery in sensors.items() if imagery.optional}
    instances, attributes = _fill_instances(rows), _attributes(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _index(temporary / "index.parquet", pd.DataFrame(rows))
        for name, listed in left.items():
            pd.DataFrame(listed, columns=["parcel_id", "reason"]).to_csv(temporary / f"{name}.csv", index=False)
        found = {
            "recipe": recipe,
            "root": str(root.resolve()),
            "parcels": len(rows),
            **{name: len(left.get(name, [])) for name in ("dropped", "skipped")},
            **_unseen(rows, _series(sensors)),
            **({"lacking": lacking} if lacking else {}),
            **instances,
            **attributes,
            **_legible(sensors, classes, names, bool(instances)),
            "about": dict(about or {}),
            "files": _sizes(temporary),
        }
        (temporary / "store.json").write_text(json.dumps(found, indent=1, default=str))
        temporary.chmod(0o755)
        replace_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file below a folder."""
    return {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}


def _free(path: Path) -> Path:
    """The place of a store to be; nothing else may lie there."""
    path = path.resolve()
    if path.exists() and not (path / "store.json").is_file() and not is_empty(path):
        raise FileExistsError(
            f"{path} exists and is no store; it would be lost. Give the name of a folder that is not there yet"
        )
    return path


def _legible(sensors: Mapping[str, Imagery], classes: Classes, names: list[str], instances: bool) -> dict[str, Any]:
    """How pixels and masks are to be read, as json has it; which classes are things matters with instances alone."""
    return {
        "format": SCENE_FORMAT,
        "kind": KIND,
        "made_with": f"eo_adapt {__version__}",
        "sensors": {name: _spelled(imagery) for name, imagery in sensors.items()},
        "names": names,
        "classes": {
            "names": {str(number): name for number, name in classes.names.items()},
            "ignored": sorted(classes.ignored),
            "colours": dict(classes.colours),
            **({"codes": dict(classes.codes)} if classes.codes else {}),
            **({"stuff": sorted(classes.stuff)} if instances and classes.stuff else {}),
        },
    }


def _series(sensors: Mapping[str, Imagery]) -> list[str]:
    return [name for name, imagery in sensors.items() if imagery.series]


def _unseen(rows: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    """How many patches have no valid date of each series."""
    return {"unseen": {name: sum(not any(row[f"{name}.valid"]) for row in rows) for name in names}} if names else {}


def _fill_sizes(rows: list[dict[str, Any]], name: str) -> int:
    """Give patches that lack a sensor the size that it would have, by the patches that do; returns how many they are.

    Raises:
        StoreError: If all lack it.
    """
    has = next((row for row in rows if row[f"{name}.path"]), None)
    if has is None:
        raise StoreError(f"no patch has the sensor {name!r}: leave it out of the reader's options")
    without = [row for row in rows if not row[f"{name}.path"]]
    ratio = [n / has[side] for n, side in zip(has[f"{name}.size"], ("height", "width"), strict=True)]
    for row in without:
        row[f"{name}.size"] = [max(1, round(row["height"] * ratio[0])), max(1, round(row["width"] * ratio[1]))]
    return len(without)


def _fill_instances(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Where some patches have instances, columns of the others; returns how many instances there are, for store.json.

    A store without any has no such columns, and stays what it was.
    """
    if not any("instances.n" in row for row in rows):
        return {}
    none: dict[str, Any] = {f"instances.{key}": "" for key in ("path", "column", "layer")}
    none |= {"instances.window": None, "instances.bands": [], "instances.n": 0}
    for row in rows:
        row |= {key: value for key, value in none.items() if key not in row}
    return {"instances": sum(row["instances.n"] for row in rows)}


def _attributes(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Names of the attributes, for store.json; nothing where there are none.

    Raises:
        StoreError: If a patch has others.
    """
    names = [[key for key in row if key.startswith(ATTRIBUTE)] for row in rows]
    if odd := next((i for i, found in enumerate(names) if found != names[0]), None):
        raise StoreError(
            f"patch {rows[odd]['parcel_id']!r} has the attributes {names[odd]}, {rows[0]['parcel_id']!r} has "
            f"{names[0]}; a reader must give all patches the same"
        )
    return {"attributes": [name.removeprefix(ATTRIBUTE) for name in names[0]]} if names[0] else {}


def _spelled(imagery: Imagery) -> dict[str, Any]:
    """As json has it; what an imagery does not use is left out, so that older stores stay what they were."""
    spec = dataclasses.asdict(imagery)
    unused = {key for key in ("hidden", "minus", "optional") if not spec[key]}
    return {key: value for key, value in spec.items() if key not in unused or (key == "hidden" and imagery.series)}


def _rows(
    root: Path,
    scenes: Iterable[Scene],
    sensors: Mapping[str, Imagery],
    remap: Remap,
    on_empty: OnEmpty,
    on_corrupt: OnCorrupt,
) -> tuple[list[dict[str, Any]], dict[str, list[tuple[str, str]]]]:
    """Rows of the index, and what was left out by which file."""
    rows, keys = [], set()
    left: dict[str, list[tuple[str, str]]] = {}
    for scene, found in _measured(root, scenes, sensors, remap):
        if scene.key in keys:
            raise ValueError(f"patch id {scene.key!r} occurs twice; ids must be unique, else one is in train and test")
        keys.add(scene.key)
        if isinstance(found, TileError):
            left.setdefault("skipped", []).append((scene.key, str(found)))
            if on_corrupt == "error" and len(left["skipped"]) == NAMED:
                break
        elif not found["seen"]:
            what = "nothing but nodata" + (" or cloud" if _series(sensors) else "")
            if on_empty == "error":
                raise ValueError(
                    f"patch {scene.key!r} holds {what} ({found[f'{next(iter(sensors))}.path']}); remove it, or set "
                    "on_empty: drop in the recipe, which leaves such patches out and lists them in dropped.csv"
                )
            left.setdefault("dropped", []).append((scene.key, what))
        else:
            rows.append(found)
    if on_corrupt == "error" and (bad := left.get("skipped")):
        listed = "\n".join(f"  {key}: {reason}" for key, reason in bad)
        more = " (there may be more)" if len(bad) == NAMED else ""
        raise TileError(
            f"{len(bad)} tiles cannot be read{more}:\n{listed}\nget them again, or set data.on_corrupt=skip "
            "(on_corrupt: skip in a recipe), which leaves them out and lists them in skipped.csv"
        )
    return rows, left


def _measured(
    root: Path, scenes: Iterable[Scene], sensors: Mapping[str, Imagery], remap: Remap
) -> Iterator[tuple[Scene, dict[str, Any] | TileError]]:
    """Patches in their order, several at once: decoding leaves the interpreter to others."""

    def one(scene: Scene) -> dict[str, Any] | TileError:
        try:
            return measure(root, scene, sensors, remap)
        except TileError as error:
            return error

    stream = iter(scenes)
    with ThreadPoolExecutor(THREADS) as pool:
        while some := list(islice(stream, AT_ONCE)):
            yield from zip(some, pool.map(one, some), strict=True)


def _index(path: Path, frame: pd.DataFrame) -> None:
    """GeoParquet: footprints in EPSG:4326, and x, y in metres of each patch's own CRS."""
    import geopandas
    import shapely

    x, y, gsd, lon, lat = (frame[name].to_numpy(float) for name in ("x", "y", "gsd", "lon", "lat"))
    outlines = footprints(x, y, gsd, frame[["height", "width"]].to_numpy(float), frame["crs"].to_numpy(str))
    points = shapely.points(lon, lat)
    points[~(np.isfinite(lon) & np.isfinite(lat))] = None
    shapes = [point if wkb is None else shapely.from_wkb(wkb) for wkb, point in zip(outlines, points, strict=True)]
    geopandas.GeoDataFrame(frame, geometry=shapes, crs="EPSG:4326").to_parquet(path, index=False)
