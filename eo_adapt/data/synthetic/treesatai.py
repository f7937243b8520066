"""Made-up data in the raw layout of TreeSatAI time series; see :mod:`eo_adapt.data.readers.treesatai_ts`.

Patches of forest in the west and in the east of Lower Saxony, one leading genus each. Trees differ in when leaves come
and go and in how they scatter; in the east leaves come later. Clouds and snow are in the images and in the masks, radar
has speckle. Numbers are choices of this simulation, no statistics.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..readers.treesatai_files import PLACES, SIDE
from ..readers.treesatai_ts import FOLDER, LABELS
from .curves import greenness, reflectance

CRS = "EPSG:25832"
GENERA = {  # genus -> species, day leaves come, day they fall, least and largest green, dB of VV and VH in summer
    "Fagus": ("sylvatica", 122, 295, 0.15, 0.90, -9.0, -14.0),
    "Quercus": ("robur", 135, 305, 0.15, 0.80, -9.5, -14.5),
    "Betula": ("spec", 105, 280, 0.20, 0.75, -10.5, -15.5),
    "Larix": ("decidua", 112, 310, 0.25, 0.70, -10.0, -15.0),
    "Picea": ("abies", 110, 300, 0.62, 0.70, -8.0, -13.0),
    "Pinus": ("sylvestris", 120, 300, 0.48, 0.58, -10.5, -16.0),
}
SITES = {"west": (430000, 5830000, "T32UMC"), "east": (640000, 5780000, "T32UPC")}  # metres of EPSG:25832, tile
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
LATER = 14.0  # days by which the east is later at strength 1
LOOKS = 4.5
_S2 = "S2A_MSIL2A_{}T102421_N0213_R065_{}_{}T115419"
_S1 = "S1A_IW_GRDH_1SDV_{}T170841_{}T170906_030639_0382D5_360A"


@dataclass(frozen=True)
class Known:
    """What was written of one patch.

    Attributes:
        name: Without year.
        site: west or east.
        shares: Genera and their shares of the area.
        x: Centre, metres of EPSG:25832.
        y: See ``x``.
        part: train, val or test.
        days: Key in the h5 (sen-2, sen-1-asc, sen-1-des) -> (T,) days since 1 January.
        data: The same -> (T, C, 6, 6) float32.
        masks: (T, 10, 6, 6) float32 percent.
    """

    name: str
    site: str
    shares: list[tuple[str, float]]
    x: float
    y: float
    part: str
    days: dict[str, np.ndarray]
    data: dict[str, np.ndarray]
    masks: np.ndarray


@dataclass(frozen=True)
class TreeSatAIWorld:
    """Generator of data like TreeSatAI time series.

    Attributes:
        patches: Patches a site; the genera take turns.
        year: Year of the series.
        revisit: Days between passes of Sentinel-2 (2 to 3 in the original); Sentinel-1 passes every ``revisit + 1``.
        seed: Seed of all draws.
        phenology: 0..1: how much later leaves come in the east.
        radiometry: 0..1: how much brighter the east is, in both satellites.
        clouds: 0..1: how much of a year is cloudy; the same in both.
        aerial: Whether to write the aerial images, too.
    """

    patches: int = 60
    year: int = 2020
    revisit: int = 8
    seed: int = 0
    phenology: float = 1.0
    radiometry: float = 1.0
    clouds: float = 0.5
    aerial: bool = False

    def __post_init__(self) -> None:
        if self.patches < 1 or not 1 <= self.revisit <= 100:
            raise ValueError(f"patches is at least 1, revisit 1 to 100 days; got {self.patches} and {self.revisit}")
        for name in ("phenology", "radiometry", "clouds"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} lies between 0 and 1; got {getattr(self, name)}")

    def write(self, root: Path) -> None:
        """Write all files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Known]:
        """Write all files and return what a reader should find, by name."""
        root = Path(root)
        for folder in (FOLDER, "split", "aerial/60m", *(str(Path(path).parent) for path in (LABELS, PLACES))):
            (root / folder).mkdir(parents=True, exist_ok=True)
        known = [self._patch(site, number) for site in SITES for number in range(self.patches)]
        known.sort(key=lambda patch: f"{patch.name}_{self.year}.h5")
        for patch in known:
            self._write_h5(root / FOLDER / f"{patch.name}_{self.year}.h5", patch)
            if self.aerial:
                _write_tif(root / "aerial" / "60m" / f"{patch.name}.tif", patch)
        (root / LABELS).write_text(json.dumps({f"{patch.name}.tif": patch.shares for patch in known}))
        _write_places(root / PLACES, known)
        for part in ("train", "val", "test"):
            lines = [f"{patch.name}.tif\n" for patch in known if patch.part == part]
            (root / "split" / f"{part}_filenames.lst").write_text("".join(lines))
        return known

    def _patch(self, site: str, number: int) -> Known:
        rng = np.random.default_rng([self.seed, list(SITES).index(site), number])
        genus, other = list(GENERA)[number % len(GENERA)], list(GENERA)[(number + 1) % len(GENERA)]
        share = round(float(rng.uniform(0.55, 1)), 4)
        trees = np.where(rng.random((SIDE, SIDE)) < share, genus, other)
        name = f"{genus}_{GENERA[genus][0]}_{rng.integers(1, 8)}_{1000 * (site == 'east') + number}_BI_NLF"
        x, y = np.round(np.array(SITES[site][:2]) + rng.uniform(-20000, 20000, 2), 1)
        late = rng.normal(0, 4) + LATER * self.phenology * (site == "east")
        gain = 1 + 0.15 * self.radiometry * (site == "east")
        starts = {"sen-2": 0, "sen-1-asc": 1, "sen-1-des": 3}
        steps = {key: self.revisit + (key != "sen-2") for key in starts}
        days = {key: np.arange(first + int(rng.integers(3)), 365, steps[key]) for key, first in starts.items()}
        data = {key: _radar(rng, trees, days[key] - late, gain) for key in starts if key != "sen-2"}
        data["sen-2"], masks = self._optical(rng, trees, days["sen-2"], late, gain)
        part = ("train", "train", "train", "val", "test")[number // len(GENERA) % 5]
        shares = [(genus, share), *([(other, round(1 - share, 4))] if share < 1 else [])]
        return Known(name, site, shares, float(x), float(y), part, days, data, masks)

    def _optical(
        self, rng: np.random.Generator, trees: np.ndarray, days: np.ndarray, late: float, gain: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(T, 10, 6, 6) counts, and (T, 10, 6, 6) percent of snow and of cloud, which covers a date or parts of it."""
        green = np.stack([greenness(days - late, *GENERA[str(kind)][1:5]) for kind in trees.ravel()], 1)
        green = green + rng.normal(0, 0.02, green.shape)
        cloud = np.where(rng.random((len(days), 1)) < self.clouds, rng.uniform(20, 160, (len(days), 1)), 0).clip(0, 100)
        cloud = np.where(cloud > 0, (cloud + rng.uniform(-15, 15, green.shape)).clip(0, 100), 0)
        snow = np.where((rng.random((len(days), 1)) < 0.2) & ((days < 60) | (days > 335))[:, None], 90.0, 0.0)
        white = np.maximum(cloud / 100, 0.8 * (snow > 0))
        values = gain * reflectance(green, BANDS, white)
        counts = np.rint(1e4 * values).clip(1, 15000).astype(np.float32).transpose(0, 2, 1)
        masks = np.zeros((len(days), 10, SIDE * SIDE), np.float32)
        masks[:, 0], masks[:, 1] = snow, np.rint(cloud)
        return counts.reshape(len(days), -1, SIDE, SIDE), masks.reshape(len(days), -1, SIDE, SIDE)

    def _write_h5(self, path: Path, patch: Known) -> None:
        import h5py

        new_year = datetime.date(self.year, 1, 1)
        with h5py.File(path, "w") as file:
            for key, values in patch.data.items():
                stamps = [(new_year + datetime.timedelta(int(day))).strftime("%Y%m%d") for day in patch.days[key]]
                kind = _S2 if key == "sen-2" else _S1
                fill = SITES[patch.site][2] if key == "sen-2" else None
                names = [kind.format(s, fill, s) if fill else kind.format(s, s) for s in stamps]
                file[f"{key}-data"] = values
                file.create_dataset(f"{key}-products", data=np.array(names, object), dtype=h5py.string_dtype())
            file["sen-2-masks"] = patch.masks


def _radar(rng: np.random.Generator, trees: np.ndarray, days: np.ndarray, gain: float) -> np.ndarray:
    """(T, 2, 6, 6) float32 linear backscatter; broad leaves dim VV a little."""
    found = []
    for kind in trees.ravel():
        _, start, end, low, high, vv, vh = GENERA[str(kind)]
        leaf = greenness(days, start, end, low, high) - low
        found.append(np.stack([vv - 1.5 * leaf, vh + leaf]))
    decibels = np.stack(found, -1).transpose(1, 0, 2) + rng.normal(0, 0.3, (len(days), 1, 1))
    linear = gain * 10 ** (decibels / 10) * rng.gamma(LOOKS, 1 / LOOKS, decibels.shape)
    return np.asarray(linear.reshape(len(days), 2, SIDE, SIDE), np.float32)


def _write_places(path: Path, known: Sequence[Known]) -> None:
    features: list[dict[str, Any]] = []
    for patch in known:
        ring = [[patch.x + dx, patch.y + dy] for dx, dy in ((-30, -30), (30, -30), (30, 30), (-30, 30), (-30, -30))]
        about = {"IMG_ID": patch.name, "YEAR": 2019}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "properties": about, "geometry": geometry})
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{CRS.replace(':', '::')}"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


def _write_tif(path: Path, patch: Known) -> None:
    """An aerial image as large as the original's, 304 x 304 pixels of 0.2 m around the centre."""
    import rasterio
    from rasterio.transform import from_origin

    coarse = np.random.default_rng(list(patch.name.encode())).integers(40, 160, (4, 38, 38))
    image = coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)
    place = from_origin(patch.x - 30.4, patch.y + 30.4, 0.2, 0.2)
    profile = {"driver": "GTiff", "count": 4, "height": 304, "width": 304, "dtype": "uint8", "compress": "deflate"}
    with rasterio.open(path, "w", crs=CRS, transform=place, **profile) as file:
        file.write(image)
