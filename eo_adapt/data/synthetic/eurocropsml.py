"""Writes a simulated data set in the layout of EuroCropsML.

The shift to study is FR + AT -> EE. Measured with an L-TAE, villages held out, macro-F1 over the twelve shared crops,
mean of three runs on seed 0: source-only 0.53, trained on the target 0.90, source in-domain 0.89, source-only with the
target's days moved by 10 (chosen with target labels) 0.80. Other seeds: source-only 0.46 and 0.49. The loss is
phenology; radiometry alone costs no more than runs differ by at strength 1. PT lies further off than FR and AT, LV
close to EE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .countries import COUNTRIES, Country, crop_shares
from .crops import CROPS
from .landscape import Landscape, assign_crops, landscape
from .publish import write_splits
from .scene import RED, Observations, observe
from .sky import Knobs
from .visits import cloudiness

SCALE = 10_000  # counts a unit of reflectance
CLOUDY_RED = 0.16  # publisher's filter: probability (red - 0.07) / (0.25 - 0.07) above one half is cloud
# knob -> largest value; 1 is what a country is like, more is for tests that need one cause to be plain
LARGEST = {"phenology": 1.0, "radiometry": 5.0, "priors": 3.0, "gaps": 1.0, "gap_contrast": 1.0, "private_class": 3.0}
_STREAMS = ("land", "crops", "weather", "farm", "sky", "dates")


@dataclass
class CropWorld:
    """Crops of several countries as Sentinel-2 sees them, with causes of shift that can be set one by one.

    A knob lies between 0 and its ``LARGEST`` and leaves the draws of the others untouched: two worlds of one seed
    differ by that cause alone.

    Attributes:
        countries: ISO codes, from ``eo_adapt.data.synthetic.countries.COUNTRIES``.
        parcels_per_country: Parcels of each country.
        seed: Everything random follows from it, country by country, whatever other countries there are.
        year: Year of the dates (2021 is the year of EuroCropsML).
        noise: Spread between farms, parcels and dates; 1 = as described in farming.py and sky.py, 0 = none.
        cloud_share: Share of cloudy days where ``gaps`` is 1.
        phenology: 1 = each country's climate, 0 = one climate in the middle for all.
        radiometry: 1 = each country's haze, soil and gain, 0 = their mean everywhere; up to 5 times the departure
            from that mean.
        priors: 1 = each country's crop shares, 0 = their mean everywhere; up to 3 times the departure from that mean,
            each shared crop keeping 3 %.
        gaps: 1 = ``cloud_share`` of the days are lost, 0 = every pass is clear; alike in all countries.
        gap_contrast: 1 = each country's own cloud share month by month, whatever ``gaps``; 0 = alike in all countries.
        private_class: 1 = crops that not every country grows have their share, 0 = they are left out; up to 3 times
            their weight.
        targets: Countries of the split file's fine-tuning part; the others are for pre-training.
    """

    countries: Sequence[str] = ("PT", "FR", "AT", "LV", "EE")
    parcels_per_country: int = 1500
    seed: int = 0
    year: int = 2021
    noise: float = 1.0
    cloud_share: float = 0.5
    phenology: float = 1.0
    radiometry: float = 1.0
    priors: float = 1.0
    gaps: float = 1.0
    gap_contrast: float = 0.0
    private_class: float = 1.0
    targets: Sequence[str] = ("EE",)

    def __post_init__(self) -> None:
        if unknown := sorted({*self.countries, *self.targets} - set(COUNTRIES)):
            raise ValueError(f"unknown countries {unknown}; allowed: {sorted(COUNTRIES)}")
        if not self.countries or len(set(self.countries)) != len(self.countries):
            raise ValueError(f"countries must be one or more different codes; got {list(self.countries)}")
        if self.parcels_per_country < 1 or self.noise < 0 or not 0 <= self.cloud_share < 1:
            raise ValueError(
                "parcels_per_country must be at least 1, noise at least 0 and cloud_share in [0, 1); got "
                f"{self.parcels_per_country}, {self.noise} and {self.cloud_share}"
            )
        for knob, largest in LARGEST.items():
            if not 0 <= getattr(self, knob) <= largest:
                raise ValueError(f"{knob} must lie in [0, {largest:g}]; got {getattr(self, knob)}")

    def write(self, root: Path) -> None:
        """Write ``preprocess/*.npz`` and the split files below ``root``.

        Raises:
            FileExistsError: ``root`` holds parcels already.
        """
        folder = Path(root) / "preprocess"
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty; write a simulated data set to a new folder")
        names: dict[str, list[str]] = {}
        for code in self.countries:
            names[code] = _write_country(folder, *self.simulate(code), COUNTRIES[code], self.year)
        write_splits(Path(root) / "split", names, self.targets, self.seed)

    def simulate(self, code: str) -> tuple[Landscape, npt.NDArray[np.str_], Observations]:
        """Parcels, crop of each parcel, and all its observations for one country."""
        country = COUNTRIES[code]
        rng = streams(self.seed, code)
        land = landscape(rng["land"], country.regions, self.parcels_per_country)
        crops = assign_crops(rng["crops"], land, crop_shares(country, self.priors, self.private_class))
        clouds = cloudiness(self.cloud_share * self.gaps, country.clouds, self.gap_contrast)
        knobs = Knobs(self.phenology, self.radiometry, self.noise, clouds)
        return land, crops, observe(rng, country, land, crops, knobs)


def streams(seed: int, code: str) -> dict[str, np.random.Generator]:
    """Independent random streams of one country, the same whatever else is simulated."""
    return {name: np.random.default_rng([seed, *code.encode(), place]) for place, name in enumerate(_STREAMS)}


def _write_country(
    folder: Path, land: Landscape, crops: npt.NDArray[np.str_], seen: Observations, country: Country, year: int
) -> list[str]:
    """One npz a parcel, with the publisher's keys, dtypes and cloud filter; returns the file names."""
    counts = np.rint(np.clip(seen.reflectance, 0, 2) * SCALE).astype(np.int64)
    dates = np.datetime64(f"{year}-01-01", "D") + seen.day
    bounds = np.searchsorted(seen.parcel, np.arange(len(land) + 1))
    names = []
    for row, crop in enumerate(crops):
        data, when = counts[bounds[row] : bounds[row + 1]], dates[bounds[row] : bounds[row + 1]]
        kept = data[:, RED] <= CLOUDY_RED * SCALE
        kept = kept if kept.any() else ~kept
        region = country.regions[land.region[row]].nuts
        names.append(f"{region}_{_parcel_id(row, country)}_{CROPS[str(crop)].hcat}.npz")
        center = np.array([land.lon[row], land.lat[row]])
        np.savez(folder / names[-1], data=data[kept], dates=when[kept], center=center)
    return names


def _parcel_id(row: int, country: Country) -> int:
    """A number that says nothing: rows are scattered over seven digits by a multiplier coprime to them."""
    return 1_000_000 + (row * 7_368_787 + list(COUNTRIES).index(country.code) * 12_345) % 9_000_000
