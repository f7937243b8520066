"""Sentinel-1 backscatter on a map grid: folders of terrain-corrected GeoTIFFs (RTC, or GRD after geocoding).

Speckle is multiplicative: means must be taken of power, not of decibels (the mean of decibels of single-look speckle
lies 2.5 dB below the decibels of the mean). Images in decibels are turned into power pixel by pixel before anything
is summed; the mean is turned back at the end if decibels are wanted. Which of the two a file holds is declared, and
checked.
"""

from __future__ import annotations

import numpy as np

from .errors import BadImageError

# Power of natural surfaces lies between about 1e-4 (calm water) and 10 (cities); decibels of them are -40 to +10.
SAMPLE = 100_000


def to_power(decibels: np.ndarray) -> np.ndarray:
    """10 ** (dB / 10)."""
    power: np.ndarray = np.power(10.0, decibels / 10.0)
    return power


def to_decibels(power: np.ndarray) -> np.ndarray:
    """10 log10(power); NaN where there is no positive power."""
    with np.errstate(invalid="ignore", divide="ignore"):
        found: np.ndarray = 10.0 * np.log10(np.where(power > 0, power, np.nan))
    return found


def check_units(values: np.ndarray, decibels: bool, path: str) -> None:
    """Whether the numbers can be what they are declared to be.

    Args:
        values: Valid numbers of one block, after scale and offset.
        decibels: Whether they are declared to be decibels.
        path: Their file.

    Raises:
        BadImageError: If more than 1 % of power is negative, or no decibel is.
    """
    if values.size < 100:
        return
    sample = values[:: max(1, values.size // SAMPLE)]
    negative = float((sample < 0).mean())
    if not decibels and negative > 0.01:
        raise BadImageError(
            f"{path} is declared to hold linear power, but {negative:.0%} of its numbers are negative (median "
            f"{np.median(sample):.3g}): these are decibels, say backscatter=db"
        )
    if decibels and negative == 0:
        raise BadImageError(
            f"{path} is declared to hold decibels, but none of its numbers is negative (median "
            f"{np.median(sample):.3g}): "
            "this is linear power, say backscatter=linear"
        )
