"""Daily air temperature by place, and the thermal time that drives the crops.

The climate is a sinusoid a year (mean and amplitude) plus weather. Mean and amplitude are straight lines in latitude
and longitude, rounded so that they pass near the known yearly course of lowland Portugal (10 degree C in January, 23 in
July), the Beauce (4, 20), the Weinviertel (1, 22), Latvia (-4, 19) and Estonia (-6, 18). They stand for the climate of
this simulation, not for a measurement, and hold for European lowlands between 37 and 60 degrees north.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DAYS = 365
COLDEST_DAY = 20  # 21 January
DIURNAL = 5.0  # half the daily range, degree C
CAP = 30.0  # no further development above it, degree C


def mean_temperature(lat: Floats) -> Floats:
    """Yearly mean, degree C: 37.2 - 0.53 x latitude."""
    return 37.2 - 0.53 * lat


def amplitude(lon: Floats) -> Floats:
    """Half the difference between the warmest and the coldest day, degree C: more continental to the east."""
    return 7.9 + 0.15 * lon


def daily_temperature(lon: Floats, lat: Floats, weather: Floats) -> Floats:
    """Daily mean temperature.

    Args:
        lon: (V,) degrees.
        lat: (V,) degrees.
        weather: (V, 365) departure from the normal course, degree C.

    Returns:
        (V, 365) degree C.
    """
    phase = 2 * np.pi * (np.arange(DAYS) - COLDEST_DAY) / DAYS
    return mean_temperature(lat)[:, None] - amplitude(lon)[:, None] * np.cos(phase) + weather


def weather(rng: np.random.Generator, places: int, spread: float = 1.5, memory: float = 0.8) -> Floats:
    """Departures from the normal course: a first-order autoregression shared by a country, and altitude a place.

    Args:
        rng: Source of randomness.
        places: Number V of places.
        spread: Standard deviation of the daily departure, degree C.
        memory: Correlation from one day to the next.

    Returns:
        (V, 365) degree C.
    """
    shocks = rng.normal(0, spread * np.sqrt(1 - memory**2), DAYS)
    series = np.zeros(DAYS)
    for day in range(1, DAYS):
        series[day] = memory * series[day - 1] + shocks[day]
    altitude = rng.normal(0, 0.8, places)
    return series[None, :] + altitude[:, None]


def growing_degree_days(temperature: Floats, base: float, cap: float = CAP, diurnal: float = DIURNAL) -> Floats:
    """Heat units of each day, method 2 of McMaster & Wilhelm (1997): extremes are cut to [base, cap] before averaging.

    Agricultural and Forest Meteorology 87, 291-300; the upper cut is the one they describe for maize.

    Args:
        temperature: (..., 365) daily mean, degree C; the extremes lie ``diurnal`` above and below.
        base: No development below it, degree C.
        cap: No further development above it, degree C.
        diurnal: Half the daily range, degree C.

    Returns:
        (..., 365) degree C x day, at least 0.
    """
    warmest = np.clip(temperature + diurnal, base, cap)
    coldest = np.clip(temperature - diurnal, base, cap)
    return (warmest + coldest) / 2 - base


def day_length(lat: Floats) -> Floats:
    """Hours from sunrise to sunset, (V, 365) for latitudes (V,) in degrees between the polar circles.

    cos(hour angle) = -tan(latitude) tan(declination), declination 23.45 degrees x sin(2 pi (284 + n) / 365), n from 1.
    """
    declination = np.deg2rad(23.45) * np.sin(2 * np.pi * (285 + np.arange(DAYS)) / 365)
    angle = -np.tan(np.deg2rad(lat))[:, None] * np.tan(declination)
    return np.asarray(24 / np.pi * np.arccos(angle.clip(-1, 1)), dtype=np.float64)


def photoperiod(lat: Floats, base: float = 7.0, full: float = 14.0) -> Floats:
    """Slowing of winter crops by short days, (V, 365) in [0, 1]: linear in day length as in ARCWHEAT.

    Weir, Bragg, Porter & Rayner (1984), Journal of Agricultural Science 102, 371-382, multiply thermal time by such a
    factor; the two day lengths here, in hours, are rounded and this simulation's own.
    """
    return np.asarray(((day_length(lat) - base) / (full - base)).clip(0, 1), dtype=np.float64)


def smooth(temperature: Floats, window: int = 21) -> Floats:
    """Running mean over ``window`` days, the year closed to a ring."""
    half = window // 2
    ring = np.concatenate([temperature[..., -half:], temperature, temperature[..., :half]], axis=-1)
    total = np.cumsum(ring, axis=-1)
    total = np.concatenate([np.zeros_like(total[..., :1]), total], axis=-1)
    return np.asarray((total[..., window:] - total[..., :-window]) / window, dtype=np.float64)


def sowing_day(temperature: Floats, threshold: float) -> npt.NDArray[np.int64]:
    """First day (0 = 1 January) from which the smoothed temperature reaches ``threshold``, before the warmest day."""
    warm = smooth(temperature) >= threshold
    first_half = COLDEST_DAY + DAYS // 2
    cold = ~warm[..., :first_half]
    last_cold = first_half - 1 - np.argmax(cold[..., ::-1], axis=-1)
    return np.where(cold.any(axis=-1), last_cold + 1, 0).astype(np.int64)


def season_end(temperature: Floats, threshold: float) -> npt.NDArray[np.int64]:
    """First day after the warmest one on which the smoothed temperature is below ``threshold``; 365 if none."""
    second_half = COLDEST_DAY + DAYS // 2
    cold = smooth(temperature)[..., second_half:] < threshold
    return np.where(cold.any(axis=-1), np.argmax(cold, axis=-1) + second_half, DAYS).astype(np.int64)
