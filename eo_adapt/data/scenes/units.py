"""Numbers that cannot be what their unit says: decibels for linear backscatter, counts for reflectance."""

from __future__ import annotations

import numpy as np

# Unit -> smallest and largest plausible value. Wide: they tell scales apart, not good data from bad.
RANGES = {"reflectance": (-0.5, 5.0), "dB": (-80.0, 50.0), "linear": (0.0, 1000.0)}
SHARE = 0.01  # of the values that may lie outside
OTHERS = {
    "reflectance": "scale them (Sentinel-2 counts: 1.0e-4)",
    "dB": "they look linear: declare units: linear, or convert them (10 log10)",
    "linear": "they look like decibels: declare units: dB, or convert them (10 ** (x / 10))",
}


def misfit(values: np.ndarray, units: str) -> str:
    """What speaks against a unit; "" if nothing does, or nothing is known of the unit.

    Besides the range, decibels of land and water are below 0 in some band: where no value is, they are linear.

    Args:
        values: Physical values of the pixels seen, any shape.
        units: Their unit.
    """
    if units not in RANGES or not values.size:
        return ""
    low, high = RANGES[units]
    outside = float(((values < low) | (values > high)).mean())
    positive = units == "dB" and not (values < 0).any()
    if outside <= SHARE and not positive:
        return ""
    found = f"from {values.min():g} to {values.max():g}, {100 * outside:.0f} % of them outside {low:g} to {high:g}"
    return f"its values run {found}, which is no {units}: {OTHERS[units]}"
