"""Top-of-atmosphere reflectance of a field in the 13 bands of Sentinel-2.

Surface: a linear mixture of soil, green leaves, ripe straw and petals. Soil follows the soil line, a straight relation
between red and near infrared reflectance (Baret, Jacquemoud & Hanocq 1993, Remote Sensing Reviews 7, 65-82), carried on
to the other bands. Atmosphere: molecules scatter as wavelength**-4, haze as wavelength**-1.3 (Angstrom), path radiance
adds and dims. Spectra are rounded, typical in shape (red absorption, red edge, plateau, water absorption), and made for
this simulation; they are no measurements. Snow is left out: the publisher's filter on bright red drops such dates.
"""

from __future__ import annotations

import numpy as np

from .climate import Floats
from .farming import Leaf
from .phenology import Cover

WAVELENGTH = np.array([443, 492, 560, 665, 704, 741, 783, 833, 865, 945, 1374, 1614, 2202], dtype=np.float64)  # nm
GREEN = np.array([0.025, 0.03, 0.065, 0.035, 0.095, 0.30, 0.40, 0.43, 0.46, 0.44, 0.30, 0.21, 0.09])
STRAW = np.array([0.05, 0.06, 0.085, 0.105, 0.14, 0.175, 0.20, 0.22, 0.24, 0.25, 0.27, 0.29, 0.21])
PETALS = np.array([0.03, 0.04, 0.17, 0.16, 0.22, 0.40, 0.46, 0.49, 0.51, 0.48, 0.34, 0.26, 0.13])
SOIL_SLOPE = np.array([0.35, 0.50, 0.75, 1.0, 1.10, 1.14, 1.17, 1.20, 1.22, 1.23, 1.35, 1.60, 1.35])
SOIL_OFFSET = np.array([0.0, 0.0, 0.0, 0.0, 0.008, 0.016, 0.024, 0.03, 0.034, 0.036, 0.045, 0.06, 0.04])
GAS = np.array([1, 1, 1, 1, 1, 1, 1, 1, 1, 0.35, 0.015, 1, 1], dtype=np.float64)  # water vapour in B09 and B10
NIR = slice(5, 10)
VISIBLE = slice(0, 5)
SWIR = slice(10, 13)


def soil(red: Floats, slope: Floats | float = 1.0) -> Floats:
    """Spectra of bare soils on the soil line.

    Args:
        red: (M,) reflectance in B04; moist soils are dark.
        slope: Factor of the slope between red and the bands beyond the visible (mineralogy), 1 = common.

    Returns:
        (M, 13) reflectance.
    """
    beyond = WAVELENGTH > 700
    factor = np.where(beyond, np.asarray(slope, dtype=np.float64)[..., None], 1.0)
    return np.asarray(red[:, None] * SOIL_SLOPE * factor + SOIL_OFFSET, dtype=np.float64)


def canopy(leaf: Leaf) -> Floats:
    """Spectra (M, 13) of closed canopies."""
    spectrum = np.repeat(GREEN[None, :], len(leaf.nir), axis=0)
    spectrum[:, VISIBLE] *= leaf.visible[:, None]
    spectrum[:, NIR] *= leaf.nir[:, None]
    spectrum[:, SWIR] *= leaf.swir[:, None]
    return spectrum


def surface(cover: Cover, ground: Floats, leaf: Leaf) -> Floats:
    """Linear mixture (M, 13) of soil ``ground`` (M, 13), leaves, straw and petals by their cover."""
    bare = 1 - cover.green - cover.straw - cover.petals
    mixed = (
        bare[:, None] * ground
        + cover.green[:, None] * canopy(leaf)
        + cover.straw[:, None] * STRAW
        + cover.petals[:, None] * PETALS
    )
    return np.asarray(mixed, dtype=np.float64)


def top_of_atmosphere(ground: Floats, haze: Floats) -> Floats:
    """What the satellite sees.

    Args:
        ground: (M, 13) surface reflectance.
        haze: (M,) optical depth of the aerosol at 550 nm.

    Returns:
        (M, 13) reflectance: path + (1 - 1.5 path) x surface, times the gas transmission.
    """
    molecules = 0.085 * (443.0 / WAVELENGTH) ** 4
    aerosol = 0.10 * haze[:, None] * (550.0 / WAVELENGTH) ** 1.3
    path = molecules + aerosol
    return np.asarray((path + (1 - 1.5 * path) * ground) * GAS, dtype=np.float64)
