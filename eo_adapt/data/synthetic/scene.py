"""All observations of one country: growth, soil, sky and sensor put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .climate import Floats, daily_temperature, weather
from .countries import COUNTRIES, Country
from .crops import CROPS
from .farming import Leaf, Management, leaves, management
from .landscape import Landscape
from .phenology import Cover, calendar, cover
from .sky import Knobs, Sky
from .spectra import soil, surface, top_of_atmosphere
from .visits import visits

RED = 3  # position of B04


@dataclass(frozen=True)
class Observations:
    """M observations, sorted by parcel, then day.

    Attributes:
        parcel: (M,) position of the parcel.
        day: (M,) 0 = 1 January.
        reflectance: (M, 13) top of atmosphere.
    """

    parcel: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    reflectance: Floats


@dataclass(frozen=True)
class Climate:
    """Daily temperature (V, 365), degree C, and latitude (V,), degrees, that the crops of V villages feel."""

    temperature: Floats
    lat: Floats


def village_climate(rng: np.random.Generator, country: Country, land: Landscape, phenology: float) -> Climate:
    """At ``phenology`` 0 every country lies, for weather and day length, around one place in the middle."""
    places = [area for other in COUNTRIES.values() for area in other.regions]
    middle = np.array([[area.lon, area.lat] for area in places]).mean(axis=0)
    home = np.array([[area.lon, area.lat] for area in country.regions]).mean(axis=0)
    moved = (1 - phenology) * (middle - home)
    days = weather(rng, len(land.village_lon))
    lat = land.village_lat + moved[1]
    return Climate(daily_temperature(land.village_lon + moved[0], lat, days), lat)


def ground_cover(
    crops: npt.NDArray[np.str_],
    land: Landscape,
    climate: Climate,
    farm: Management,
    parcel: np.ndarray,
    day: np.ndarray,
) -> Cover:
    """Cover of every observation, crop by crop on the thermal time of its village."""
    green, straw, petals = (np.zeros(len(parcel)) for _ in range(3))
    for name in np.unique(crops):
        rows = np.flatnonzero(crops[parcel] == name)
        time = calendar(CROPS[str(name)], climate.temperature, climate.lat)
        village = land.village[parcel[rows]]
        state = cover(CROPS[str(name)], time.heat[village, day[rows]], time.end[village], farm.take(parcel[rows]))
        green[rows], straw[rows], petals[rows] = state.green, state.straw, state.petals
    return Cover(green, straw, petals)


def observe(
    rng: dict[str, np.random.Generator], country: Country, land: Landscape, crops: npt.NDArray[np.str_], knobs: Knobs
) -> Observations:
    """Simulate one country.

    Args:
        rng: Independent streams ``weather``, ``farm``, ``sky``, ``dates``, so that a knob changes its own cause only.
        country: The country.
        land: Its parcels.
        crops: (N,) crop of each parcel.
        knobs: Strengths.
    """
    climate = village_climate(rng["weather"], country, land, knobs.phenology)
    farm = management(rng["farm"], land, knobs.noise)
    leaf = leaves(rng["farm"], crops, knobs.noise)
    seen = visits(rng["dates"], land.village_of_farm, knobs.cloud_share)
    parcel, day = np.nonzero(seen[land.farm])
    state = ground_cover(crops, land, climate, farm, parcel, day)
    sky = Sky.draw(rng["sky"], country, land, knobs)
    ground = soil(
        sky.soil_red[land.farm[parcel]] * sky.wetness[land.village[parcel], day], sky.slope[land.farm[parcel]]
    )
    mixed = surface(state, ground, Leaf(leaf.visible[parcel], leaf.nir[parcel], leaf.swir[parcel]))
    reflectance = top_of_atmosphere(mixed, sky.haze[land.village[parcel], day]) * sky.gain
    reflectance *= sky.light[land.village[parcel], day][:, None] * sky.farm_gain[land.farm[parcel]]
    reflectance *= np.exp(knobs.noise * rng["sky"].normal(0, 0.02, reflectance.shape))
    return Observations(parcel, day, reflectance)
