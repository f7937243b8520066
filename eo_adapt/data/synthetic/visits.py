"""When the satellites pass and which of these dates are free of clouds.

Two satellites together repeat an orbit every 5 days (ESA, Sentinel-2 mission). A village lies in one swath, or in the
overlap of two. Swath and clouds follow the same law in every country, so that neither the number of dates nor their
list tells a country, unless ``gap_contrast`` gives each country its own clouds. Clouds come in spells (a first-order
autoregression) and are drawn farm by farm: smaller than real ones, so that no two splits, 1 km apart, share a list of
dates by which a probe could know a village again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from .climate import DAYS, Floats

Mask = npt.NDArray[np.bool_]

REPEAT = 5  # days
OVERLAP = 0.4  # share of the villages that two orbits see
SPELL = 0.6  # correlation of cloudiness from one day to the next


def passes(rng: np.random.Generator, villages: int) -> Mask:
    """(V, 365) True on days with an acquisition."""
    first = rng.integers(0, REPEAT, villages)
    second = (first + rng.integers(1, REPEAT, villages)) % REPEAT
    both = rng.random(villages) < OVERLAP
    phase = np.arange(DAYS) % REPEAT
    return np.asarray((phase == first[:, None]) | (both[:, None] & (phase == second[:, None])))


def cloudiness(common: float, own: Sequence[float], contrast: float) -> Floats:
    """Share of cloudy days, (365,) in [0, 1).

    Args:
        common: Share on every day in every country, at contrast 0.
        own: A country's share in each month, January first, at contrast 1; straight between the middles of months.
        contrast: 0..1, straight between the two.
    """
    middle = (np.arange(len(own)) + 0.5) * DAYS / len(own)
    year = np.interp(np.arange(DAYS), middle, own, period=DAYS)
    return np.asarray(common + contrast * (year - common), dtype=np.float64)


def clear_sky(rng: np.random.Generator, farms: int, cloud_share: Floats | float) -> Mask:
    """(F, 365) True on clear days; ``cloud_share`` (0..1; one number or (365,)) of the days are cloudy."""
    shocks = rng.normal(0, 1, (farms, DAYS))
    state = np.empty_like(shocks)
    state[:, 0] = shocks[:, 0]
    for day in range(1, DAYS):
        state[:, day] = SPELL * state[:, day - 1] + np.sqrt(1 - SPELL**2) * shocks[:, day]
    return np.asarray(state >= ndtri(cloud_share))


def visits(rng: np.random.Generator, village: npt.NDArray[np.int64], cloud_share: Floats | float) -> Mask:
    """(F, 365) True where an acquisition is clear; a farm without any keeps its first pass.

    Args:
        rng: Source of randomness.
        village: (F,) village of each farm.
        cloud_share: Share of cloudy days, 0..1; one number, or (365,) by day.
    """
    seen = passes(rng, int(village.max()) + 1)[village]
    clear = seen & clear_sky(rng, len(village), cloud_share)
    none = ~clear.any(axis=1)
    clear[none, np.argmax(seen[none], axis=1)] = True
    return clear
