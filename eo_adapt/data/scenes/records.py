"""What a reader of images yields and a scene store keeps: one record a patch; no pixels are copied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Imagery:
    """How the numbers of one sensor's images are to be read.

    Attributes:
        bands: Band names, in the order of the numbers in :attr:`Raster.bands`.
        units: Physical unit of ``count * scale + offset``, e.g. ``"reflectance"``, ``"digital number"``, ``"dB"``.
        scale: Physical units per stored count.
        offset: Physical value of count 0.
        nodata: Stored count that means "nothing seen here"; None = what the file declares, if it declares one.
        dtype: What the files hold; another one is refused, for an 8-bit range is not a 16-bit one.
    """

    bands: tuple[str, ...]
    units: str = "digital number"
    scale: float = 1.0
    offset: float = 0.0
    nodata: float | None = None
    dtype: str = "uint8"


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
    """One patch: images of one or more sensors on one footprint, and a mask where it is labelled.

    Attributes:
        key: Patch id, unique in the data set, e.g. ``"IMG_000826"``.
        images: Sensor name -> where its pixels lie. All share the footprint; they may differ in pixel size.
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
        year: Year of the images.
        sensor: Camera, or what else domains select by.
        split: The publisher's split: train, val, test, or "".
        date: Acquisition, ISO ``YYYY-MM-DD``; "" where unknown.
    """

    key: str
    images: Mapping[str, Raster]
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


@dataclass(frozen=True)
class Classes:
    """What the numbers in masks mean.

    Attributes:
        names: Id -> class name. A mask value that is not listed and not ignored is an error.
        ignored: Ids that are no class (no data, void).
        colours: Class name -> ``#rrggbb``, where the publisher has them.
        codes: ``#rrggbb`` in the masks -> id, where masks are drawn in colours (red, green and blue are the first three
            bands, or those of :attr:`Raster.bands`); a colour that is not listed is an error. {} = masks hold ids.
    """

    names: Mapping[int, str]
    ignored: frozenset[int] = frozenset()
    colours: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)


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
