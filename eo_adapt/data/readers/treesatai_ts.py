"""TreeSatAI time series: a year of Sentinel-1 and Sentinel-2 of 60 m patches of forest in Lower Saxony, by tree genus.

Ahlswede et al. 2023 (Earth System Science Data 15, 681-695); series: Astruc et al. 2024 (OmniSat, ECCV,
arXiv:2404.08351). Raw layout; ``<name>`` is ``<Genus>_<species>_<age>_<number>_<survey>_<owner>``::

    <root>/sentinel-ts/<name>_<year>.h5, or <name>.h5; 6 x 6 pixels of 10 m
        sen-1-asc-data   float32 (T, 2, 6, 6) VV, VH, linear    sen-1-asc-products   (T,) product names: the dates
        sen-1-des-data, sen-1-des-products                      the same of descending orbits, T of its own
        sen-2-data       float32 (T, 10, 6, 6) L2A counts       sen-2-products       (T,)
        sen-2-masks      float32 (T, 2 or more, 6, 6) percent: probability of snow, of cloud; more bands hold nothing
    <root>/labels/TreeSatBA_v9_60m_multi_labels.json            {"<name>.tif": [[genus, share of the area], ...]}
    <root>/split/{train,val,test}_filenames.lst                 <name>.tif, one a line
    <root>/geojson/bb_60m.GeoJSON                               IMG_ID = <name>; or the tif below aerial/, for places
    <root>/aerial/60m/<name>.tif, or aerial/<name>.tif          uint8 (4, 304, 304), 0.2 m: only its place is read

A patch has one class here: the genus of the largest share, or the species that its name says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..records import Record, Sensor
from .files import need
from .treesatai_files import SENSORS, Look, genera, look_of, parts_of, patch_name, place_of, places, species_of

SOURCE = "TreeSatAI-Time-Series (https://huggingface.co/datasets/IGNF/TreeSatAI-Time-Series)"
FOLDER = "sentinel-ts"
LABELS = "labels/TreeSatBA_v9_60m_multi_labels.json"
_S2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@dataclass(frozen=True)
class TreeSatAITS:
    """Reads TreeSatAI time series as pixel sets of 36 pixels.

    Attributes:
        labels: ``genus`` of the largest share in the label file, or leading ``species`` as the patch's name says.
        share: Patches whose largest share of the area is below this are left out; of ``labels: genus`` only.
        snow: Percent of probability from which snow hides a pixel of Sentinel-2; above 100 = never.
        cloud: The same of clouds.
        optional: Sensors (s2, s1_asc, s1_desc) that a file may lack; it then has no dates of them.
    """

    labels: str = "genus"
    share: float = 0.0
    snow: float = 60.0
    cloud: float = 60.0
    optional: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "optional", tuple(self.optional))
        if self.labels not in ("genus", "species"):
            raise ValueError(f"labels is genus (of the label file) or species (of the names); got {self.labels!r}")
        if not 0 <= self.share <= 1 or (self.share and self.labels == "species"):
            raise ValueError(f"share lies between 0 and 1, and is 0 with labels=species; got {self.share}")
        if self.snow <= 0 or self.cloud <= 0:
            raise ValueError(f"snow and cloud are percent above 0; got snow={self.snow}, cloud={self.cloud}")
        if not set(self.optional) < set(SENSORS):
            raise ValueError(f"optional lists some of {list(SENSORS)}, not all; got {list(self.optional)}")

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """``s2`` in reflectance, ``s1_asc`` and ``s1_desc`` in linear backscatter."""
        radar = Sensor(("VV", "VH"), "linear", 1.0, dtype="float32")
        return {"s2": Sensor(_S2, "reflectance", 1e-4), "s1_asc": radar, "s1_desc": radar}

    def read(self, root: Path) -> Iterator[Record]:
        """Yield the patches in the order of their file names.

        Raises:
            FileNotFoundError: If the series, the labels, or what says where patches lie, are missing.
            ValueError: If a file is damaged, lacks a key, or holds other numbers than its unit says; names file, key.
        """
        root = Path(root)
        files = sorted(need(root / FOLDER, SOURCE).glob("*.h5"), key=lambda path: path.name)
        if not files:
            raise FileNotFoundError(f"{root / FOLDER} holds no .h5; unpack sentinel-ts of {SOURCE} there")
        shares = genera(need(root / LABELS, SOURCE)) if self.labels == "genus" else {}
        parts, known = parts_of(root), places(root)
        for path in files:
            name, year = patch_name(path)
            label = species_of(name)
            if self.labels == "genus":
                if name not in shares:
                    raise ValueError(f"{path}: {LABELS} does not list {name}.tif; use the labels of the same release")
                label, share = max(shares[name], key=lambda pair: pair[1])
                if share < self.share:
                    continue
            yield self._record(root, path, name, label, year, parts.get(name, ""), known)

    def _record(
        self,
        root: Path,
        path: Path,
        name: str,
        label: str,
        year: int,
        part: str,
        known: Mapping[str, tuple[float, float]],
    ) -> Record:
        looks = {sensor: look_of(path, sensor, (self.snow, self.cloud), sensor in self.optional) for sensor in SENSORS}
        year = year or _year(path, looks)
        lon, lat = known[name] if name in known else place_of(root, name)
        tiles = Counter(tile for look in looks.values() for tile in look.tiles)
        return Record(
            key=name,
            label=label,
            lon=lon,
            lat=lat,
            series={sensor: look.series(path, year) for sensor, look in looks.items()},
            country="DE",
            region=tiles.most_common(1)[0][0] if tiles else "",
            year=year,
            sensor="+".join(sensor for sensor, look in looks.items() if len(look.dates)),
            split=part,
        )


def _year(path: Path, looks: Mapping[str, Look]) -> int:
    """The year that most of the dates lie in."""
    years = Counter(int(str(day)[:4]) for look in looks.values() for day in look.dates)
    if not years:
        raise ValueError(f"{path} has no date of any sensor; remove it")
    return years.most_common(1)[0][0]
