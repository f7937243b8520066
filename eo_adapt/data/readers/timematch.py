"""TimeMatch: Sentinel-2 pixel sets of parcels of four tiles, 2017 (Nyborg et al. 2022, doi:10.5281/zenodo.5636422).

Raw layout (preprocessing/prepare_pixels.py and downloader.py of the original)::

    <root>/<country>/<tile>/<year>/data/<i>.zarr       zarr v2 array uint16 (T, 10, S), L1C counts, 0 = no data
    <root>/<country>/<tile>/<year>/meta/metadata.pkl   {start_date, end_date: "YYYYMMDD", dates: [YYYYMMDD], cloudy_pct,
                                                        parcels: [{id, label, n_pixels, block, geometric_features}]}

Parcel ``i`` of the list lies in ``<i>.zarr``. Bands lie as the original stacks them: 10 m bands, then 20 m bands.
Labels are national crop codes: text in France, numbers elsewhere (floats in Denmark, NaN where there is none). ``id``
is a field number of the declaration, not unique: the key is made of tile, year and ``i``. ``block`` numbers 10 x 10
squares of 1,098 pixels, tens from west to east, ones from north to south.

There are no coordinates in the published files. lon, lat are the centre of the parcel's block: up to 7.8 km off.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..records import Record, Sensor, Series
from .files import need, read_zarr
from .s2_tiles import pixel_lonlat
from .safe_pickle import load_plain
from .timematch_classes import COUNTRIES, PUBLISHED

BANDS = ("B02", "B03", "B04", "B08", "B05", "B06", "B07", "B8A", "B11", "B12")
META = ("start_date", "end_date", "dates", "cloudy_pct", "parcels")
PARCEL = ("id", "label", "n_pixels", "block", "geometric_features")
BLOCK, BLOCKS_A_SIDE, SOURCE = 1098, 10, "TimeMatch (Zenodo 5636422)"


@dataclass(frozen=True)
class TimeMatch:
    """Reads the TimeMatch pixel sets.

    Attributes:
        datasets: ``country/tile/year`` folders to read, in this order; empty = all there are.
        classes: Country folder -> crop code -> class name; the published grouping by default.
        unmapped: Class of the codes that ``classes`` does not name (the original says "unknown", a name that open label
            sets reserve here); "" leaves those parcels out.
        hcat: Class name -> HCAT3 code.
        nodata: Count of a pixel that was not observed: a date of a pixel is invalid where all bands have it.
    """

    datasets: tuple[str, ...] = ()
    classes: Mapping[str, Mapping[Any, str]] = field(default_factory=lambda: PUBLISHED)
    unmapped: str = "other"
    hcat: Mapping[str, str] = field(default_factory=dict)
    nodata: int = 0

    def __post_init__(self) -> None:
        codes = {country: {_code(c): str(n) for c, n in names.items()} for country, names in self.classes.items()}
        object.__setattr__(self, "classes", codes)
        object.__setattr__(self, "datasets", tuple(self.datasets))
        object.__setattr__(self, "hcat", {str(name): str(code) for name, code in self.hcat.items()})
        for dataset in self.datasets:
            if len(Path(dataset).parts) != 3:
                raise ValueError(f"a TimeMatch dataset is country/tile/year, as denmark/32VNH/2017; got {dataset!r}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """One sensor, ``s2``: L1C reflectance counts."""
        return {"s2": Sensor(BANDS)}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the parcels of all datasets below ``root``.

        Raises:
            FileNotFoundError: If the metadata or a parcel's pixels are missing.
            ValueError: If a file is damaged, holds other things than expected, or a country has no class mapping.
        """
        found = sorted(p.relative_to(root).parts[:3] for p in Path(root).glob("*/*/*/meta/metadata.pkl"))
        names = self.datasets or tuple("/".join(parts) for parts in found)
        if not names:
            need(Path(root) / "<country>" / "<tile>" / "<year>" / "meta" / "metadata.pkl", SOURCE)
        for name in names:
            yield from self._dataset(Path(root) / name)

    def _dataset(self, folder: Path) -> Iterator[Record]:
        country, tile, year = folder.parts[-3:]
        if country not in self.classes:
            raise ValueError(
                f"no class mapping for {country!r} ({folder}); there are {sorted(self.classes)}. Give the reader "
                f"classes: {{{country}: {{code: name}}}}"
            )
        if not year.isdecimal():
            raise ValueError(f"{folder} should be named <country>/<tile>/<year>; {year!r} is no year")
        path = need(folder / "meta" / "metadata.pkl", SOURCE)
        meta = _check(load_plain(path), META, path)
        days = _days(meta["dates"], int(year), path)
        for i, parcel in enumerate(meta["parcels"]):
            _check(parcel, PARCEL, path)
            label = self.classes[country].get(_code(parcel["label"]), self.unmapped)
            if not label:
                continue
            lon, lat = _centre(tile, int(parcel["block"]), path)
            yield Record(
                key=f"{country}-{tile}-{year}-{i}",
                label=label,
                lon=lon,
                lat=lat,
                series={"s2": self._pixels(folder / "data" / f"{i}.zarr", days, int(parcel["n_pixels"]))},
                hcat=self.hcat.get(label, ""),
                country=COUNTRIES.get(country, country),
                region=tile,
                year=int(year),
                sensor="s2",
                split=f"block{int(parcel['block']):02d}",
                attributes=np.asarray(parcel["geometric_features"], np.float32),
            )

    def _pixels(self, path: Path, days: np.ndarray, n_pixels: int) -> Series:
        counts = read_zarr(path, (len(days), len(BANDS), n_pixels), "uint16", SOURCE).transpose(2, 0, 1)
        return Series(counts, days, valid_pixels=(counts != self.nodata).any(-1))


def _check(found: Any, keys: tuple[str, ...], path: Path) -> Any:
    if not isinstance(found, dict) or not set(keys) <= set(found):
        what = sorted(map(str, found)) if isinstance(found, dict) else f"a {type(found).__name__}"
        raise ValueError(f"{path} should hold {list(keys)}; found {what}: is it TimeMatch's metadata.pkl?")
    return found


def _code(label: Any) -> str:
    """A crop code as text, the same for 11, 11.0 and "11"; "" where there is none."""
    if isinstance(label, float | np.floating):
        return str(int(label)) if np.isfinite(label) else ""
    return str(label).strip()


def _days(dates: Any, year: int, path: Path) -> np.ndarray:
    try:
        days = [datetime.datetime.strptime(str(date), "%Y%m%d") - datetime.datetime(year, 1, 1) for date in dates]
    except ValueError as error:
        raise ValueError(f"{path}: dates should be written YYYYMMDD; {error}") from error
    return np.array([day.days for day in days], np.int64)


def _centre(tile: str, block: int, path: Path) -> tuple[float, float]:
    if not 0 <= block < BLOCKS_A_SIDE**2:
        raise ValueError(f"{path}: block {block} of tile {tile}; blocks are numbered 0 to {BLOCKS_A_SIDE**2 - 1}")
    column, row = divmod(block, BLOCKS_A_SIDE)
    return pixel_lonlat(tile, BLOCK * (column + 0.5), BLOCK * (row + 0.5))
