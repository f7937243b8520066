"""Where the parcels lie and what grows on them: villages of farms, each farm with its soil and its favourite crops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .climate import Floats
from .countries import Region

Ints = npt.NDArray[np.int64]

KM_PER_DEGREE = 111.2
VILLAGE_SPACING = 15.0  # km between neighbouring villages; swath, haze and altitude are theirs
VILLAGE_RADIUS = 1.2  # km, standard deviation of the farms around it
FARM_RADIUS = 0.3  # km, standard deviation of the parcels around the farm
PARCELS_PER_FARM = 5
FARMS_PER_VILLAGE = 4
FARM_TASTE = 1.0  # spread of a farm's liking for a crop; 0 = crops lie at random


@dataclass(frozen=True)
class Landscape:
    """N parcels of one country.

    Attributes:
        lon: (N,) degrees.
        lat: (N,) degrees.
        farm: (N,) farm number, ascending.
        village: (N,) village number.
        region: (N,) position in the country's regions.
        village_lon: (V,) degrees.
        village_lat: (V,) degrees.
    """

    lon: Floats
    lat: Floats
    farm: Ints
    village: Ints
    region: Ints
    village_lon: Floats
    village_lat: Floats

    @property
    def farms(self) -> int:
        """Number of farms."""
        return int(self.farm.max()) + 1

    @property
    def village_of_farm(self) -> Ints:
        """(F,) village number of each farm."""
        return self.village[np.searchsorted(self.farm, np.arange(self.farms))]

    def __len__(self) -> int:
        return len(self.lon)


def landscape(rng: np.random.Generator, regions: tuple[Region, ...], parcels: int) -> Landscape:
    """Place parcels in farms, farms around villages, villages on a jittered grid around the centre of each region.

    Args:
        rng: Source of randomness.
        regions: NUTS 3 regions, used in turn.
        parcels: Number N of parcels; the last farm may be smaller.
    """
    farm = np.arange(parcels) // PARCELS_PER_FARM
    village = farm // FARMS_PER_VILLAGE
    villages = int(village.max()) + 1
    region = np.arange(villages) % len(regions)
    slot = np.arange(villages) // len(regions)
    side = int(np.ceil(np.sqrt(slot.max() + 1)))
    grid = np.stack([slot % side, slot // side], axis=1) - (side - 1) / 2
    place = grid * VILLAGE_SPACING + rng.uniform(-2, 2, (villages, 2))
    home = rng.normal(0, VILLAGE_RADIUS, (int(farm.max()) + 1, 2))
    offset = home[farm] + rng.normal(0, FARM_RADIUS, (parcels, 2))
    lat0 = np.array([area.lat for area in regions])[region]
    lon0 = np.array([area.lon for area in regions])[region]
    per_lon = KM_PER_DEGREE * np.cos(np.deg2rad(lat0))
    village_lon, village_lat = lon0 + place[:, 0] / per_lon, lat0 + place[:, 1] / KM_PER_DEGREE
    lon = village_lon[village] + offset[:, 0] / per_lon[village]
    lat = village_lat[village] + offset[:, 1] / KM_PER_DEGREE
    return Landscape(lon, lat, farm, village, region[village], village_lon, village_lat)


def counts(shares: Mapping[str, float], parcels: int) -> dict[str, int]:
    """Whole numbers that sum to ``parcels`` and lie closest to the shares (largest remainder)."""
    exact = {name: share * parcels for name, share in shares.items()}
    whole = {name: int(value) for name, value in exact.items()}
    left = parcels - sum(whole.values())
    for name in sorted(exact, key=lambda crop: whole[crop] - exact[crop])[:left]:
        whole[name] += 1
    return whole


def assign_crops(rng: np.random.Generator, land: Landscape, shares: Mapping[str, float]) -> npt.NDArray[np.str_]:
    """Crop name of each parcel: the shares are met exactly, and farms repeat their crops.

    Each farm has a liking for each crop; crop by crop, the parcels that like it most take it. Gumbel noise makes that a
    draw without replacement with odds exp(liking).

    Args:
        rng: Source of randomness.
        land: The parcels.
        shares: Crop name -> share, summing to 1.
    """
    crops = np.full(len(land), "", dtype="U40")
    for name, count in counts(shares, len(land)).items():
        taste = rng.normal(0, FARM_TASTE, land.farms)[land.farm] + rng.gumbel(0, 1, len(land))
        free = np.flatnonzero(crops == "")
        crops[free[np.argsort(-taste[free], kind="stable")[:count]]] = name
    return crops
