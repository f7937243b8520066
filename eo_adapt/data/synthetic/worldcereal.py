"""Made-up data in the raw layout of data_recipes/worldcereal.yaml: worldcereal_ts.npz and the class mappings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..records import Record, Series
from .curves import greenness, reflectance

DAYS = np.array([-17, 14, 45, 73, 104, 134, 165, 195, 226, 257, 287, 318])  # the 15th of Dec (y-1) to Nov
STEPS = ("Dec(y-1)", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov")
S2 = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B11", "B12")
BANDS = (*S2, "VV_dB", "VH_dB", "TMEAN_K", "PRECIP_mm")
PLACES: Mapping[str, tuple[float, float, str, float, float]] = {  # domain -> lon, lat, reference, days late, cloud
    "France-mainland-2023": (0.1, 46.0, "2023_FRA_LPIS_POLY_110", 0.0, 0.1),
    "Corsica-2022": (9.2, 42.2, "2022_FRA_LPIS_POLY_110", -20.0, 0.05),
    "Flanders-2021": (4.2, 51.1, "2021_BEL_LPIS-Flanders_POLY_110", 10.0, 0.2),
    "EastAfrica-2017": (33.8, 2.5, "2017_UGA_WFP-field-survey_POLY_111", 25.0, 0.3),
}
CODES: Mapping[str, tuple[str, float, float, float]] = {  # ewoc code -> crop type, green from, to, woodiness
    "1101060000": ("maize", 140.0, 260.0, 0.1),
    "1101010011": ("wheat", -20.0, 170.0, 0.1),
    "2001020022": ("grasslands", 60.0, 310.0, 0.3),
    "1201000010": ("permanent_crops", 90.0, 300.0, 0.8),
    "2500000000": ("trees", -100.0, 420.0, 1.0),
    "1111020010": ("grass_fodder_crops", 80.0, 200.0, 0.3),
    "0": ("ignore", 0.0, 365.0, 0.5),
}
COVER = {"maize": "temporary_crops", "wheat": "temporary_crops", "grass_fodder_crops": "temporary_grasses"}


@dataclass(frozen=True)
class WorldCerealWorld:
    """Generator of worldcereal_ts.npz and worldcereal_class_mappings.json.

    Sentinel-2 follows greenness, Sentinel-1 greenness and woodiness, weather the place and the month.

    Attributes:
        parcels: Points a domain.
        seed: Seed of all draws.
        lacking: Share of points that lack Sentinel-1 altogether.
    """

    parcels: int = 120
    seed: int = 0
    lacking: float = 0.05

    def write(self, root: Path) -> None:
        """Write both files below ``root``."""
        self.write_known(root)

    def write_known(self, root: Path) -> list[Record]:
        """Write both files and return what a reader should find with the taxonomy LANDCOVER10."""
        rng = np.random.default_rng(self.seed)
        points = [point for domain in PLACES for point in self._domain(domain, rng)]
        codes = [point["ewoc_code"] for point in points]
        table: dict[str, Any] = {name: np.array([point[name] for point in points]) for name in points[0]}
        root = Path(root)
        root.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(root / "worldcereal_ts.npz", bands=np.array(BANDS), steps=np.array(STEPS), **table)
        crops = {code: name for code, (name, *_) in CODES.items()}
        cover = {code: COVER.get(name, name) for code, name in crops.items()}
        text = json.dumps({"LANDCOVER10": cover, "CROPTYPE24": crops})
        (root / "worldcereal_class_mappings.json").write_text(text)
        return [_record(point, cover[str(code)]) for point, code in zip(points, codes, strict=True)]

    def _domain(self, domain: str, rng: np.random.Generator) -> list[dict[str, object]]:
        lon, lat, ref, late, cloud = PLACES[domain]
        points: list[dict[str, object]] = []
        for n in range(self.parcels):
            code = list(CODES)[n % len(CODES)]
            place = {"lon": lon + float(rng.uniform(-0.4, 0.4)), "lat": lat + float(rng.uniform(-0.4, 0.4))}
            x = _series(CODES[code][1:], late, cloud, lat, rng)
            if rng.random() < self.lacking:
                x[:, 9:11] = np.nan
            year = int(domain[-4:])
            points.append(
                {"X": x, "sample_id": f"{ref}_{n}", "domain": domain, "ref_id": ref, "year": year, "ewoc_code": code}
                | place
            )
        return points


def _series(
    crop: tuple[float, float, float], late: float, cloud: float, lat: float, rng: np.random.Generator
) -> np.ndarray:
    """(12, 13) float32 as in X."""
    start, end, wood = crop
    shift = late + rng.normal(0, 6)
    green = greenness(DAYS, start + shift, end + shift)
    optical = reflectance(green, S2) * rng.normal(1, 0.05, (12, 1)) + rng.normal(0, 0.01, (12, 9))
    optical = np.clip(optical, 0.001, 1)
    optical[rng.random(12) < cloud] = np.nan
    radar = np.stack([-14 + 3 * green + 2 * wood, -21 + 4 * green + 4 * wood], 1) + rng.normal(0, 0.8, (12, 2))
    season = np.cos(2 * np.pi * (DAYS - 200) / 365)
    weather = np.stack([300 - 0.35 * abs(lat) + 0.2 * abs(lat) * season, 60 + 10 * season], 1)
    weather += rng.normal(0, 0.5, (12, 2))
    return np.concatenate([optical, radar, weather], 1).astype(np.float32)


def _record(point: Mapping[str, object], label: str) -> Record:
    x = np.asarray(point["X"])
    parts = {"s2": x[:, :9], "s1": x[:, 9:11], "weather": x[:, 11:]}
    return Record(
        key=str(point["sample_id"]),
        label="" if label == "ignore" else label,
        lon=float(str(point["lon"])),
        lat=float(str(point["lat"])),
        series={name: Series(values, DAYS) for name, values in parts.items()},
        country=str(point["ref_id"]).split("_")[1],
        region=str(point["domain"])[:-5],
        year=int(str(point["year"])),
    )
