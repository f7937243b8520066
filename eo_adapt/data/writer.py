"""Writes a store, parcel by parcel, under a temporary name that is renamed when all is well."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
import pandas as pd

from .. import __version__
from .backscatter import FirstLook
from .prepared import StoreError
from .ragged import OPTIONAL
from .records import Record, Sensor, Series
from .store import FORMAT

OnEmpty = Literal["error", "drop"]


class StoreWriter:
    """Streams records into a new store; memory does not grow with the size of the arrays.

    Use as a context manager. On success the folder appears under its name at once; on any error nothing is left
    behind and an existing store at that place is untouched.

    Args:
        path: Folder of the store to be.
        recipe: Name of the recipe that prepares it.
        sensors: Sensor name -> how its numbers are to be read.
        crs: Projected CRS for distances in metres, e.g. ``"EPSG:3035"``; "" = equal-area, centred on the data.
        on_empty: What to do with a parcel without one valid date: ``error`` or ``drop`` (listed in dropped.csv).
        about: Licence, citation and the like, kept in store.json.
    """

    def __init__(
        self,
        path: Path | str,
        recipe: str,
        sensors: Mapping[str, Sensor],
        crs: str = "",
        on_empty: OnEmpty = "error",
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.recipe, self.sensors, self.crs = Path(path).resolve(), recipe, dict(sensors), crs
        self.on_empty, self.about = on_empty, dict(about or {})
        self.rows: list[dict[str, Any]] = []
        self.geometry: list[bytes | None] = []
        self.attributes: list[np.ndarray] = []
        self.keys: set[str] = set()
        self.dropped: list[tuple[str, str]] = []
        self._looks = {name: FirstLook(name, sensor, recipe) for name, sensor in self.sensors.items()}
        self._files: dict[Path, BinaryIO] = {}

    def __enter__(self) -> StoreWriter:
        if self.path.exists() and not (self.path / "store.json").is_file() and not is_empty(self.path):
            raise FileExistsError(
                f"{self.path} exists and is no store; it would be lost. Give the name of a folder that is not there yet"
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=self.path.parent))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for file in self._files.values():
            file.close()
        try:
            if error is None:
                self._finish()
        finally:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def add(self, record: Record) -> None:
        """Append one parcel.

        Raises:
            ValueError: If its id occurred before, its sensors or shapes do not fit, it has no valid date, or radar of
                the first parcels cannot be of its unit. Nothing of it is written then.
        """
        if record.key in self.keys:
            raise ValueError(
                f"parcel id {record.key!r} occurs twice in the {self.recipe} data; ids must be unique, otherwise one "
                "parcel can be in train and test: remove the duplicate or make the id from more columns"
            )
        if set(record.series) != set(self.sensors):
            raise ValueError(
                f"parcel {record.key!r} has sensors {sorted(record.series)}; this store holds {sorted(self.sensors)}"
            )
        parts = {name: _encode(series, self.sensors[name], record.key) for name, series in record.series.items()}
        if not any(part["valid"].any() for part in parts.values()):
            if self.on_empty == "error":
                raise ValueError(
                    f"parcel {record.key!r} has no valid date (all masked or NaN); remove it, or set on_empty: drop in "
                    "the recipe, which leaves such parcels out and lists them in dropped.csv"
                )
            self.keys.add(record.key)
            self.dropped.append((record.key, "no valid date"))
            return
        self._check_alike(record, parts)
        for name, part in parts.items():
            self._looks[name].add(part)
        for name, part in parts.items():
            self._append(name, part)
        self.keys.add(record.key)
        self.geometry.append(record.geometry)
        if record.attributes is not None:
            self.attributes.append(np.asarray(record.attributes, np.float32))
        self.rows.append(_row(record, sum(len(part["days"]) for part in parts.values())))

    def _check_alike(self, record: Record, parts: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Optional arrays and attributes are there for all parcels or for none."""
        found = None if record.attributes is None else np.asarray(record.attributes, np.float32)
        if found is not None and (found.ndim != 1 or not np.isfinite(found).all()):
            raise ValueError(f"parcel {record.key!r}: attributes must be finite numbers (A,); got {found}")
        if not self.rows:
            return
        for sensor, part in parts.items():
            for kind in OPTIONAL:
                if (kind in part) != (self.temporary / sensor / f"{kind}.bin" in self._files):
                    raise ValueError(
                        f"some parcels have {kind} for {sensor!r} and some do not, {record.key!r} is the first that "
                        "differs; give it for all or none"
                    )
        before, now = len(self.attributes[0]) if self.attributes else None, None if found is None else len(found)
        if before != now:
            raise ValueError(
                f"parcel {record.key!r} has {now or 'no'} attributes, those before have {before or 'none'}; give the "
                "same for all or none"
            )

    def _append(self, sensor: str, part: Mapping[str, np.ndarray]) -> None:
        for kind, array in part.items():
            path = self.temporary / sensor / f"{kind}.bin"
            if path not in self._files:
                path.parent.mkdir(exist_ok=True)
                self._files[path] = path.open("wb")
            self._files[path].write(array.tobytes())

    def _finish(self) -> None:
        if not self.rows:
            raise StoreError(f"the {self.recipe} data gave no usable parcel ({len(self.dropped)} without a valid date)")
        for look in self._looks.values():
            look.judge()
        if self.attributes:
            np.save(self.temporary / "attributes.npy", np.stack(self.attributes))
        write_index(self.temporary / "index.parquet", pd.DataFrame(self.rows), self.geometry, self.crs)
        if self.dropped:
            pd.DataFrame(self.dropped, columns=["parcel_id", "reason"]).to_csv(
                self.temporary / "dropped.csv", index=False
            )
        files = sorted(p for p in self.temporary.rglob("*") if p.is_file())
        about = {
            "format": FORMAT,
            "recipe": self.recipe,
            "made_with": f"eo_adapt {__version__}",
            "parcels": len(self.rows),
            "dropped": len(self.dropped),
            "sensors": {name: dataclasses.asdict(sensor) for name, sensor in self.sensors.items()},
            "about": self.about,
            "files": {str(p.relative_to(self.temporary)): p.stat().st_size for p in files},
        }
        (self.temporary / "store.json").write_text(json.dumps(about, indent=1, default=str))
        self.temporary.chmod(0o755)
        replace_folder(self.temporary, self.path)


