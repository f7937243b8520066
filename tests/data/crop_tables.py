"""Simulated crops as flat tables, and probes that ask what a feature gives away."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from eo_adapt.data.synthetic.countries import SHARED
from eo_adapt.data.synthetic.eurocropsml import CLOUDY_RED, CropWorld

GRID = np.arange(0, 365, 10)
BANDS = [1, 2, 3, 4, 5, 7, 11, 12]


@dataclass(frozen=True)
class Table:
    """One country: crops (N,), held-out parcels (N,), and observations sorted by parcel and day."""

    crops: npt.NDArray[np.str_]
    test: npt.NDArray[np.bool_]
    parcel: npt.NDArray[np.int64]
    day: npt.NDArray[np.int64]
    reflectance: npt.NDArray[np.float64]

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """Parcels of a crop that all countries grow."""
        return np.isin(self.crops, SHARED)

    def grid(self, moved: int = 0) -> npt.NDArray[np.float64]:
        """(N, features): bands and NDVI every 10 days, by linear interpolation; ``moved`` days are taken off."""
        nir, red = self.reflectance[:, 7], self.reflectance[:, 3]
        values = np.column_stack([self.reflectance[:, BANDS], (nir - red) / (nir + red)])
        bounds = np.searchsorted(self.parcel, np.arange(len(self.crops) + 1))
        rows = [
            np.concatenate([np.interp(GRID, self.day[a:b] - moved, column) for column in values[a:b].T])
            for a, b in itertools.pairwise(bounds)
        ]
        return np.array(rows)

    def near(self, day: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
        """Which parcels were seen within a week of ``day``, and (N, 13) reflectance of one such date."""
        rows = np.flatnonzero(np.abs(self.day - day) <= 7)
        found, values = np.zeros(len(self.crops), bool), np.zeros((len(self.crops), 13))
        found[self.parcel[rows]], values[self.parcel[rows]] = True, self.reflectance[rows]
        return found, values


def table(world: CropWorld, code: str) -> Table:
    land, crops, seen = world.simulate(code)
    kept = seen.reflectance[:, 3] <= CLOUDY_RED
    held_out = np.random.default_rng(5).random(len(land.village_lon)) < 0.35
    return Table(crops, held_out[land.village], seen.parcel[kept], seen.day[kept], seen.reflectance[kept])


def forest() -> RandomForestClassifier:
    return RandomForestClassifier(80, random_state=0, class_weight="balanced_subsample", n_jobs=1)


def logistic() -> object:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))


def domain_score(source: Table, target: Table, a: np.ndarray, b: np.ndarray, seen: np.ndarray | None = None) -> float:
    """Balanced accuracy of telling source from target on held-out villages."""
    x, test = np.concatenate([a, b]), np.concatenate([source.test, target.test])
    country = np.repeat([0, 1], [len(a), len(b)])
    keep = np.ones(len(x), bool) if seen is None else seen
    probe = forest().fit(x[keep & ~test], country[keep & ~test])
    return float(balanced_accuracy_score(country[keep & test], probe.predict(x[keep & test])))


def dates(one: Table) -> npt.NDArray[np.float64]:
    """(N, 365) 1 on days with an observation."""
    found = np.zeros((len(one.crops), 365))
    found[one.parcel, one.day] = 1
    return found
