r"""A folder of airborne laser scans: each file is put on a grid once, and its windows are patches.

Bands (heights above ground and the like) are one sensor, the points themselves another; labels are the classes that the
points have. What is made lies in the cache, not beside the files. ::

    tiles: "*.laz"
    path: (?P<site>.+)\\.laz
    table: {file: sites.csv, column: site, id: "{site}"}
    crs: "EPSG:{epsg}"                       # only where files state none
    columns: {region: "{site}", country: FR}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..lidar.cloud import Cloud
from ..lidar.frame import horizontal, parse_crs
from ..lidar.ground import GroundFilter
from ..lidar.tiles import POINT_BANDS, Making, made
from ..lidar.write import NODATA
from ..scenes.records import Classes, Imagery, Points, Raster, Scene
from .files import need
from .parcel_spec import build
from .places import Header, Place, header, utm
from .scene_spec import Facts, Table

COLUMNS = ("key", "zone", "country", "region", "year", "sensor", "split", "date")


@dataclass(frozen=True)
class LidarScenes:
    """Reads one folder of LAS, LAZ or COPC files.

    Attributes:
        tiles: Glob below the root.
        path: Regular expression that matches a file's path below the root; its named groups can be used in templates,
            and ``tile``, the file's name without its ending, and ``row`` and ``column`` of a window.
        columns: What -> template: region, country, year, sensor, split, date, and key and zone where they are not
            "{tile}-{row}-{column}".
        table: :class:`Table` of facts about files, or a mapping of its arguments; None = none.
        crs: Template of the CRS of the points; "" = as the files state.
        unit: Template of the unit of heights: metre, foot, us-survey-foot; "" = as the CRS says.
        unlabelled: Tiles whose classes are not used as labels (files in which only the ground is classified, say).
        making: What is made of a file: :class:`Making`, or a mapping of its arguments.
        colours: Class name -> ``#rrggbb``.
        folder: Of what is made; "" = the cache.
    """

    tiles: str
    path: str
    columns: Mapping[str, str]
    table: Any = None
    crs: str = ""
    unit: str = ""
    unlabelled: tuple[str, ...] = ()
    making: Any = field(default_factory=Making)
    colours: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    def __post_init__(self) -> None:
        if odd := set(self.columns) - set(COLUMNS):
            raise ValueError(f"columns are of {list(COLUMNS)}; got {sorted(odd)}")
        if self.table is not None:
            object.__setattr__(self, "table", build(Table, self.table, "table"))
        if isinstance(self.making, Mapping):
            object.__setattr__(self, "making", _making(self.making))

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """``lidar``, the bands, and ``points``."""
        units = "metre, count, share, points/m2"
        lidar = Imagery(tuple(self.making.bands), units, nodata=NODATA, dtype="float32")
        points = Imagery(POINT_BANDS, "pixel, metre, count, share", dtype="float32", kind="points")
        return {"lidar": lidar, "points": points} if self.making.most else {"lidar": lidar}

    @property
    def classes(self) -> Classes:
        """What the numbers in labels mean."""
        return Classes(dict(enumerate(self.making.classes, 1)), frozenset({0}), dict(self.colours))

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the windows of each file, by path; files are put on grids first.

        Raises:
            FileNotFoundError: If there is no file, or the table is missing.
            ValueError: If a path does not match, a template uses an unknown name, or a file does not say where it lies.
            TileError: If a file cannot be read.
        """
        root = Path(root)
        found = sorted(path for path in root.glob(self.tiles) if path.is_file())
        if not found:
            need(root / self.tiles, "files of points that match")
        rows = self.table.rows(root) if self.table else {}
        for path in found:
            facts = self._facts(path.relative_to(root).as_posix(), path.stem, rows)
            cloud = Cloud(path, facts.fill(self.crs), facts.fill(self.unit), tuple(self.making.drop))
            out = made(cloud, _grid_crs(cloud), self.making, Path(self.folder) if self.folder else None)
            yield from self._scenes(out, header(out / "bands.tif"), facts, path.stem in self.unlabelled)

    def _facts(self, name: str, tile: str, rows: Mapping[str, Mapping[str, str]]) -> Facts:
        match = re.fullmatch(self.path, name)
        if match is None:
            raise ValueError(
                f"the path {name!r}, found by {self.tiles!r}, does not match {self.path!r}; change one of them"
            )
        facts = Facts(name, {"tile": tile, **match.groupdict(default="")})
        return self.table.join(facts, rows) if self.table else facts

    def _scenes(self, out: Path, about: Header, facts: Facts, unlabelled: bool) -> Iterator[Scene]:
        size = self.making.window
        right = about.width // size
        first = np.load(out / "windows.npy") if self.making.most else None
        for row in range(about.height // size):
            for column in range(right):
                window = row * size, column * size, size, size
                images: dict[str, Raster | Points] = {"lidar": Raster(str(out / "bands.tif"), window)}
                if first is not None:
                    start, end = (int(n) for n in first[row * right + column :][:2])
                    images["points"] = Points(str(out / "points.npy"), start, end - start)
                mask = None if unlabelled else Raster(str(out / "labels.tif"), window)
                yield self._scene(images, mask, about.place(window), facts.and_(row=row, column=column))

    def _scene(self, images: Mapping[str, Raster | Points], mask: Raster | None, place: Place, facts: Facts) -> Scene:
        templates = {"key": "{tile}-{row}-{column}", "zone": "{tile}-{row}-{column}", **self.columns}
        values: dict[str, Any] = {what: facts.fill(template) for what, template in templates.items()}
        year = values.pop("year", "") or values.get("date", "")[:4] or "0"
        if not year.isdecimal():
            raise ValueError(f"{facts.image}: {year!r} is no year; correct the template of year or date")
        return Scene(
            images=images,
            mask=mask,
            lon=place.lon,
            lat=place.lat,
            x=place.x,
            y=place.y,
            crs=place.crs,
            gsd=place.gsd,
            year=int(year),
            **values,
        )


def _making(spec: Mapping[str, Any]) -> Making:
    """Options from a recipe: lists become tuples."""
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in spec.items()}
    if "classes" in plain:
        plain["classes"] = {str(name): tuple(codes) for name, codes in plain["classes"].items()}
    if "ground_filter" in plain:
        plain["ground_filter"] = build(GroundFilter, plain["ground_filter"], "ground_filter")
    made: Making = build(Making, plain, "making")
    return made


def _grid_crs(cloud: Cloud) -> str:
    """The points' own CRS where it counts metres, else the UTM zone that their middle lies in."""
    from pyproj import Transformer

    about = cloud.about()
    flat = horizontal(parse_crs(about.crs, str(cloud.path)))
    if flat.is_projected and flat.axis_info[0].unit_conversion_factor == 1.0 and flat.to_epsg() not in (None, 3857):
        return f"EPSG:{flat.to_epsg()}"
    west, south, east, north = about.bounds
    turn = Transformer.from_crs(flat, "EPSG:4326", always_xy=True)
    return utm(*turn.transform((west + east) / 2, (south + north) / 2, errcheck=True))
