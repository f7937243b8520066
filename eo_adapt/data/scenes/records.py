"""What a reader of images yields and a scene store keeps: one record a patch; no pixels are copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Hidden:
    """Which pixels of a series a mask hides (cloud, snow, shadow), and which dates then do not count.

    Attributes:
        bands: Bands of the mask at each date.
        least: Of each of them the smallest value that hides, e.g. ``(60, 60)`` percent; None = the band has none.
        values: Of each of them the values that hide, e.g. classes.
        clear: Share of a patch's pixels that must be seen, in [0, 1]; a date with less is not valid.

    Raises:
        ValueError: If there is not one entry a band, or ``clear`` is no share.
    """

    bands: int = 1
    least: tuple[float | None, ...] = ()
    values: tuple[tuple[int, ...], ...] = ()
    clear: float = 0.0

    def __post_init__(self) -> None:
        least = tuple(self.least) or (None,) * self.bands
        values = tuple(tuple(listed) for listed in self.values) or ((),) * self.bands
        if not len(least) == len(values) == self.bands or not 0 <= self.clear <= 1:
            raise ValueError(
                f"a mask of {self.bands} bands needs as many entries in least and values, and clear between 0 and 1; "
                f"got least={list(least)}, values={list(values)}, clear={self.clear}"
            )
        object.__setattr__(self, "least", least)
        object.__setattr__(self, "values", values)


@dataclass(frozen=True)
class Imagery:
    """How the numbers of one sensor's images are to be read.

    Attributes:
        bands: Band names, in the order of the numbers in :attr:`Raster.bands`.
        units: Physical unit of ``count * scale + offset``, e.g. ``"digital number"``. Of ``"reflectance"``, ``"dB"``
            and ``"linear"`` (backscatter) numbers are refused that cannot be such (:mod:`.units`).
        scale: Physical units per stored count.
        offset: Physical value of count 0.
        nodata: Stored count that means "nothing seen here"; None = what the file declares, if it declares one (of a
            series: none).
        dtype: What the files hold; another one is refused, for an 8-bit range is not a 16-bit one. ``"float"`` = floats
            of any width.
        kind: ``raster``; ``series`` (:class:`Series`); or ``points`` (:class:`Points`), whose first bands are x and y.
        hidden: How masks of a series are to be read; None = there are none.
        minus: Of each band the 1-based number of a band in the file that is subtracted from it, 0 = none: height above
            ground is surface minus terrain. () = none of any. Of images, not of series.
        optional: Whether a patch may lack this sensor; the first one may not.
    """

    bands: tuple[str, ...]
    units: str = "digital number"
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    dtype: str = "uint8"
    kind: Literal["raster", "series", "points"] = "raster"
    hidden: Hidden | None = None
    minus: tuple[int, ...] = ()
    optional: bool = False

    def __post_init__(self) -> None:
        if self.hidden is not None and self.kind != "series":
            raise ValueError("an imagery with a rule for masks (hidden) is one of a series: set kind=series")
        if self.minus and (self.kind != "raster" or len(self.minus) != len(self.bands) or "uint" in self.dtype):
            raise ValueError(
                f"minus has one number for each of the bands {list(self.bands)} of images of a type with a sign; got "
                f"{list(self.minus)} for {self.kind} of {self.dtype}"
            )

    @property
    def series(self) -> bool:
        """Whether each patch has a :class:`Series` of this sensor."""
        return self.kind == "series"


@dataclass(frozen=True)
class Raster:
    """Where pixels lie.

    Attributes:
        path: Below the raw folder, with forward slashes.
        window: First row, first column, height, width in the file's own grid; None = the whole file.
        bands: 1-based band numbers in the file; () = all, in order.
    """

    path: str
    window: Window | None = None
    bands: tuple[int, ...] = ()


@dataclass(frozen=True)
class Points:
    """Where the points of a patch lie: rows of a table of float32 (N, F) that numpy saved.

    Columns are the sensor's bands: x and y in pixels of the first sensor, from the patch's left and upper edge, then
    what else is known of each point.

    Attributes:
        path: Below the raw folder, with forward slashes.
        first: First row.
        count: Number of rows.
    """

    path: str
    first: int
    count: int


@dataclass(frozen=True)
class Series:
    """Where the images of one sensor over time lie.

    Three layouts are told apart by the files. One ``.npy``: (T, C, H, W). One ``.h5``: a data set (T, C, H, W) at
    ``key``. One GeoTIFF: T x C bands, date by date (all bands of the first date, then all of the second). Several
    GeoTIFFs: one a date. Masks are laid out in one of these ways, too.

    Attributes:
        paths: Files below the raw folder.
        dates: ISO ``YYYY-MM-DD`` of each frame, in the order of the frames. They need not ascend: frames are read in
            the order of their dates. Two on one day stay two.
        window: See :class:`Raster`.
        bands: 1-based numbers of the bands of one date; () = all, in order.
        key: Data set in an h5 file.
        masks: Files of the mask; () = this patch has none.
        mask_key: Data set of the mask in an h5 file.
    """

    paths: tuple[str, ...]
    dates: tuple[str, ...]
    window: Window | None = None
    bands: tuple[int, ...] = ()
    key: str = ""
    masks: tuple[str, ...] = ()
    mask_key: str = ""


@dataclass(frozen=True)
class Vectors:
    """A mask that is drawn from polygons when it is read.

    What no polygon covers is the class of id 0, where :class:`Classes` lists one, else not labelled.

    Attributes:
        path: File that geopandas reads, below the raw folder.
        column: Column with class names.
        layer: Layer of the file; "" = the only one.
    """

    path: str
    column: str
    layer: str = ""


@dataclass(frozen=True)
class Scene:
    """One patch: images, or series of them, of one or more sensors on one footprint, and a mask where it is labelled.

    Attributes:
        key: Patch id, unique in the data set, e.g. ``"IMG_000826"``.
        images: Sensor name -> where its pixels or points lie. All share the footprint; they may differ in pixel size
            and dates. The first sensor has no points. Sensors that are :attr:`Imagery.optional` may be left out.
        mask: Class ids, or colours that stand for them, on the grid of the first sensor, or polygons; None = not
            labelled.
        lon: Longitude of the centre, degrees WGS 84; nan where the place is not known.
        lat: Latitude of the centre, degrees WGS 84.
        x: Centre in metres of ``crs``; nan where the place is not known.
        y: See ``x``.
        crs: Projected CRS of ``x`` and ``y``, e.g. ``"EPSG:2154"``; "" where the place is not known.
        gsd: Pixel size of the first sensor, metres.
        zone: Group of neighbouring patches that must stay on one side of a split.
        country: ISO 3166 alpha-2 code.
        region: Department, city or scene type: what domains select by.
        year: Year of the images; of series that of the labels, from whose 1 January days are counted.
        sensor: Camera, or what else domains select by.
        split: The publisher's split: train, val, test, or "".
        date: Acquisition, ISO ``YYYY-MM-DD``; "" where unknown.
        instances: Numbers that tell things of the mask apart (parcels), on the grid of the first sensor, 0 = none; or
            polygons, each a thing; None where they are not known.
        attributes: Name -> number of the patch as a whole, no pixel (sun, camera); the same names of all patches.
    """

    key: str
    images: Mapping[str, Raster | Series | Points]
    mask: Raster | Vectors | None
    lon: float
    lat: float
    x: float
    y: float
    crs: str
    gsd: float
    zone: str
    country: str = ""
    region: str = ""
    year: int = 0
    sensor: str = ""
    split: str = ""
    date: str = ""
    instances: Raster | Vectors | None = None
    attributes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Classes:
    """What the numbers in masks mean.

    Attributes:
        names: Id -> class name. A mask value that is not listed and not ignored is an error.
        ignored: Ids that are no class (no data, void).
        colours: Class name -> ``#rrggbb``, where the publisher has them.
        codes: ``#rrggbb`` in the masks -> id, where masks are drawn in colours (red, green and blue are the first three
            bands, or those of :attr:`Raster.bands`); a colour that is not listed is an error. {} = masks hold ids.
        stuff: Names of classes that are no things which could be told apart (background); others may have instances.
    """

    names: Mapping[int, str]
    ignored: frozenset[int] = frozenset()
    colours: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    stuff: frozenset[str] = frozenset()


class SceneReader(Protocol):
    """Raw layout -> scenes; one class a layout, in ``eo_adapt/data/readers``."""

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """Sensor name -> how its numbers are to be read."""

    @property
    def classes(self) -> Classes:
        """What the numbers in masks mean."""

    def read(self, root: Path) -> Iterator[Scene]:
        """Stream the patches below ``root``."""
