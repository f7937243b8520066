r"""Any folder of rasters with masks or vector labels, described by patterns in a recipe.

A regular expression takes the path of each image apart; its named groups, and the columns of a table if there is one,
are then put into templates for the mask's path, the key, the zone and the domain columns::

    images: "*/images/*.tif"
    path: (?P<city>[^/]+)/images/(?P<tile>[^/]+)\\.tif
    mask: "{city}/masks/{tile}.tif"
    columns: {key: "{city}-{tile}", zone: "{tile}", region: "{city}", country: "{city}"}
    rename: {country: {banepa: NP, kampala: UG}}

See data_recipes/vhr_buildings.yaml and data_recipes/sen1floods11.yaml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any, Literal, get_args

from ..scenes.colour_codes import check_codes
from ..scenes.raster import TileError
from ..scenes.records import Classes, Imagery, Raster, Scene, Vectors, Window
from .files import need
from .parcel_spec import build
from .places import Header, check_windows, header
from .scene_spec import Facts, Numbered, Table

Missing = Literal["error", "unlabelled"]
COLUMNS = ("key", "zone", "country", "region", "year", "sensor", "split", "date")
POLYGONS = "polygons"
WINDOW = ("row", "column")  # names that templates get besides those of the path and the table


@dataclass(frozen=True)
class SceneFolder:
    """Reads one folder.

    Attributes:
        images: Glob below the root that finds the images of the first sensor.
        path: Regular expression that matches the whole path of an image below the root; its named groups can be used
            in templates.
        imagery: Sensor -> :class:`Imagery`, or a mapping of its arguments, whose ``bands`` may map a band's name to its
            number in the file, from 1. The first sensor is the one that ``images`` finds.
        names: Id in masks -> class name.
        columns: What -> template: ``key`` and ``zone``, and as far as there are any country, region, year, sensor,
            split, date.
        mask: Template of the mask's path; or a mapping of ``path`` (a template), ``column`` and ``layer`` of a vector
            file with a column of class names; "" = nothing is labelled.
        missing: What to do with an image whose mask is not there: ``error``, or read it as ``unlabelled``.
        others: Further sensor -> template of its image's path.
        table: :class:`Table` of facts about images, or a mapping of its arguments; None = none.
        rename: Column -> {value -> value to use}.
        ignored: Ids in masks that are no class.
        colours: Class name -> ``#rrggbb``.
        codes: ``#rrggbb`` -> id, where masks are drawn in colours; {} = masks hold ids.
        instances: Template of the path of a raster that numbers the things of the mask from 1; or ``polygons``: each
            polygon of a vector mask is one; "" = they are not told apart.
        stuff: Names of classes that are no things.
        window: Cut images into windows of so many pixels; those at the lower and right edge are smaller. 0 = whole
            images. Templates of key and zone may then use ``{row}`` and ``{column}``, the number of the window; keys
            without them get it appended.
        multiple: What is over at the lower and right edge of an image beyond a multiple of so many pixels is left out,
            since networks take sides that are multiples, mostly of 32. 1 = nothing is.
        crs: Projected CRS of x and y; "" = the file's own where it counts metres, else the UTM zone of the image.
    """

    images: str
    path: str
    imagery: Mapping[str, Any]
    names: Mapping[int, str]
    columns: Mapping[str, str]
    mask: Any = ""
    missing: Missing = "error"
    others: Mapping[str, str] = field(default_factory=dict)
    table: Any = None
    rename: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    ignored: tuple[int, ...] = ()
    colours: Mapping[str, str] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    instances: str = ""
    stuff: tuple[str, ...] = ()
    window: int = 0
    multiple: int = 1
    crs: str = ""

    def __post_init__(self) -> None:
        numbered = {str(name): Numbered.of(spec, f"imagery {name}") for name, spec in self.imagery.items()}
        object.__setattr__(self, "imagery", numbered)
        object.__setattr__(self, "names", {int(number): str(name) for number, name in self.names.items()})
        if self.table is not None:
            object.__setattr__(self, "table", build(Table, self.table, "table"))
        self._check()

    def _check(self) -> None:
        """Raise what can be known to be wrong before a file is looked at."""
        if lacking := {"key", "zone"} - set(self.columns):
            raise ValueError(f"columns need templates for {sorted(lacking)}; got {dict(self.columns)}")
        if odd := (set(self.columns) | set(self.rename)) - set(COLUMNS):
            raise ValueError(f"columns and rename are of {list(COLUMNS)}; got {sorted(odd)}")
        if self.missing not in get_args(Missing):
            raise ValueError(f"missing is one of {list(get_args(Missing))}; got {self.missing!r}")
        if list(self.imagery)[1:] != list(self.others) or not self.imagery:
            raise ValueError(
                f"imagery names the sensor that images finds, then those of others; got {list(self.imagery)} and "
                f"{list(self.others)}"
            )
        check_windows(self.window, self.multiple)
        if (self.window or self.multiple > 1) and self.others:
            raise ValueError(
                f"window and multiple cut images of one sensor only; got window={self.window}, "
                f"multiple={self.multiple} and sensors {list(self.imagery)}"
            )
        if isinstance(self.mask, Mapping) and {"path", "column"} - set(self.mask):
            raise ValueError(f"a mask of vectors is a mapping of path, column and layer; got {dict(self.mask)}")
        if self.instances == POLYGONS and not isinstance(self.mask, Mapping):
            raise ValueError(f"instances=polygons takes a mask of vectors; got mask={self.mask!r}")
        if odd := set(self.stuff) - set(self.names.values()):
            raise ValueError(f"stuff names {sorted(odd)}; the classes are {list(self.names.values())}")
        check_codes(self.codes, {*self.names, *self.ignored})
        known = {*re.compile(self.path).groupindex, *WINDOW}
        if self.table is None and (odd := set(self._used()) - known):
            raise ValueError(f"templates use {sorted(odd)}; the path's groups are {sorted(known - set(WINDOW))}")

    def _used(self) -> Iterator[str]:
        """Names in braces of all templates."""
        mask = self.mask["path"] if isinstance(self.mask, Mapping) else self.mask
        for template in (mask, self.instances, *self.others.values(), *self.columns.values()):
            yield from (name for _, name, _, _ in Formatter().parse(str(template)) if name)

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """Sensors, the one that ``images`` finds first."""
        return {name: numbered.imagery for name, numbered in self.imagery.items()}

    @property
    def classes(self) -> Classes:
        """What the numbers in masks mean."""
        return Classes(self.names, frozenset(self.ignored), dict(self.colours), dict(self.codes), frozenset(self.stuff))

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the images, or their windows, by path. One that cannot be opened is yielded whole and without a place.

        Raises:
            FileNotFoundError: If there is no image, or a mask, a further sensor's image or the table is missing.
            ValueError: If a path does not match, a table has no row of an image, or a template uses an unknown name.
        """
        root = Path(root)
        found = sorted(path for path in root.glob(self.images) if path.is_file())
        if not found:
            need(root / self.images, "images that match")
        rows = self.table.rows(root) if self.table else {}
        for path in found:
            name = path.relative_to(root).as_posix()
            facts = self._facts(name, rows)
            about = _header(path)
            for row, column, window in about.windows(self.window, self.multiple):
                yield self._scene(root, name, facts.and_(row=row, column=column), about, window)

    def _facts(self, name: str, rows: Mapping[str, Mapping[str, str]]) -> Facts:
        match = re.fullmatch(self.path, name)
        if match is None:
            raise ValueError(
                f"the path {name!r}, found by {self.images!r}, does not match {self.path!r}; change one of them"
            )
        facts = Facts(name, match.groupdict(default=""))
        return self.table.join(facts, rows) if self.table else facts

    def _scene(self, root: Path, name: str, facts: Facts, about: Header, window: Window | None) -> Scene:
        values: dict[str, Any] = {what: facts.fill(template) for what, template in self.columns.items()}
        for what, new in self.rename.items():
            values[what] = new.get(values.get(what, ""), values.get(what, ""))
        if self.window and window and not set(WINDOW) & {n for _, n, _, _ in Formatter().parse(self.columns["key"])}:
            values["key"] = f"{values['key']}-{facts.fill('{row}-{column}')}"
        place = about.place(window, self.crs)
        first = next(iter(self.imagery))
        images = {first: Raster(name, window, self.imagery[first].numbers)}
        for sensor, template in self.others.items():
            path = facts.fill(template)
            need(root / path, f"the image of {sensor} that belongs to {name}")
            images[sensor] = Raster(path, None, self.imagery[sensor].numbers)
        mask = self._mask(root, name, facts, window)
        return Scene(
            images=images,
            mask=mask,
            instances=self._instances(root, name, facts, window, mask),
            lon=place.lon,
            lat=place.lat,
            x=place.x,
            y=place.y,
            crs=place.crs,
            gsd=place.gsd,
            year=_year(values.pop("year", "") or values.get("date", "")[:4] or "0", name),
            **values,
        )

    def _mask(self, root: Path, name: str, facts: Facts, window: Window | None) -> Raster | Vectors | None:
        if not self.mask:
            return None
        vector = self.mask if isinstance(self.mask, Mapping) else {}
        path = facts.fill(vector.get("path", self.mask))
        if self.missing == "unlabelled" and not (root / path).exists():
            return None
        need(root / path, f"the mask of {name}, or set the reader's missing: unlabelled")
        if vector:
            return Vectors(path, str(vector["column"]), str(vector.get("layer", "")))
        return Raster(path, window)

    def _instances(
        self, root: Path, name: str, facts: Facts, window: Window | None, mask: Raster | Vectors | None
    ) -> Raster | Vectors | None:
        if not self.instances or mask is None:
            return None
        if self.instances == POLYGONS:
            return mask
        path = facts.fill(self.instances)
        need(root / path, f"the raster that numbers the things of {name}")
        return Raster(path, window)


def _header(path: Path) -> Header:
    """A damaged image has none; whoever reads its pixels names it, with others, or skips it."""
    try:
        return header(path)
    except TileError:
        return Header(0, 0, None, None)


def _year(text: str, name: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{name}: {text!r} is no year; correct the template of year or date")
    return int(text)
