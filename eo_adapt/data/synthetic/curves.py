"""Greenness and reflectance of made-up crops: a double logistic a class, shifted in time by region."""

from __future__ import annotations

import numpy as np

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_SOIL = (0.15, 0.11, 0.13, 0.16, 0.18, 0.20, 0.22, 0.24, 0.26, 0.08, 0.002, 0.32, 0.27)  # as BANDS
_LEAF = (0.13, 0.08, 0.09, 0.05, 0.11, 0.28, 0.36, 0.40, 0.42, 0.12, 0.003, 0.18, 0.09)
_CLOUD = (0.60, 0.60, 0.58, 0.58, 0.60, 0.62, 0.64, 0.64, 0.64, 0.30, 0.050, 0.40, 0.33)


def greenness(days: np.ndarray, start: float, end: float, low: float = 0.15, high: float = 0.85) -> np.ndarray:
    """NDVI-like curve that rises around day ``start`` and falls around day ``end``; same shape as ``days``."""
    rise, fall = (1 / (1 + np.exp(-0.09 * (np.asarray(days, float) - day))) for day in (start, end))
    curve: np.ndarray = low + (high - low) * (rise - fall)
    return curve


def reflectance(green: np.ndarray, bands: tuple[str, ...], cloud: np.ndarray | float = 0.0) -> np.ndarray:
    """Reflectance (..., C) of soil, leaves and cloud mixed by ``green`` (...) and ``cloud`` (...), both 0 to 1."""
    at = [BANDS.index(band) for band in bands]
    soil, leaf, white = (np.array(spectrum)[at] for spectrum in (_SOIL, _LEAF, _CLOUD))
    ground = soil + (leaf - soil) * np.asarray(green)[..., None]
    mixed: np.ndarray = ground + (white - ground) * np.asarray(cloud)[..., None]
    return mixed
