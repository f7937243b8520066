"""Soil, haze and light: what a country's images have in common, and how farms and dates spread around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .climate import DAYS, Floats
from .countries import Country, typical
from .landscape import Landscape
from .spectra import WAVELENGTH

SOIL_RED = 0.082  # mean reflectance of soils in B04


@dataclass(frozen=True)
class Knobs:
    """Strengths that the simulation of a country reads; see CropWorld. ``cloud_share`` is one number or (365,)."""

    phenology: float
    radiometry: float
    noise: float
    cloud_share: Floats | float


def between(strength: float, country: float, name: str) -> float:
    """A country's number at strength 1, the mean of all countries at strength 0; the line goes on above 1."""
    return typical(name) + strength * (country - typical(name))


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
