"""Numbers that cannot be what their unit says: decibels for linear backscatter, counts for reflectance."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

# Unit -> smallest and largest plausible value. Wide: they tell scales apart, not good data from bad.
RANGES = {"reflectance": (-0.5, 5.0), "dB": (-80.0, 50.0), "linear": (0.0, 1000.0)}
SHARE = 0.01  # of the values that may lie outside
OTHERS = {
    "reflectance": "scale them (Sentinel-2 counts: 1.0e-4)",
    "dB": "they look linear: declare units: linear, or convert them (10 log10)",
    "linear": "they look like decibels: declare units: dB, or convert them (10 ** (x / 10))",
}
DARK, SOME = -1.0, 0.05  # dB, and which share of a band at least lies below, where its median is not below 0
_POLARISED = re.compile("VV|VH|HH|HV", re.IGNORECASE)
_DERIVED = re.compile(r"ratio|angle|std|/", re.IGNORECASE)


def misfit(values: np.ndarray, units: str, bands: Sequence[str] = ()) -> str:
    """What speaks against a unit; "" if nothing does, or nothing is known of the unit.

    Besides the range, decibels of land and water are mostly below 0: a band of backscatter that is not, is linear.

    Args:
        values: Physical values of the pixels seen: (C, ...) where ``bands`` are given, else any shape, of one band.
            What is not finite does not count.
        units: Their unit.
        bands: Names of the bands; () = one band. Ratios (``VV-VH``, ``VV/VH``, ``ratio``) may have any sign.
    """
    known = values[np.isfinite(values)]
    if units not in RANGES or not known.size:
        return ""
    low, high = RANGES[units]
    outside = float(((known < low) | (known > high)).mean())
    bright = _bright(values, bands) if units == "dB" else ""
    if outside <= SHARE and not bright:
        return ""
    run = f"from {known.min():g} to {known.max():g}, {100 * outside:.0f} % of them outside {low:g} to {high:g}"
    return f"its values run {run}{bright}, which is no {units}: {OTHERS[units]}"


def not_decibels(values: np.ndarray) -> bool:
    """Whether backscatter of one band is too bright for decibels: median at 0 or above, and hardly a value below -1."""
    known = values[np.isfinite(values)]
    return bool(known.size) and float(np.median(known)) >= 0 and float((known < DARK).mean()) < SOME


def _bright(values: np.ndarray, bands: Sequence[str]) -> str:
    """Says which band of backscatter cannot be decibels; "" if none."""
    for row in backscatter(bands) if bands else ():
        if not_decibels(values[row]):
            known = values[row][np.isfinite(values[row])]
            return f", with a median of {np.median(known):g} in {bands[row]}, where backscatter in dB is below 0"
    return ", none of them clearly below 0" if not bands and not_decibels(values) else ""


def backscatter(bands: Sequence[str]) -> list[int]:
    """Which bands are backscatter: those named after one polarisation, or, where none is, all but ratios and angles."""
    plain = [i for i, name in enumerate(bands) if not _DERIVED.search(name) and len(_POLARISED.findall(name)) < 2]
    return [i for i in plain if _POLARISED.search(bands[i])] or plain