def is_empty(path: Path) -> bool:
    """Whether a folder is there and holds nothing."""
    return path.is_dir() and not any(path.iterdir())


def replace_folder(new: Path, old: Path) -> None:
    """Put a folder in the place of another; the old one disappears only after the new one is there."""
    if not old.exists() or is_empty(old):
        os.replace(new, old)
        return
    aside = old.with_name(f".{old.name}.old.{os.getpid()}")
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(aside, old)
        raise
    shutil.rmtree(aside)


def _row(record: Record, n_dates: int) -> dict[str, Any]:
    return {
        "parcel_id": record.key,
        "lon": record.lon,
        "lat": record.lat,
        "country": record.country,
        "region": record.region,
        "year": record.year,
        "sensor": record.sensor,
        "label": record.label,
        "hcat": record.hcat,
        "split": record.split,
        "n_dates": n_dates,
    }


def _encode(series: Series, sensor: Sensor, key: str) -> dict[str, np.ndarray]:
    """Arrays of one series as they lie on disk."""
    values = np.asarray(series.values)
    pixel_set = values.ndim == 3
    cube = values if pixel_set else values[None]
    dates = len(series.days)
    if cube.ndim != 3 or cube.shape[1:] != (dates, len(sensor.bands)):
        raise ValueError(
            f"parcel {key!r}: values have shape {values.shape}; with {dates} dates and bands {list(sensor.bands)} they "
            f"must be ({dates}, {len(sensor.bands)}) or (pixels, {dates}, {len(sensor.bands)})"
        )
    there = np.isfinite(cube).all(-1) if cube.dtype.kind == "f" else np.ones(cube.shape[:2], bool)
    if series.valid_pixels is not None:
        there &= _shaped("valid_pixels", series.valid_pixels, there.shape, key).astype(bool)
    if series.valid is not None:
        there &= _shaped("valid", series.valid, (dates,), key).astype(bool)
    valid = np.asarray(there.any(0))
    part: dict[str, np.ndarray] = {"values": _counts(cube, there, sensor, key).reshape(-1, len(sensor.bands))}
    if pixel_set:
        part["pixels"] = there.reshape(-1)
    part["days"] = _whole_days(_shaped("days", series.days, (dates,), key), key)
    part["valid"] = valid
    if series.gdd is not None:
        gdd = _shaped("gdd", series.gdd, (dates,), key).astype(np.float32)
        if not np.isfinite(gdd[valid]).all():
            raise ValueError(f"parcel {key!r} has growing degree days that are NaN or infinite on valid dates")
        part["gdd"] = np.where(np.isfinite(gdd), gdd, np.float32(0))
    part["sizes"] = np.array([dates, cube.shape[0]], np.int32)
    return part


