"""A year of made-up land cover as Sentinel-2 and Sentinel-1 see it, on the 10 x 10 pixels of a patch of FLAIR-HUB.

What leaves and straw cover, class by class, follows the season; spectra, clouds and speckle are those of the embedded
PASTIS. All of it is made up: curves are round and typical, no measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .aerial_land import BUILDING, DECIDUOUS, FIELD, HERBACEOUS, IMPERVIOUS, SOIL, VINEYARD, WATER
from .climate import DAYS
from .pastis_land import BANDS, CLOUD, GRAZING, veil
from .spectra import GREEN, STRAW
from .spectra import soil as soil_spectrum

Floats = npt.NDArray[np.float64]
CONIFEROUS, PLOWED = 6, 12  # FLAIR#1; made of woods and of bare soil, by :func:`reclassed`
CLASSES = (BUILDING, IMPERVIOUS, SOIL, WATER, CONIFEROUS, DECIDUOUS, VINEYARD, HERBACEOUS, FIELD, PLOWED)
WOOD = 300  # pixels of a wood; smaller ones are single trees, and deciduous
LOOKS = 5.0
DRY_SOIL = 0.13  # reflectance in B04
# class -> what it adds to VV and VH of bare soil, dB: corners, smooth roads, water, twigs
STRUCTURE = {
    BUILDING: (7.0, 8.0), IMPERVIOUS: (-3.5, -2.5), WATER: (-9.0, -8.0), CONIFEROUS: (2.5, 4.5), DECIDUOUS: (1.0, 2.5),
    VINEYARD: (1.0, 1.0),
}  # fmt: skip
THIN, THICK = 0.15, 0.60  # opacity at which the mask begins to see a cloud, and is sure of it


@dataclass(frozen=True)
class Sky:
    """One department above the land.

    Attributes:
        delay: Days that the season is late.
        gain: Factor of Sentinel-2's reflectance in the first and the last band.
        clouds: Mean share of a date that is cloud.
        angles: Incidence angle of ascending and descending orbits, degrees.
    """

    delay: float
    gain: tuple[float, float]
    clouds: float
    angles: tuple[float, float]


SKIES: Mapping[str, Sky] = {
    "D006_2020": Sky(-14.0, (1.04, 1.02), 0.18, (36.0, 40.0)),
    "D033_2021": Sky(-6.0, (1.00, 1.00), 0.28, (39.0, 36.0)),
    "D058_2020": Sky(4.0, (1.00, 0.98), 0.30, (37.0, 41.0)),
    "D067_2021": Sky(8.0, (0.98, 1.02), 0.32, (41.0, 38.0)),
    "D064_2021": Sky(-4.0, (0.95, 0.98), 0.50, (44.0, 34.0)),
    "D071_2020": Sky(6.0, (1.05, 0.97), 0.55, (34.0, 43.0)),
}


def sky(name: str, clouds: float, radiometry: float) -> Sky:
    """A department's sky; at strength 0 all have the same clouds, gains and angles, those of a usual department."""
    own = SKIES[name]
    gain, angles = (
        tuple(float(usual + radiometry * (x - usual)) for x in listed)
        for usual, listed in ((1.0, own.gain), (38.5, own.angles))
    )
    return Sky(own.delay, gain, 0.28 + clouds * (own.clouds - 0.28), angles)  # type: ignore[arg-type]  # pairs stay pairs


def reclassed(rng: np.random.Generator, labels: np.ndarray) -> npt.NDArray[np.uint8]:
    """Half of a zone's woods become coniferous and half of its bare parcels plowed; the season tells them apart."""
    from scipy.ndimage import label

    out = labels.astype(np.uint8).copy()
    for old, new, least in ((DECIDUOUS, CONIFEROUS, WOOD), (SOIL, PLOWED, 0)):
        parts, count = label(labels == old)
        large = np.bincount(parts.ravel(), minlength=count + 1) > least
        chosen = large & (rng.random(count + 1) < 0.5)
        chosen[0] = False
        out[chosen[parts]] = new
    return out


def bump(days: np.ndarray, first: float, last: float, slope: float = 12.0) -> Floats:
    """(T,) between 0 and 1, near 1 from ``first`` to ``last``, days of the year; may reach over New Year."""
    away = np.abs((np.asarray(days, np.float64) - (first + last) / 2 + DAYS / 2) % DAYS - DAYS / 2)
    return np.asarray(1 / (1 + np.exp((away - (last - first) / 2) / slope)))


