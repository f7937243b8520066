"""The simulated countries: real NUTS 3 regions at their real place, crop shares, and how their images look.

Shares are rounded to what such a country grows (Portugal: grassland, oats, maize; Estonia: grassland, wheat, barley,
rapeseed), floored so that each class can be learnt from a few hundred parcels. They are choices, no statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .crops import CROPS


@dataclass(frozen=True)
class Region:
    """A NUTS 3 region: code, and a place in its farmland, degrees."""

    nuts: str
    lon: float
    lat: float


@dataclass(frozen=True)
class Country:
    """One country.

    Attributes:
        code: ISO 3166 alpha-2.
        regions: Where its parcels lie.
        shares: Crop name -> weight of its parcels, any sum.
        private: Crops that no other country of this table grows.
        haze: Mean optical depth of the aerosol.
        moisture: Factor of the soil's red reflectance (dark = moist).
        soil_slope: Factor of the slope of the soil line.
        gain: Calibration and illumination factor at 443 nm and at 2202 nm, straight in wavelength between.
        clouds: Share of cloudy days in each month, January first; read at ``gap_contrast`` above 0 only.
    """

    code: str
    regions: tuple[Region, ...]
    shares: Mapping[str, float]
    private: tuple[str, ...]
    haze: float
    moisture: float
    soil_slope: float
    gain: tuple[float, float]
    clouds: tuple[float, ...]


_ORDER = (
    "winter_common_soft_wheat", "winter_barley", "winter_rye", "spring_barley", "oats", "winter_rapeseed_rape",
    "grain_maize_corn_popcorn", "potatoes", "sugar_beet", "peas", "pasture_meadow_grassland_grass", "alfalfa_lucerne",
)  # fmt: skip
SHARED = _ORDER
FLOOR = 0.03  # smallest share of a shared crop where priors are above 1


def _shares(*weights: float, **private: float) -> dict[str, float]:
    shares = {**dict(zip(_ORDER, weights, strict=True)), **private}
    if unknown := sorted(set(shares) - set(CROPS)):
        raise ValueError(f"shares name crops that are not in CROPS: {unknown}")
    return shares


# shares in percent:   wheat barley rye  spr.b oats rape maize potat beet peas grass lucerne
COUNTRIES: dict[str, Country] = {
    country.code: country
    for country in (
        Country("PT", (Region("PT184", -7.9, 37.9), Region("PT187", -7.7, 38.55), Region("PT185", -8.6, 39.1),
                       Region("PT186", -7.6, 39.25)),
                _shares(10, 7, 5, 7, 13, 4, 14, 7, 4, 6, 18, 5, sunflower=5, rice=5),
                ("rice",), 0.14, 1.05, 1.02, (1.02, 1.03),
                (0.50, 0.46, 0.46, 0.44, 0.38, 0.25, 0.15, 0.15, 0.28, 0.42, 0.50, 0.52)),
        Country("FR", (Region("FRB02", 1.4, 48.4), Region("FRB05", 1.4, 47.6), Region("FRB06", 2.45, 47.85),
                       Region("FRB01", 2.5, 47.1)),
                _shares(20, 10, 5, 8, 5, 11, 10, 5, 8, 6, 10, 5, sunflower=7),
                (), 0.15, 1.03, 1.01, (1.01, 1.02),
                (0.62, 0.55, 0.48, 0.44, 0.44, 0.40, 0.36, 0.36, 0.38, 0.46, 0.58, 0.64)),
        Country("AT", (Region("AT125", 16.45, 48.55), Region("AT123", 15.4, 48.2), Region("AT312", 14.25, 48.15),
                       Region("AT311", 13.2, 48.2)),
                _shares(17, 9, 8, 8, 5, 6, 14, 6, 7, 5, 10, 7, sunflower=6),
                (), 0.16, 1.0, 1.0, (1.0, 1.0),
                (0.62, 0.54, 0.47, 0.44, 0.45, 0.44, 0.40, 0.38, 0.40, 0.46, 0.62, 0.66)),
        Country("LV", (Region("LV009", 23.6, 56.5), Region("LV003", 22.0, 56.9), Region("LV008", 25.4, 57.75),
                       Region("LV007", 24.9, 56.95)),
                _shares(18, 5, 7, 11, 9, 9, 5, 6, 4, 7, 16, 5),
                (), 0.17, 0.96, 0.99, (0.98, 0.97),
                (0.80, 0.74, 0.66, 0.62, 0.55, 0.50, 0.48, 0.55, 0.66, 0.76, 0.85, 0.86)),
        Country("EE", (Region("EE008", 26.6, 58.1), Region("EE009", 25.7, 58.9), Region("EE004", 24.2, 58.5),
                       Region("EE00A", 27.15, 59.25)),
                _shares(15, 5, 7, 13, 9, 8, 4, 6, 4, 9, 15, 7, spring_rapeseed_rape=6),
                ("spring_rapeseed_rape",), 0.175, 0.94, 0.97, (0.97, 0.95),
                (0.86, 0.84, 0.82, 0.80, 0.64, 0.46, 0.44, 0.58, 0.80, 0.88, 0.92, 0.92)),
    )
}  # fmt: skip


def typical(name: str) -> float:
    """Mean over all countries of an attribute that is a number: what a knob at 0 uses everywhere."""
    return sum(float(getattr(country, name)) for country in COUNTRIES.values()) / len(COUNTRIES)


def crop_shares(country: Country, priors: float, private_class: float) -> dict[str, float]:
    """Crop name -> share of a country's parcels, summing to 1.

    Args:
        country: The country.
        priors: 0 = the mean over all countries for the shared crops, 1 = the country's own; above 1 the line from
            mean to own goes on, no shared crop below ``FLOOR`` of them.
        private_class: Factor of the weight of crops that not every country grows; 0 leaves them out.
    """
    if country.code not in COUNTRIES:
        raise ValueError(f"no country {country.code!r}; allowed: {sorted(COUNTRIES)}")
    totals = {code: sum(other.shares[name] for name in SHARED) for code, other in COUNTRIES.items()}
    weights: dict[str, float] = {}
    for name in SHARED:
        mean = sum(other.shares[name] / totals[code] for code, other in COUNTRIES.items()) / len(COUNTRIES)
        weights[name] = (1 - priors) * mean + priors * country.shares[name] / totals[country.code]
    if priors > 1:
        weights = _floored(weights)
    for name in country.shares:
        if name not in SHARED and private_class > 0:
            weights[name] = private_class * country.shares[name] / totals[country.code]
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _floored(shares: Mapping[str, float]) -> dict[str, float]:
    """Shares that sum to 1, none below ``FLOOR``: what lies above it is scaled to fill the rest."""
    above = {name: max(share - FLOOR, 0.0) for name, share in shares.items()}
    scale = (1 - FLOOR * len(shares)) / sum(above.values())
    return {name: FLOOR + scale * rest for name, rest in above.items()}