def _shaped(what: str, array: np.ndarray, shape: tuple[int, ...], key: str) -> np.ndarray:
    array = np.asarray(array)
    if array.shape != shape:
        raise ValueError(f"parcel {key!r}: {what} has shape {array.shape}; it must be {shape} to fit the values")
    return array


def _whole_days(days: np.ndarray, key: str) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        whole = days.astype(np.int16)
    if (whole != days).any():
        raise ValueError(
            f"parcel {key!r}: days must be whole numbers from -32768 to 32767, counted from 1 January of the label "
            f"year; got {days[whole != days][:5].tolist()}"
        )
    return whole


def _counts(cube: np.ndarray, there: np.ndarray, sensor: Sensor, key: str) -> np.ndarray:
    """Physical floats -> what the sensor stores; integers are counts already. Missing values become 0."""
    cube = np.where(there[..., None], cube, 0)
    if sensor.dtype == "float32":
        return cube.astype(np.float32)
    counts = np.rint((cube.astype(float) - sensor.offset) / sensor.scale) if cube.dtype.kind == "f" else cube
    counts = np.where(there[..., None], counts, 0)
    if counts.size and (counts.min() < 0 or counts.max() > 65535):
        low, high, least, most = (
            float(count) * sensor.scale + sensor.offset for count in (0, 65535, counts.min(), counts.max())
        )
        raise ValueError(
            f"parcel {key!r} has values in [{least:g}, {most:g}] {sensor.units}; uint16 with scale {sensor.scale:g} "
            f"and offset {sensor.offset:g} holds [{low:g}, {high:g}]: set the sensor's scale and offset, or "
            "dtype: float32"
        )
    return counts.astype(np.uint16)


def write_index(path: Path, frame: pd.DataFrame, geometry: list[bytes | None], crs: str) -> None:
    """GeoParquet index: EPSG:4326 geometry, and x, y in metres for block splits and distances."""
    import geopandas
    import shapely

    points = shapely.points(frame["lon"].to_numpy(float), frame["lat"].to_numpy(float))
    missing = np.array([g is None for g in geometry])
    shapes = points.copy()
    shapes[~missing] = shapely.from_wkb([g for g in geometry if g is not None])
    located = np.isfinite(frame["lon"]) & np.isfinite(frame["lat"])
    shapes[missing & ~located.to_numpy()] = None
    if not crs and located.any():
        lon, lat = frame.loc[located, "lon"].mean(), frame.loc[located, "lat"].mean()
        crs = f"+proj=laea +lon_0={lon:.3f} +lat_0={lat:.3f} +units=m"
    metric = geopandas.GeoSeries(points, crs="EPSG:4326").to_crs(crs or "EPSG:3857")  # nowhere in any CRS
    frame = frame.assign(x=np.where(located, metric.x, np.nan), y=np.where(located, metric.y, np.nan))
    geopandas.GeoDataFrame(frame, geometry=shapes, crs="EPSG:4326").to_parquet(path, index=False)
