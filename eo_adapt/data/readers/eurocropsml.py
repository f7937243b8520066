"""Reader of EuroCropsML: one npz a parcel, the median Sentinel-2 L1C reflectance of each date.

Layout of the publisher (github.com/dida-do/eurocropsml, ``dataset/preprocess.py``)::

    <root>/preprocess/S2/<NUTS3>_<parcelid>_<EC_hcat_c>.npz     package 0.4 and later; before: <root>/preprocess/*.npz
        data    (T, 13) int64, reflectance x 10 000, bands 01 02 03 04 05 06 07 08 8A 09 10 11 12; -999 = missing
        dates   (T,) datetime64[D]
        center  (2,) float64, longitude and latitude, degrees WGS 84
    <root>/split/<name>/{pretrain,meta,finetune}/<kind>_split[_<k>].json     {"train": [file name, ...], "val": ...}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..records import Record, Sensor
from .parcel_npz import BANDS, FileName, list_parcels, load, parse_name, to_series
from .publisher_splits import read_splits


class EuroCropsML:
    """Streams the parcels of a EuroCropsML folder in the order of their file names.

    Zero is data. Dates whose row holds -999 are kept and marked invalid. A parcel is ``<NUTS3>_<parcelid>``; ids are
    unique within a country, as the publisher made them. Files without any date are yielded with T = 0.

    Args:
        year: Label year; days count from its 1 January.
        splits: Split files of the publisher, relative to ``<root>/split``, e.g.
            ``["latvia_vs_estonia/finetune/region_split_all.json"]``. Parcels that none of them lists have split "".
        names: HCAT3 code -> class name; None = the shipped HCAT3 table.
    """

    def __init__(self, year: int = 2021, splits: Sequence[str] = (), names: Mapping[str, str] | None = None) -> None:
        if isinstance(splits, str):
            raise TypeError(f"splits is a list of paths relative to <root>/split; got the single string {splits!r}")
        self.year, self.splits, self.names = year, tuple(splits), names

    @property
    def sensors(self) -> dict[str, Sensor]:
        """One sensor, ``s2``: 13 bands of top-of-atmosphere reflectance."""
        return {"s2": Sensor(bands=BANDS, units="reflectance", scale=1e-4, offset=0.0, dtype="uint16")}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield one record a parcel.

        Args:
            root: Folder that holds ``preprocess`` (and ``split`` when ``splits`` are asked for).

        Raises:
            FileNotFoundError: ``preprocess`` or a split file is missing, or no npz lies there.
            ValueError: A file is truncated, misnamed, inconsistent, occurs twice or has an unknown HCAT3 code.
        """
        names = _shipped_names() if self.names is None else self.names
        paths = list_parcels(Path(root))
        splits = read_splits(Path(root) / "split", self.splits)
        seen: dict[tuple[str, str], str] = {}
        for path in paths:
            part = parse_name(path)
            twin = seen.setdefault((part.nuts[:2], part.parcel), path.name)
            if twin != path.name:
                raise ValueError(
                    f"parcel id {part.parcel!r} of {part.nuts[:2]} occurs twice: {twin} and {path.name}. An id is one "
                    "parcel of a country: remove the wrong file, otherwise it can be in train and test"
                )
            if part.hcat not in names:
                raise ValueError(
                    f"{path.name}: HCAT3 has no code {part.hcat!r}. Map it to a code of HCAT3.csv or remove the file"
                )
            yield self._record(path, part, names[part.hcat], splits.get(path.name, ""))

    def _record(self, path: Path, part: FileName, label: str, split: str) -> Record:
        data, dates, center = load(path)
        series = to_series(data, dates, self.year, path)
        lon, lat = (float(x) for x in center)
        if not (abs(lon) <= 180 and abs(lat) <= 90):
            raise ValueError(f"{path.name}: center is (longitude, latitude) in degrees; got ({lon}, {lat})")
        return Record(
            key=f"{part.nuts}_{part.parcel}",
            label=label,
            lon=lon,
            lat=lat,
            series={"s2": series},
            hcat=part.hcat,
            country=part.nuts[:2],
            region=part.nuts,
            year=self.year,
            sensor="s2",
            split=split,
        )


def _shipped_names() -> Mapping[str, str]:
    from ..hcat import names

    return names()
