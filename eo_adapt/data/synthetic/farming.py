"""What one farmer does otherwise than the crop table: dates, varieties, weeds, volunteers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .climate import Floats
from .crops import CROPS
from .landscape import Landscape


@dataclass(frozen=True)
class Management:
    """How one farmer's parcel departs from the book; all arrays (N,).

    Attributes:
        delay: Later (+) or earlier development, degree C x day.
        stretch: Thermal time requirement of the variety relative to the crop table.
        vigour: Factor of the peak cover.
        weeds: Cover before the crop rises, added to the table's.
        regrowth: Peak cover of volunteers or a catch crop after harvest.
        regrowth_lag: Thermal time from harvest to half that cover, degree C x day.
    """

    delay: Floats
    stretch: Floats
    vigour: Floats
    weeds: Floats
    regrowth: Floats
    regrowth_lag: Floats

    def take(self, rows: np.ndarray) -> Management:
        """The rows of some parcels (repeats allowed)."""
        return Management(**{name: getattr(self, name)[rows] for name in self.__dataclass_fields__})


@dataclass(frozen=True)
class Leaf:
    """Reflectance of a closed canopy relative to ``spectra.GREEN``: (M,) factors in three ranges."""

    visible: Floats
    nir: Floats
    swir: Floats


def management(rng: np.random.Generator, land: Landscape, noise: float) -> Management:
    """Farm and parcel departures from the crop table; ``noise`` scales their spread."""
    n, farms = len(land), land.farms

    def spread(of_farm: float, of_parcel: float) -> Floats:
        both = rng.normal(0, of_farm, farms)[land.farm] + rng.normal(0, of_parcel, n)
        return np.asarray(noise * both, dtype=np.float64)

    regrown = rng.random(n) < 0.45
    return Management(
        delay=spread(20, 25),
        stretch=np.exp(spread(0.015, 0.02)),
        vigour=np.exp(spread(0.03, 0.04)),
        weeds=rng.uniform(0, 0.35, farms)[land.farm] * np.ones(n),
        regrowth=np.where(regrown, rng.uniform(0.1, 0.7, n), 0.05),
        regrowth_lag=rng.uniform(120, 700, n),
    )


def leaves(rng: np.random.Generator, crops: npt.NDArray[np.str_], noise: float) -> Leaf:
    """Leaf factors of each parcel: the crop's own times a variety's departure."""
    spread = np.exp(noise * rng.normal(0, 1, (3, len(crops))) * np.array([[0.05], [0.04], [0.05]]))
    own = np.array([[CROPS[str(name)].visible, CROPS[str(name)].nir, CROPS[str(name)].swir] for name in crops]).T
    visible, nir, swir = own * spread
    return Leaf(visible, nir, swir)
