"""All observations of one country: growth, soil, sky and sensor put together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .climate import DAYS, Floats, daily_temperature, weather
from .countries import COUNTRIES, Country, typical
from .crops import CROPS
from .landscape import Landscape
from .phenology import Cover, Management, calendar, cover
from .spectra import WAVELENGTH, Leaf, soil, surface, top_of_atmosphere
from .visits import visits

RED = 3  # position of B04
SOIL_RED = 0.082  # mean reflectance of soils in B04


@dataclass(frozen=True)
class Knobs:
    """Strengths in [0, 1] (``noise``: at least 0) that the simulation of a country reads; see CropWorld."""

    phenology: float
    radiometry: float
    noise: float
    cloud_share: float


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


def between(strength: float, country: float, name: str) -> float:
    """A country's number at strength 1, the mean of all countries at strength 0."""
    return typical(name) + strength * (country - typical(name))


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


def management(rng: np.random.Generator, land: Landscape, noise: float) -> Management:
    """Farm and parcel departures from the crop table; ``noise`` scales their spread."""
    n, farms = len(land), land.farms

    def spread(of_farm: float, of_parcel: float) -> Floats:
        both = rng.normal(0, of_farm, farms)[land.farm] + rng.normal(0, of_parcel, n)
        return np.asarray(noise * both, dtype=np.float64)

    regrown = rng.random(n) < 0.45
    return Management(
        delay=spread(20, 25),
        stretch=np.exp(spread(0.015, 0.02)),
        vigour=np.exp(spread(0.03, 0.04)),
        weeds=rng.uniform(0, 0.35, farms)[land.farm] * np.ones(n),
        regrowth=np.where(regrown, rng.uniform(0.1, 0.7, n), 0.05),
        regrowth_lag=rng.uniform(120, 700, n),
    )


def ground_cover(
    crops: npt.NDArray[np.str_], land: Landscape, climate: Climate, farm: Management, parcel: np.ndarray, day: np.ndarray
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


def leaves(rng: np.random.Generator, crops: npt.NDArray[np.str_], noise: float) -> Leaf:
    """Leaf factors of each parcel: the crop's own times a variety's departure."""
    spread = np.exp(noise * rng.normal(0, 1, (3, len(crops))) * np.array([[0.05], [0.04], [0.05]]))
    own = np.array([[CROPS[str(name)].visible, CROPS[str(name)].nir, CROPS[str(name)].swir] for name in crops]).T
    visible, nir, swir = own * spread
    return Leaf(visible, nir, swir)


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
    seen = visits(rng["dates"], len(land.village_lon), knobs.cloud_share)
    parcel, day = np.nonzero(seen[land.village])
    state = ground_cover(crops, land, climate, farm, parcel, day)
    sky = Sky.draw(rng["sky"], country, land, knobs)
    ground = soil(sky.soil_red[land.farm[parcel]] * sky.wetness[land.village[parcel], day], sky.slope[land.farm[parcel]])
    mixed = surface(state, ground, Leaf(leaf.visible[parcel], leaf.nir[parcel], leaf.swir[parcel]))
    reflectance = top_of_atmosphere(mixed, sky.haze[land.village[parcel], day]) * sky.gain
    reflectance *= sky.light[land.village[parcel], day][:, None] * sky.farm_gain[land.farm[parcel]]
    reflectance *= np.exp(knobs.noise * rng["sky"].normal(0, 0.02, reflectance.shape))
    return Observations(parcel, day, reflectance)


@dataclass(frozen=True)
class Sky:
    """Soil, haze and light of one country.

    Attributes:
        gain: (13,) factor of the country.
        farm_gain: (F, 13) factor of a farm: slope of the ground, mineralogy.
        light: (V, 365) factor of a date: sun, view.
        haze: (V, 365) optical depth.
        soil_red: (F,) reflectance of the dry soil in B04.
        slope: (F,) factor of the slope of the soil line.
        wetness: (V, 365) factor of the soil's reflectance.
    """

    gain: Floats
    farm_gain: Floats
    light: Floats
    haze: Floats
    soil_red: Floats
    slope: Floats
    wetness: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, country: Country, land: Landscape, knobs: Knobs) -> Sky:
        """Country means moved by ``radiometry``, farms and dates spread around them by ``noise``."""
        villages, farms, noise, strength = len(land.village_lon), land.farms, knobs.noise, knobs.radiometry
        position = (WAVELENGTH - WAVELENGTH[0]) / (WAVELENGTH[-1] - WAVELENGTH[0])
        own = country.gain[0] + (country.gain[1] - country.gain[0]) * position
        haze = between(strength, country.haze, "haze") * np.exp(noise * rng.normal(0, 0.6, (villages, DAYS)))
        red = SOIL_RED * between(strength, country.moisture, "moisture") * np.exp(noise * rng.normal(0, 0.2, farms))
        tilt = rng.normal(0, 0.05, (farms, 1)) + rng.normal(0, 0.05, (farms, 1)) * (position - 0.3)
        return cls(
            gain=1 + strength * (own - 1),
            farm_gain=np.exp(noise * (tilt + rng.normal(0, 0.025, (farms, len(WAVELENGTH))))),
            light=np.exp(noise * rng.normal(0, 0.05, (villages, DAYS))),
            haze=haze,
            soil_red=red,
            slope=between(strength, country.soil_slope, "soil_slope") * np.exp(noise * rng.normal(0, 0.05, farms)),
            wetness=np.exp(noise * rng.normal(0, 0.12, (villages, DAYS))),
        )
