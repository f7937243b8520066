"""TimeSen2Crop: Sentinel-2 series of a million pixels of Austrian fields, 16 crops (Weikmann, Paris & Bruzzone 2021).

doi:10.1109/JSTARS.2021.3073965; raw layout (Zenodo record 4715631)::

    <root>/<tile>/dates.csv            header, then one date a line, YYYYMMDD, oldest first
    <root>/<tile>/<class>/<i>.csv      header B1..B9, Flag; one row a date, as many as the tile has dates

or the same one folder deeper, as the archive may hold it. ``<tile>`` is a Sentinel-2 tile of the season September 2017
to August 2018, or ``2019_33UVP`` of the next one. Whatever the header calls them, columns are B02, B03, B04, B05, B06,
B07, B8A, B11 and B12, level L2A, reflectance x 10 000; Flag is 0 clear, 1 cloud, 2 shadow, 3 snow. ``<class>`` is 0
to 15.

Files have no coordinates: lon, lat are the middle of the tile, up to 78 km off. Pixels of one field lie side by side in
a folder, and nothing says which belong together: parts must be whole tiles. Empty files, of which
the original has some, are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..records import Record, Sensor, Series
from .files import damaged, need
from .s2_tiles import pixel_lonlat

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B8A", "B11", "B12")
CLASSES = (
    "legumes",
    "grassland",
    "maize",
    "potato",
    "sunflower",
    "soy",
    "winter barley",
    "winter caraway",
    "rye",
    "rapeseed",
    "beet",
    "spring cereals",
    "winter wheat",
    "winter triticale",
    "permanent plantation",
    "other crops",
)
FLAGS = ("clear", "cloud", "shadow", "snow")
TILE = re.compile(r"(?:(?P<year>\d{4})_)?(?P<tile>\d{2}[A-Z]{3})")
SOURCE = "TimeSen2Crop (https://zenodo.org/records/4715631)"


@dataclass(frozen=True)
class TimeSen2Crop:
    """Reads TimeSen2Crop.

    Attributes:
        tiles: Names of tile folders to read; () = all that are there.
        year: Harvest year of tiles whose folder names none.
        keep: Conditions that count as valid, of clear, cloud, shadow and snow.
        most: Pixels a tile and class that are read, the first ones by number; 0 = all.
        hcat: Class -> HCAT3 code.
    """

    tiles: Sequence[str] = ()
    year: int = 2018
    keep: Sequence[str] = ("clear",)
    most: int = 0
    hcat: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("tiles", "keep"):
            if isinstance(getattr(self, name), str):
                raise ValueError(f"{name} is a list; got {getattr(self, name)!r}")
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if set(self.keep) - set(FLAGS) or not self.keep or self.most < 0:
            raise ValueError(f"keep lists some of {list(FLAGS)}, most is 0 or more; got {self.keep}, {self.most}")
        if odd := sorted(set(self.hcat) - set(CLASSES)):
            raise ValueError(f"hcat has codes for {odd}; the classes are {list(CLASSES)}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """One sensor, ``s2``."""
        return {"s2": Sensor(BANDS)}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the pixels, tile by tile and class by class.

        Raises:
            FileNotFoundError: If there is no tile, or one that is asked for is missing.
            ValueError: If a file is damaged or has another number of dates than its tile.
        """
        root = Path(root)
        there = {path.parent.name: path.parent for path in (*root.glob("*/dates.csv"), *root.glob("*/*/dates.csv"))}
        if not there:
            need(root / "33UVP" / "dates.csv", SOURCE)
        if lacking := sorted(set(self.tiles) - set(there)):
            raise FileNotFoundError(f"no tiles {lacking} below {root}; there are {sorted(there)}")
        for name in self.tiles or sorted(there):
            yield from self._tile(name, there[name])

    def _tile(self, name: str, folder: Path) -> Iterator[Record]:
        match = TILE.fullmatch(name)
        if match is None:
            raise ValueError(
                f"{folder} is called as no Sentinel-2 tile is, as 33UVP or 2019_33UVP; remove or rename it"
            )
        year = int(match["year"] or self.year)
        lon, lat = pixel_lonlat(match["tile"], 5490, 5490)
        days = _days(folder / "dates.csv", year)
        for number, label in enumerate(CLASSES):
            files = sorted((folder / str(number)).glob("*.csv"), key=_order)
            for path in files[: self.most or None]:
                if path.stat().st_size == 0:
                    continue
                values, flags = _pixel(path, len(days))
                yield Record(
                    key=f"{name}-{number}-{path.stem}",
                    label=label,
                    lon=lon,
                    lat=lat,
                    series={"s2": Series(values, days, valid=np.isin(flags, [FLAGS.index(f) for f in self.keep]))},
                    hcat=str(self.hcat.get(label, "")),
                    country="AT",
                    region=match["tile"],
                    year=year,
                    sensor="s2",
                )


def _order(path: Path) -> tuple[int, str]:
    return (int(path.stem), "") if path.stem.isdecimal() else (1 << 60, path.stem)


def _days(path: Path, year: int) -> np.ndarray:
    """(T,) days since 1 January of ``year``."""
    lines = [line.strip().strip('"') for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    dates = lines[1:] if lines and not lines[0].split(",")[-1].strip().isdecimal() else lines
    texts = [line.split(",")[-1].strip() for line in dates]
    if not texts or any(re.fullmatch(r"\d{8}", text) is None for text in texts):
        raise damaged(path, "it should hold one date a line, YYYYMMDD")
    try:
        stamps = np.array([f"{t[:4]}-{t[4:6]}-{t[6:]}" for t in texts], "datetime64[D]")
    except ValueError as error:
        raise damaged(path, error) from error
    if (np.diff(stamps).astype(int) < 0).any():
        raise damaged(path, "dates are not in order")
    return np.asarray((stamps - np.datetime64(f"{year}-01-01")).astype(np.int64))


def _pixel(path: Path, dates: int) -> tuple[np.ndarray, np.ndarray]:
    """(T, 9) reflectance and (T,) flags."""
    try:
        array = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2, dtype=np.float64)
    except ValueError as error:
        raise damaged(path, error) from error
    if array.shape != (dates, len(BANDS) + 1):
        raise damaged(path, f"it has shape {array.shape}; its tile has {dates} dates, and there are 9 bands and a flag")
    flags = array[:, -1]
    if not np.isin(flags, range(len(FLAGS))).all():
        raise damaged(path, f"flags are 0 to 3; it has {sorted(set(flags.tolist()) - {0.0, 1.0, 2.0, 3.0})[:5]}")
    return (array[:, :-1] * 1e-4).astype(np.float32), flags.astype(np.int64)
