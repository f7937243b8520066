"""Cover of green leaves, ripe straw and petals over thermal time.

Greenness follows the double logistic of Zhang et al. (2003, Remote Sensing of Environment 84, 471-475) and Beck et al.
(2006, same journal 100, 321-334), with thermal time in place of the calendar: the days between two stages then depend
on climate and crop. Ripe straw and stubble fill what the leaves leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .climate import DAYS, Floats, growing_degree_days, photoperiod, season_end, sowing_day
from .crops import Crop
from .farming import Management

REFERENCE_HEAT = 4500.0  # degree C x day a year above 0 for which the crop table is written
ADAPTATION = 0.7  # exponent: how closely the varieties grown follow the heat of the year


@dataclass(frozen=True)
class Cover:
    """Fractions of the ground, each (M,), together at most 1: green leaves, ripe straw, petals."""

    green: Floats
    straw: Floats
    petals: Floats


def logistic(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), safe for large arguments."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)), dtype=np.float64)


def double_logistic(
    s: Floats, before: Floats, peak: Floats, after: Floats, up: Floats, up_width: float, down: Floats, down_width: float
) -> Floats:
    """Rise from ``before`` to ``peak`` around ``up``, fall to ``after`` around ``down`` (Beck et al. 2006, eq. 3).

    Beck's winter value is one number; here it may differ before and after the season.
    """
    rise = logistic((s - up) / up_width)
    fall = logistic((s - down) / down_width)
    return before + (peak - before) * rise - (peak - after) * fall


def adaptation(temperature: Floats) -> Floats:
    """Factor of all thermal requirements where the year is shorter or longer than in the crop table.

    Farmers grow early varieties where summers are short: requirement ~ (yearly heat / reference) ** 0.7.

    Args:
        temperature: (V, 365) degree C.

    Returns:
        (V,) factor, 1 at the reference.
    """
    heat = growing_degree_days(temperature, 0.0).sum(axis=-1)
    return np.asarray((heat / REFERENCE_HEAT) ** ADAPTATION, dtype=np.float64)


@dataclass(frozen=True)
class Calendar:
    """Thermal time of one crop at V places.

    Attributes:
        heat: (V, 365) degree C x day since sowing (negative before), in units of the crop table: divided by the
            local adaptation.
        end: (V,) thermal time at which autumn ends the season, degree C x day.
    """

    heat: Floats
    end: Floats


def calendar(crop: Crop, temperature: Floats, lat: Floats) -> Calendar:
    """Thermal time since sowing; since 1 January, slowed by short days, for crops that stand through winter.

    Args:
        crop: Its base and sowing temperature.
        temperature: (V, 365) degree C.
        lat: (V,) degrees.
    """
    places = np.arange(len(temperature))
    heat = growing_degree_days(temperature, crop.base)
    total = np.cumsum(heat * photoperiod(lat) if crop.sown is None else heat, axis=-1)
    if crop.sown is not None:
        total = total - total[places, sowing_day(temperature, crop.sown)][:, None]
    heat = total / adaptation(temperature)[:, None]
    end = heat[places, np.minimum(season_end(temperature, crop.killed), DAYS - 1)]
    return Calendar(heat, end)


def cover(crop: Crop, heat: Floats, end: Floats, farm: Management) -> Cover:
    """State of M observations of one crop.

    Args:
        crop: Its growth.
        heat: (M,) thermal time, degree C x day.
        end: (M,) thermal time of the end of the season.
        farm: Management of the parcel of each observation, arrays (M,).
    """
    s = (heat - farm.delay) / farm.stretch
    stop = np.minimum(crop.harvest, end / farm.stretch)
    ripe = np.minimum(crop.down, stop)
    before = np.minimum(crop.winter + farm.weeds, 0.6)
    peak = np.minimum(crop.peak * farm.vigour, 0.97)
    left = before if crop.perennial else np.full_like(s, 0.04)
    green = double_logistic(s, before, peak, left, np.full_like(s, crop.up), crop.up_width, ripe, crop.down_width)
    for cut in crop.cuts:
        since = s - cut
        green = green * (1 - crop.cut_depth * (since > 0) * np.exp(-np.maximum(since, 0) / 180.0))
    if crop.perennial:
        return Cover(green, 0.3 * (peak - green).clip(0), np.zeros_like(s))
    gone = logistic((s - stop) / 12.0)
    again = farm.regrowth * logistic((s - stop - farm.regrowth_lag) / 60.0)
    green = green * (1 - gone) + again * gone
    ripened = peak * logistic((s - ripe) / crop.down_width)
    straw = np.minimum(0.9 * ripened * (1 - gone) + 0.35 * gone, 1 - green)
    petals = _petals(crop, s, green)
    return Cover(green - petals, straw, petals)


def _petals(crop: Crop, s: Floats, green: Floats) -> Floats:
    if crop.flower is None:
        return np.zeros_like(s)
    when, width, share = crop.flower
    return np.asarray(share * green * np.exp(-0.5 * ((s - when) / width) ** 2), dtype=np.float64)
