"""Points -> named bands on a grid, chunk by chunk: memory is that of the grid, whatever the number of points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from .cloud import Cloud, read
from .frame import Frame
from .ground import GroundFilter, between, nearest

Ground = Literal["auto", "class", "filter"]
BANDS = ("ndsm", "dsm", "dtm", "intensity", "return_ratio", "density", "height_spread")
UNITS = {"intensity": "count", "return_ratio": "share", "density": "points/m2"}  # all others: metre
GROUND_CLASS = 2


@dataclass(frozen=True)
class Gridded:
    """A cloud on a grid.

    Attributes:
        frame: The grid.
        names: Of the bands.
        values: (C, H, W) float32; nan where nothing is known. ``dtm`` is known everywhere, ``density`` is 0 without
            points.
        seen: (H, W) bool: a point fell there.
        votes: (K, H, W) int32 points of each group of classes that was asked for.
        filtered: Whether the ground was found by the filter.
    """

    frame: Frame
    names: tuple[str, ...]
    values: np.ndarray
    seen: np.ndarray
    votes: np.ndarray
    filtered: bool

    def band(self, name: str) -> np.ndarray:
        """(H, W) of one band.

        Raises:
            LookupError: If there is none of this name.
        """
        if name not in self.names:
            raise LookupError(f"there is no band {name!r}; there are {list(self.names)}")
        return np.asarray(self.values[self.names.index(name)])


class _Sums:
    """What is known of each pixel, added up over chunks."""

    def __init__(self, frame: Frame, groups: Sequence[Sequence[int]], factor: int) -> None:
        self.frame, self.factor = frame, factor
        pixels = frame.height * frame.width
        self.n = np.zeros(pixels, np.int32)
        self.top = np.full(pixels, -np.inf)
        self.z, self.zz, self.intensity, self.ratio = (np.zeros(pixels) for _ in range(4))
        self.ground_n, self.ground_z = np.zeros(pixels, np.int32), np.zeros(pixels)
        self.coarse = -(-frame.height // factor), -(-frame.width // factor)
        self.lowest = np.full(self.coarse[0] * self.coarse[1], np.inf)
        self.votes = np.zeros((len(groups), pixels), np.int32)
        self.group = np.full(256, -1)
        for k, codes in enumerate(groups):
            self.group[list(codes)] = k
        self.origin: float | None = None  # heights are squared relative to the first one: nothing cancels

    def add(self, cloud: Cloud) -> None:
        """All but the ground."""
        for points in read(cloud, self.frame):
            at, z = points.cells(self.frame.width), points.z
            self.origin = float(z[0]) if self.origin is None else self.origin
            np.add.at(self.n, at, 1)
            np.maximum.at(self.top, at, z)
            for total, what in ((self.z, z - self.origin), (self.zz, (z - self.origin) ** 2)):
                np.add.at(total, at, what)
            np.add.at(self.intensity, at, points.intensity.astype(np.float64))
            np.add.at(self.ratio, at, points.ratio.astype(np.float64))
            np.minimum.at(self.lowest, self._coarse(points.row, points.column), z)
            self._ground(at, z, points.kind == GROUND_CLASS)
            k = self.group[points.kind]
            np.add.at(self.votes, (k[k >= 0], at[k >= 0]), 1)

    def add_ground(self, cloud: Cloud, surface: np.ndarray, height: float) -> None:
        """Points that lie at most so much above a surface."""
        flat = surface.ravel()
        for points in read(cloud, self.frame):
            low = points.z - flat[self._coarse(points.row, points.column)] <= height
            self._ground(points.cells(self.frame.width), points.z, low)

    def _ground(self, at: np.ndarray, z: np.ndarray, ground: np.ndarray) -> None:
        np.add.at(self.ground_n, at[ground], 1)
        np.add.at(self.ground_z, at[ground], z[ground])

    def _coarse(self, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        down, right = ((x / self.factor).astype(np.int64) for x in (row, column))
        return np.asarray(down * self.coarse[1] + right)

    def dtm(self) -> np.ndarray:
        """(H, W) mean height of the ground points of each pixel, interpolated where there are none."""
        shape = self.frame.height, self.frame.width
        there = self.ground_n > 0
        mean = np.divide(self.ground_z, self.ground_n, where=there, out=np.zeros_like(self.ground_z))
        return between(mean.reshape(shape), there.reshape(shape))

    def bands(self) -> dict[str, np.ndarray]:
        """(H W) of all bands that the ground has no part in."""
        n = np.where(self.n > 0, self.n, np.nan)
        mean = self.z / n
        return {
            "dsm": np.where(self.n > 0, self.top, np.nan),
            "intensity": self.intensity / n,
            "return_ratio": self.ratio / n,
            "density": self.n / self.frame.pixel_area,
            "height_spread": np.sqrt(np.maximum(self.zz / n - mean**2, 0)),
        }


def rasterise(
    clouds: Sequence[Cloud],
    frame: Frame,
    bands: Sequence[str] = BANDS,
    ground: Ground = "auto",
    ground_filter: GroundFilter | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    fill: float = 0.0,
) -> Gridded:
    """Clouds on a grid.

    A pixel's ``dsm`` is the height of its highest point, ``dtm`` the mean height of its ground points (interpolated
    where it has none, see :func:`.ground.between`), ``ndsm`` the difference, all in metres; ``intensity`` and
    ``return_ratio`` are means (see :class:`.cloud.Points`), ``density`` is points per square metre and
    ``height_spread`` the (population) standard deviation of heights in metres.

    Args:
        clouds: Files; what lies outside the grid is passed over.
        frame: The grid.
        bands: Which of :data:`BANDS`, in this order.
        ground: ``class``: points of class 2. ``filter``: by ``ground_filter``, whatever the classes say, so that bands
            of classified and of other clouds mean the same, and no label goes into them. ``auto``: by class where
            there is one, else by the filter.
        ground_filter: Its options; None = the defaults.
        groups: Name -> classes of ASPRS whose points are counted for :attr:`Gridded.votes`.
        fill: Pixels without a point get the values of the nearest pixel that has one, if that is at most so many
            metres away; ``density`` and :attr:`Gridded.seen` stay. 0 = none do.

    Raises:
        ValueError: If no point falls on the grid, no ground is classified where it must be, or options are wrong.
        TileError: If a file cannot be read.
    """
    _check(clouds, bands, ground, fill)
    groups, judge = groups or {}, ground_filter or GroundFilter()
    sums = _Sums(frame, list(groups.values()), max(1, round(judge.cell / frame.pixel)))
    for cloud in clouds:
        sums.add(cloud)
    if not sums.n.any():
        raise ValueError(_nothing(clouds, frame))
    needs = bool({"ndsm", "dtm"} & set(bands))
    filtered = needs and (ground == "filter" or (ground == "auto" and not sums.ground_n.any()))
    if filtered:
        sums.ground_n[:], sums.ground_z[:] = 0, 0
        surface = judge.surface(sums.lowest.reshape(sums.coarse), sums.factor * frame.pixel)
        for cloud in clouds:
            sums.add_ground(cloud, surface, judge.first)
    elif needs and not sums.ground_n.any():
        raise ValueError(
            f"no point of {_names(clouds)} on this grid is classified as ground (class {GROUND_CLASS}): use "
            "ground=filter, which finds the ground by its form, or leave ndsm and dtm out of bands"
        )
    return _gridded(sums, frame, tuple(bands), filtered, fill)


def _gridded(sums: _Sums, frame: Frame, bands: tuple[str, ...], filtered: bool, fill: float) -> Gridded:
    shape = frame.height, frame.width
    found = {name: values.reshape(shape) for name, values in sums.bands().items()}
    if {"ndsm", "dtm"} & set(bands):
        found["dtm"] = sums.dtm()
        found["ndsm"] = found["dsm"] - found["dtm"]
    seen = sums.n.reshape(shape) > 0
    values = np.stack([found[name] for name in bands]).astype(np.float32)
    if fill and not seen.all():
        _fill(values, bands, seen, fill / frame.pixel)
    return Gridded(frame, bands, values, seen, sums.votes.reshape(-1, *shape), filtered)


def _fill(values: np.ndarray, bands: tuple[str, ...], seen: np.ndarray, reach: float) -> None:
    from scipy.ndimage import distance_transform_edt

    near = ~seen & (distance_transform_edt(~seen) <= reach)
    for name, band in zip(bands, values, strict=True):
        if name not in ("dtm", "density"):
            band[near] = nearest(band, seen)[near]


def _check(clouds: Sequence[Cloud], bands: Sequence[str], ground: str, fill: float) -> None:
    if not clouds:
        raise ValueError("there is no file of points to put on the grid")
    if not bands or set(bands) - set(BANDS) or len(set(bands)) < len(bands):
        raise ValueError(f"bands of a cloud are of {list(BANDS)}, each once; got {list(bands)}")
    if ground not in get_args(Ground):
        raise ValueError(f"ground is one of {list(get_args(Ground))}; got {ground!r}")
    if fill < 0:
        raise ValueError(f"fill is a distance in metres, 0 = gaps stay; got {fill}")


def _nothing(clouds: Sequence[Cloud], frame: Frame) -> str:
    """Why the grid stays empty."""
    about = [(cloud.path.name, cloud.about()) for cloud in clouds[:3]]
    lie = "; ".join(f"{name}: {[round(v) for v in head.bounds_in(frame.crs)]}" for name, head in about)
    return (
        f"no point of {_names(clouds)} falls on the grid {[round(v) for v in frame.bounds()]} (west, south, east, "
        f"north in its CRS), noise and withheld points apart; the files cover {lie}. Give those of this place, or "
        "correct their CRS"
    )


def _names(clouds: Sequence[Cloud]) -> str:
    return ", ".join(cloud.path.name for cloud in clouds[:3]) + (" and others" if len(clouds) > 3 else "")