def covers(days: np.ndarray) -> tuple[dict[int, Floats], dict[int, Floats]]:
    """Class -> share of leaves (T,), and of straw, on days of the year; the rest is soil, water, stone or roof."""
    leafy, flat = bump(days, 110, 300), np.ones(len(days))
    green = {
        DECIDUOUS: 0.12 + 0.75 * leafy, CONIFEROUS: 0.80 * flat, VINEYARD: 0.10 + 0.40 * bump(days, 135, 290),
        HERBACEOUS: 0.55 + 0.25 * bump(days, 90, 170), FIELD: 0.05 + 0.85 * bump(days, 75, 175),
        PLOWED: 0.02 + 0.70 * bump(days, 290, 460),
    }  # fmt: skip
    straw = {
        DECIDUOUS: 0.55 * (1 - leafy), HERBACEOUS: 0.10 + 0.15 * bump(days, 200, 270),
        FIELD: 0.75 * bump(days, 190, 225, 6.0) * (1 - bump(days, 75, 175)),
    }  # fmt: skip
    return green, straw


def spectra(days: np.ndarray, vigour: float) -> Floats:
    """(K, T, 10) reflectance of the classes of :data:`CLASSES` on days of the year."""
    green, straw = covers(days)
    ground = soil_spectrum(np.array([DRY_SOIL]))[0, BANDS]
    bare = {
        BUILDING: 1.1 * STRAW[BANDS] + 0.05,
        IMPERVIOUS: 0.7 * STRAW[BANDS] + 0.06,
        WATER: np.linspace(0.05, 0.01, 10),
    }
    shade = {CONIFEROUS: 0.65, DECIDUOUS: 0.9}
    found = []
    for k in CLASSES:
        g = vigour * green.get(k, np.zeros(len(days)))[:, None]
        s = straw.get(k, np.zeros(len(days)))[:, None] * (1 - g)
        mixed = (1 - g - s).clip(0) * bare.get(k, ground) + g * GREEN[BANDS] + s * STRAW[BANDS]
        found.append(shade.get(k, 1.0) * mixed)
    return np.stack(found)


def sentinel2(
    rng: np.random.Generator, fractions: Floats, days: np.ndarray, cloudy: np.ndarray, above: Sky
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """(T, 10, S, S) counts, clouds and all, and (T, 2, S, S) percent of snow and cloud as a mask sees them.

    Args:
        rng: Source of randomness.
        fractions: (K, S, S) share of each class in each pixel.
        days: (T,) of the year.
        cloudy: (T,) share of each date that is cloud.
        above: The department's sky.
    """
    size = fractions.shape[1]
    pure = spectra(days - above.delay - rng.normal(0, 4), float(np.exp(rng.normal(0, 0.1))))
    clear = np.einsum("khw,ktc->tchw", fractions, pure) * np.linspace(*above.gain, 10)[:, None, None]
    clear = clear * np.exp(rng.normal(0, 0.05, (size, size))) + rng.normal(0, 0.006, clear.shape)
    white = np.stack([veil(rng, size, float(share)) for share in cloudy])[:, None]
    bright = CLOUD[:, None, None] * np.exp(rng.normal(0, 0.1, (len(days), 1, 1, 1)))
    counts = np.rint(1e4 * (clear * (1 - white) + bright * white)).clip(1, 30000)
    seen = np.rint(100 * ((white - THIN) / (THICK - THIN)).clip(0, 1))  # thin veils escape
    return counts.astype(np.uint16), np.concatenate([np.zeros_like(seen), seen], 1).astype(np.uint8)


def sentinel1(
    rng: np.random.Generator, fractions: Floats, days: np.ndarray, angle: float, delay: float
) -> npt.NDArray[np.float32]:
    """(T, 2, S, S) VV and VH, dB, with speckle; leaves dim soils in VV and scatter in VH, clouds do nothing.

    Args:
        rng: Source of randomness.
        fractions: (K, S, S) share of each class in each pixel.
        days: (T,) of the year.
        angle: Incidence angle of the orbit, degrees.
        delay: Days that the season is late.
    """
    green = covers(days - delay)[0]
    leaves = np.stack([green.get(k, np.zeros(len(days))) for k in CLASSES])  # (K, T)
    add = np.array([STRUCTURE.get(k, (0.0, 0.0)) for k in CLASSES])[:, :, None]  # (K, 2, 1)
    wet = rng.normal(0, 1.0, len(days)) * np.array([[1.0], [0.5]])
    pure = np.array([[-11.0], [-19.5]]) + np.array([[-2.5], [4.0]]) * leaves[:, None] + add + wet
    pure -= GRAZING * (angle - 38.5)
    power = np.einsum("khw,kbt->tbhw", fractions, 10 ** (pure / 10))
    return np.asarray(10 * np.log10(power * rng.gamma(LOOKS, 1 / LOOKS, power.shape)), np.float32)


def shares_of(labels: np.ndarray, size: int) -> Floats:
    """(K, size, size) share of each of :data:`CLASSES` in coarser pixels, not in step with those of labels."""
    weights = []
    for side in labels.shape:
        edges = np.linspace(0, side, size + 1)
        over = np.minimum(edges[1:, None], np.arange(1, side + 1)) - np.maximum(edges[:-1, None], np.arange(side))
        weights.append(over.clip(0) * size / side)
    return np.stack([weights[0] @ (labels == k) @ weights[1].T for k in CLASSES])
