"""An index of patches whose pixels stay where they are: store.json, index.parquet, and windows of the raw files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..prepared import Prepared, read_about
from .instances import read_instances
from .labels import Remap, read_labels
from .measure import ATTRIBUTE
from .points import read_points
from .raster import TileError, read_image
from .records import Classes, Hidden, Imagery, Points, Raster, Series, Vectors, Window
from .series import days_of, read_series
from .writer import KIND, SCENE_FORMAT

SAMPLED = 16  # patches whose pixels enter the fingerprint
PLACES = (".path", ".window", ".bands")
LISTS = (".paths", ".dates", ".key", ".masks", ".mask_key", ".clear", ".valid")  # of series


class SceneStore(Prepared):
    """A prepared data set of images with masks, opened for reading.

    ``<store>/index.parquet`` (GeoParquet) has one row a patch: parcel_id country region year sensor zone split date lon
    lat x y crs gsd height width seen, ``<sensor>.path|window|bands|size`` (where its pixels lie; of points
    ``<sensor>.path|rows|size``), ``<sensor>.n|mean|m2`` (number of pixels, mean and sum of squared deviations of each
    band in physical units), of series also ``<sensor>.paths|dates|key|masks|mask_key|clear|valid``
    (:mod:`.measure_series`), ``mask.path|window|bands|column|layer``, where some patch has them
    ``instances.path|window|bands|column|layer|n``, ``attribute.<name>`` (numbers of the patch), and counts, the pixels
    of each class of ``names``. No pixel is copied. Of an optional sensor that a patch lacks, ``path`` is "" and no
    pixel is seen.

    Args:
        path: The store's folder.
        root: Where the raw files lie now; "" = where they lay when the store was written.

    Raises:
        FileNotFoundError: If there is no store, or no raw folder.
        StoreError: If its format is another one or its index is missing or cut short.
    """

    kind, version = KIND, SCENE_FORMAT

    def __init__(self, path: Path | str, root: Path | str = "") -> None:
        super().__init__(path)
        self.root = Path(root or self.about["root"])
        if not self.root.is_dir():
            raise FileNotFoundError(
                f"the store at {self.path} reads from {self.root}, which is not there; set data.root=<folder of the "
                "raw files>"
            )
        self.sensors = {name: imagery_of(spec) for name, spec in self.about["sensors"].items()}
        spec = self.about["classes"]
        names = {int(number): name for number, name in spec["names"].items()}
        stuff = frozenset(spec.get("stuff", ()))
        self.classes = Classes(names, frozenset(spec["ignored"]), spec["colours"], spec.get("codes", {}), stuff)
        self.names: tuple[str, ...] = tuple(self.about["names"])
        self.first = next(iter(self.sensors))
        self.keep = False  # decoded patches in memory
        self._kept: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}
        self._kept_labels: dict[tuple[Any, ...], np.ndarray] = {}
        self._kept_instances: dict[int, np.ndarray] = {}

    def __reduce__(self) -> tuple[type[SceneStore], tuple[Path, Path]]:
        return SceneStore, (self.path, self.root)

    # -- the index ---------------------------------------------------------------------------------------------------

    @cached_property
    def sizes(self) -> np.ndarray:
        """(N, 2) height and width of each patch, pixels of the first sensor."""
        return self.index[["height", "width"]].to_numpy(np.int64)

    @cached_property
    def counts(self) -> np.ndarray:
        """(N, K) int64 pixels of each class of ``names``; zeros where a patch has no mask."""
        return np.stack(self.index["counts"].to_list()).astype(np.int64)

    @cached_property
    def attributes(self) -> Tensor | None:
        """(N, A) float32 numbers of the patches that are no pixels, in the order of store.json; None without any."""
        names = [f"{ATTRIBUTE}{name}" for name in self.about.get("attributes", ())]
        return torch.tensor(self.index[names].to_numpy(np.float32)) if names else None

    @cached_property
    def fingerprint(self) -> str:
        """What these data are, in 16 hex digits: the index without paths, sensors, classes, some patches' pixels."""
        about = [self.about["sensors"], self.about["classes"]]
        found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
        plain = [c for c in self.index.columns if not c.endswith((*PLACES, *LISTS, ".rows", ".mean", ".m2", ".size"))]
        frame = self.index[plain].drop(columns="counts")
        for name in self.series_sensors:
            found.update(json.dumps([list(dates) for dates in self._columns[f"{name}.dates"]]).encode())
        found.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
        found.update(self.counts.tobytes())
        for row in np.unique(np.linspace(0, len(self) - 1, SAMPLED).astype(int)).tolist():
            values = self.pixels(row, self.first, range(len(self.sensors[self.first].bands)))[0]
            found.update(values[..., ::16, ::16].tobytes())
        return found.hexdigest()[:16]

    # -- pixels ------------------------------------------------------------------------------------------------------

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        ends = (*PLACES, *LISTS, ".rows", ".size", ".column", ".layer")
        wanted = [c for c in self.index.columns if c.endswith(ends)]
        return {name: self.index[name].to_list() for name in wanted}

    def raster(self, row: int, name: str) -> Raster:
        """Where the pixels of a patch lie; ``name`` is a sensor's, or ``mask``."""
        path, window, bands = (self._columns[f"{name}.{key}"][row] for key in ("path", "window", "bands"))
        cut: Window | None = None if window is None else tuple(int(x) for x in window)  # type: ignore[assignment]
        return Raster(path, cut, tuple(int(band) for band in bands))

    @property
    def series_sensors(self) -> list[str]:
        """Sensors of which each patch has a series."""
        return [name for name, imagery in self.sensors.items() if imagery.series]

    def series(self, row: int, name: str) -> Series:
        """Where the series of a patch lies."""
        at = self.raster(row, name)
        paths, dates, masks = (tuple(self._columns[f"{name}.{key}"][row]) for key in ("paths", "dates", "masks"))
        key, mask_key = (self._columns[f"{name}.{key}"][row] for key in ("key", "mask_key"))
        return Series(paths, dates, at.window, at.bands, key, masks, mask_key)

    def calendar(self, row: int, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Days since 1 January of the label year (T,) int64, ascending, and which of the dates are valid (T,) bool.

        A patch that lacks the sensor has one date that is not valid.
        """
        if self.lacks(row, name):
            return np.zeros(1, np.int64), np.zeros(1, bool)
        days = days_of(self._columns[f"{name}.dates"][row], int(self.index["year"].iloc[row]))
        return days, np.asarray(self._columns[f"{name}.valid"][row], bool)

    def lacks(self, row: int, sensor: str) -> bool:
        """Whether a patch has nothing of an optional sensor."""
        return not self._columns[f"{sensor}.path"][row]

    def mask(self, row: int) -> Raster | Vectors | None:
        """Where the labels of a patch lie; None if it has none."""
        return self._drawn(row, "mask")

    def _drawn(self, row: int, name: str) -> Raster | Vectors | None:
        path, column, layer = (self._columns[f"{name}.{key}"][row] for key in ("path", "column", "layer"))
        if not path:
            return None
        return Vectors(path, column, layer) if column else self.raster(row, name)

    def size(self, row: int, sensor: str) -> tuple[int, int]:
        """Height and width of a patch in the pixels of one sensor."""
        height, width = self._columns[f"{sensor}.size"][row]
        return int(height), int(width)

    def pixels(
        self, row: int, sensor: str, bands: Sequence[int], part: Window | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Counts (C, H, W) as they are stored, and where there are any (H, W); of series (T, C, H, W) and (T, H, W).

        Args:
            row: Which patch.
            sensor: Which sensor.
            bands: Positions of bands in the sensor's.
            part: First row, first column, height, width; None = the whole patch.

        Returns:
            Of a patch that lacks the sensor zeros (of one date), nowhere seen.

        Raises:
            TileError: If the file cannot be read any more.
        """
        if not self.keep:
            return self._read(row, sensor, bands, part)
        if (row, sensor) not in self._kept:
            self._kept[row, sensor] = self._read(row, sensor, range(len(self.sensors[sensor].bands)), None)
        values, seen = self._kept[row, sensor]
        cut = ... if part is None else np.s_[..., part[0] : part[0] + part[2], part[1] : part[1] + part[3]]
        return values[..., list(bands), :, :][cut], seen[cut]

    def _read(self, row: int, sensor: str, bands: Sequence[int], part: Window | None) -> tuple[np.ndarray, np.ndarray]:
        if self.lacks(row, sensor):
            return self._nothing(sensor, len(bands), self.size(row, sensor) if part is None else part[2:])
        with self._named(row):
            if self.sensors[sensor].series:
                return read_series(self.root, self.series(row, sensor), self.sensors[sensor], bands, part)
            return read_image(self.root, self.raster(row, sensor), self.sensors[sensor], bands, part)

    def _nothing(self, sensor: str, bands: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        imagery = self.sensors[sensor]
        dates = (1,) if imagery.series else ()
        dtype = np.float32 if imagery.dtype == "float" else np.dtype(imagery.dtype)
        return np.zeros((*dates, bands, *size), dtype), np.zeros((*dates, *size), bool)

    def points(self, row: int, sensor: str, bands: Sequence[int]) -> np.ndarray:
        """Points (P, F) float32 of a patch, some of the sensor's bands of each.

        Raises:
            TileError: If the table cannot be read any more.
        """
        if self.lacks(row, sensor):
            return np.zeros((0, len(bands)), np.float32)
        first, count = (int(n) for n in self._columns[f"{sensor}.rows"][row])
        with self._named(row):
            where = Points(self._columns[f"{sensor}.path"][row], first, count)
            return read_points(self.root, where, self.sensors[sensor])[:, list(bands)]

    @contextmanager
    def _named(self, row: int) -> Iterator[None]:
        """Say of which patch a file cannot be read any more."""
        try:
            yield
        except TileError as error:
            key = self.index["parcel_id"].iloc[row]
            raise TileError(f"patch {key!r}: {error}, and prepare the store again") from error

    def labels(self, row: int, remap: Remap, part: Window | None = None) -> np.ndarray | None:
        """Class numbers (H, W) uint8, 255 = none; None if the patch has no mask.

        Raises:
            TileError: If the file cannot be read any more.
        """
        mask = self.mask(row)
        if mask is None:
            return None
        image = self.raster(row, self.first)
        if not self.keep:
            with self._named(row):
                return read_labels(self.root, mask, image, remap, part)
        key = (row, *sorted(remap.numbers.items()))
        if key not in self._kept_labels:
            with self._named(row):
                self._kept_labels[key] = read_labels(self.root, mask, image, remap)
        labels = self._kept_labels[key]
        return labels if part is None else labels[part[0] : part[0] + part[2], part[1] : part[1] + part[3]]

    @property
    def has_instances(self) -> bool:
        """Whether things of the masks are told apart, in some patch at least."""
        return "instances.path" in self.index.columns

    def instances(self, row: int, part: Window | None = None) -> np.ndarray:
        """Number of the instance of each pixel (H, W) int32; 0 = none, as everywhere in a patch without any.

        Raises:
            TileError: If the file cannot be read any more.
        """
        where, image = self._drawn(row, "instances"), self.raster(row, self.first)
        if where is None:
            return np.zeros(self.sizes[row] if part is None else part[2:], np.int32)
        if not self.keep:
            with self._named(row):
                return read_instances(self.root, where, image, part)
        if row not in self._kept_instances:
            with self._named(row):
                self._kept_instances[row] = read_instances(self.root, where, image)
        kept = self._kept_instances[row]
        return kept if part is None else kept[part[0] : part[0] + part[2], part[1] : part[1] + part[3]]

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels of all sensors and of the labels, decoded; points stay in their tables."""
        sizes = {}
        rasters = {name: s for name, s in self.sensors.items() if s.kind != "points"}
        for name, sensor in rasters.items():
            pixels = np.stack(self.index[f"{name}.size"].to_list()).prod(1)
            if sensor.series:
                pixels = pixels * self.index[f"{name}.dates"].map(len).to_numpy()
            sizes[name] = pixels.sum()
        widths = {name: np.dtype(s.dtype).itemsize * len(s.bands) + 1 for name, s in rasters.items()}
        return int(sum(sizes[name] * widths[name] for name in sizes) + self.sizes.prod(1).sum())


def imagery_of(spec: dict[str, Any]) -> Imagery:
    """An imagery as store.json spells it."""
    hidden = spec.get("hidden")
    lists = {"bands": tuple(spec["bands"]), "minus": tuple(spec.get("minus", ()))}
    return Imagery(**{**spec, **lists, "hidden": Hidden(**hidden) if hidden else None})


def open_store(path: Path | str) -> Any:
    """The store in a folder, of parcels or of images, as its store.json says."""
    from ..store import Store

    about = Path(path) / "store.json"
    images = about.is_file() and read_about(about).get("kind") == KIND
    return SceneStore(path) if images else Store(path)
