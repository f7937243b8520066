"""Variants of the embedded shift with one cause each (configs/shift/embedded_*.yaml); the default world untouched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from crop_tables import Table, dates, domain_score, logistic, table
from sklearn.metrics import f1_score

from eo_adapt.data.synthetic.countries import COUNTRIES, FLOOR, SHARED, crop_shares
from eo_adapt.data.synthetic.eurocropsml import LARGEST, CropWorld
from eo_adapt.data.synthetic.landscape import landscape
from eo_adapt.data.synthetic.sky import Knobs, Sky
from eo_adapt.data.synthetic.visits import clear_sky, cloudiness
from eo_adapt.registry import config, instantiate

SOURCES, TARGET = ("FR", "AT"), "EE"
CAUSES = {
    "phenology": "phenology",
    "radiometry": "radiometry",
    "priors": "priors",
    "gaps": "gap_contrast",
    "private": "private_class",
}


@cache
def world(variant: str, parcels: int = 600) -> CropWorld:
    """What ``shift=embedded_<variant>`` simulates."""
    node = config(f"shift=embedded_{variant}", f"data.generator.parcels_per_country={parcels}").data.generator
    made: CropWorld = instantiate(node)
    return made


@cache
def tables(variant: str) -> dict[str, Table]:
    return {code: table(world(variant), code) for code in (*SOURCES, TARGET)}


# -- the default world -------------------------------------------------------------------------------------------------


def digest(made: CropWorld) -> str:
    """Hash of everything that the files hold, as whole numbers."""
    found = hashlib.sha256()
    for code in made.countries:
        land, crops, seen = made.simulate(code)
        found.update("\n".join(crops.tolist()).encode())
        for numbers in (land.lon * 1e6, land.lat * 1e6, seen.parcel, seen.day, seen.reflectance * 1e4):
            found.update(np.rint(numbers).astype("<i8").tobytes())
    return found.hexdigest()


@pytest.mark.parametrize(
    ("strength", "known"),
    [
        (1.0, "a7711f7659f092ebcd82cd75f3329f42aa68c1b535cd0288117bd406732cfa3d"),
        (0.0, "7c25b60722ad07ca9095ea83260aac68abfcb992bcde5d636eb4c586c1e9836b"),
    ],
)
def test_the_world_of_the_published_numbers_is_unchanged(strength: float, known: str) -> None:
    """docs/results/embedded.md was measured on it: after a change that is meant, measure anew and renew the hash."""
    knobs = dict.fromkeys(("phenology", "radiometry", "priors", "gaps", "private_class"), strength)
    assert digest(CropWorld(parcels_per_country=40, **knobs)) == known


# -- one cause each ----------------------------------------------------------------------------------------------------


def test_each_variant_sets_one_knob() -> None:
    none = world("none")
    assert {name: getattr(none, name) for name in LARGEST} == {**dict.fromkeys(LARGEST, 0.0), "gaps": 1.0}
    for variant, knob in CAUSES.items():
        made = world(variant)
        assert made == replace(none, **{knob: getattr(made, knob)})
        assert getattr(made, knob) >= 1
    assert set(CAUSES.values()) == set(LARGEST) - {"gaps"}


def months(one: Table) -> npt.NDArray[np.float64]:
    """Share of all dates in each month."""
    return np.bincount(np.minimum(one.day * 12 // 365, 11), minlength=12) / len(one.day)


def curve(several: list[Table], crop: str) -> npt.NDArray[np.float64]:
    """NDVI of a crop, (365,), smoothed over some two weeks."""
    total, count = np.zeros(365), np.zeros(365)
    for one in several:
        rows = one.crops[one.parcel] == crop
        nir, red = one.reflectance[rows, 7], one.reflectance[rows, 3]
        np.add.at(total, one.day[rows], (nir - red) / (nir + red))
        np.add.at(count, one.day[rows], 1)
    kernel = np.exp(-0.5 * (np.arange(-20, 21) / 6) ** 2)
    return np.convolve(total, kernel, "same") / np.convolve(count, kernel, "same").clip(1e-9)


def delay(variant: str) -> float:
    """Days by which the target's crops are later, the median over crops."""
    found = []
    for crop in SHARED:
        a, b = curve([tables(variant)[code] for code in SOURCES], crop), curve([tables(variant)[TARGET]], crop)
        errors = [np.square(b[70:300] - a[70 - days : 300 - days]).mean() for days in range(-40, 41)]
        found.append(int(np.argmin(errors)) - 40)
    return abs(float(np.median(found)))


def look(variant: str) -> float:
    """Difference of the bands at equal crop and month, relative to the sources, mean over bands."""
    differences, references = np.zeros(13), np.zeros(13)
    for crop in SHARED:
        for month in range(2, 10):
            means = []
            for codes in (SOURCES, (TARGET,)):
                rows = [
                    one.reflectance[(one.crops[one.parcel] == crop) & (one.day * 12 // 365 == month)]
                    for one in (tables(variant)[code] for code in codes)
                ]
                means.append(np.concatenate(rows).mean(axis=0))
            differences += means[1] - means[0]
            references += means[0]
    return float(np.abs(differences / references).mean())


def mix(variant: str) -> float:
    """Total variation between the shares of the crops that all countries grow."""
    shares = {
        code: np.array([(one.crops[one.known] == crop).mean() for crop in SHARED])
        for code, one in tables(variant).items()
    }
    return float(np.abs((shares["FR"] + shares["AT"]) / 2 - shares[TARGET]).sum() / 2)


def private(variant: str) -> float:
    """Smallest share, over countries, of crops that sources and target do not share."""
    return float(min((~one.known).mean() for one in tables(variant).values()))


def season(variant: str) -> float:
    """Total variation between the months of the dates."""
    one = tables(variant)
    return float(np.abs((months(one["FR"]) + months(one["AT"])) / 2 - months(one[TARGET])).sum() / 2)


# measure, its cause, what it reaches there, what it stays below elsewhere
MEASURES: list[tuple[Callable[[str], float], str, float, float]] = [
    (delay, "phenology", 9, 3),  # days
    (look, "radiometry", 0.15, 0.03),
    (mix, "priors", 0.3, 0.03),
    (season, "gaps", 0.12, 0.03),
    (private, "private", 0.1, 1e-9),
]


@pytest.mark.parametrize(
    ("measure", "cause", "least", "most"), MEASURES, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_variant_shows_its_own_cause_and_no_other(
    measure: Callable[[str], float], cause: str, least: float, most: float
) -> None:
    found = {variant: measure(variant) for variant in ("none", *CAUSES)}
    assert found[cause] >= least, found
    assert all(value <= most for variant, value in found.items() if variant != cause), found


@pytest.mark.parametrize("variant", sorted(CAUSES))
@pytest.mark.parametrize("code", [*SOURCES, TARGET])
def test_what_a_cause_leaves_alone_is_bit_equal(variant: str, code: str) -> None:
    """Against ``none`` of the same seed, without the noise of a single observation, which is drawn date by date."""
    base, other = (replace(world(name, 100), noise=0.0) for name in ("none", variant))
    (land, crops, seen), (land0, crops0, seen0) = other.simulate(code), base.simulate(code)
    np.testing.assert_array_equal(land.lon, land0.lon)
    np.testing.assert_array_equal(land.village, land0.village)
    assert (crops == crops0).all() == (variant not in ("priors", "private"))
    key, key0 = seen.parcel * 365 + seen.day, seen0.parcel * 365 + seen0.day
    assert np.array_equal(key, key0) == (variant != "gaps")
    _, mine, theirs = np.intersect1d(key, key0, return_indices=True)
    same = (crops == crops0)[seen.parcel[mine]]
    assert same.mean() > 0.1
    equal = seen.reflectance[mine][same] == seen0.reflectance[theirs][same]
    assert equal.all() == (variant not in ("phenology", "radiometry"))


# -- gaps --------------------------------------------------------------------------------------------------------------


def test_the_list_of_dates_tells_the_country_only_where_clouds_differ() -> None:
    def score(variant: str) -> float:
        source, target = tables(variant)["FR"], tables(variant)[TARGET]
        counts = [np.add.reduceat(dates(one), np.arange(0, 360, 30), axis=1) for one in (source, target)]
        return domain_score(source, target, *counts)

    assert score("none") < 0.7
    assert score("gaps") > 0.85


def test_cloudiness_lies_between_the_common_share_and_the_countrys_own() -> None:
    own = COUNTRIES["EE"].clouds
    assert cloudiness(0.5, own, 0.0) == pytest.approx(np.full(365, 0.5))
    year = cloudiness(0.5, own, 1.0)
    assert year[[15, 197]] == pytest.approx([own[0], own[6]], abs=0.01)
    assert year[0] == pytest.approx((own[0] + own[11]) / 2, abs=0.01)
    assert cloudiness(0.5, own, 0.5) == pytest.approx((0.5 + year) / 2)
    assert cloudiness(0.0, own, 1.0) == pytest.approx(year)
    for country in COUNTRIES.values():
        assert len(country.clouds) == 12
        assert 0 <= min(country.clouds) <= max(country.clouds) < 1


def test_clouds_by_day_meet_their_share() -> None:
    share = np.repeat([0.2, 0.8], [200, 165])
    clear = clear_sky(np.random.default_rng(0), 2000, share)
    assert clear[:, :200].mean() == pytest.approx(0.8, abs=0.01)
    assert clear[:, 200:].mean() == pytest.approx(0.2, abs=0.01)


# -- beyond strength 1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knob", sorted(LARGEST))
def test_a_knob_beyond_its_largest_value_is_refused(knob: str) -> None:
    CropWorld(**{knob: LARGEST[knob]})
    for value in (-0.1, LARGEST[knob] + 0.1):
        with pytest.raises(ValueError, match=rf"{knob} must lie in \[0, {LARGEST[knob]:g}\]; got {value}"):
            CropWorld(**{knob: value})


@pytest.mark.parametrize("code", sorted(COUNTRIES))
def test_the_strongest_radiometry_is_still_possible(code: str) -> None:
    land = landscape(np.random.default_rng(0), COUNTRIES[code].regions, 40)
    sky = Sky.draw(np.random.default_rng(1), COUNTRIES[code], land, Knobs(1.0, LARGEST["radiometry"], 0.0, 0.5))
    assert 0.7 <= sky.gain.min() <= sky.gain.max() <= 1.2
    assert 0.05 <= sky.haze.min() <= sky.haze.max() <= 0.3
    assert 0.05 <= sky.soil_red.min() <= sky.soil_red.max() <= 0.12
    assert 0.8 <= sky.slope.min() <= sky.slope.max() <= 1.2
    _, _, seen = CropWorld(parcels_per_country=200, radiometry=LARGEST["radiometry"]).simulate(code)
    assert 0 < seen.reflectance.min() < seen.reflectance.max() < 0.8


def test_the_embedded_radiometry_costs_much() -> None:
    """Logistic regression on the interpolated series; the network loses 10 to 23 points."""

    def loss(variant: str) -> float:
        one = tables(variant)
        x = np.concatenate([one[code].grid()[~one[code].test] for code in SOURCES])
        y = np.concatenate([one[code].crops[~one[code].test] for code in SOURCES])
        probe: Any = logistic()
        probe.fit(x, y)
        home, away = (
            f1_score(one[code].crops[one[code].test], probe.predict(one[code].grid()[one[code].test]), average="macro")
            for code in ("FR", TARGET)
        )
        return float(home - away)

    assert loss("radiometry") > loss("none") + 0.08


@pytest.mark.parametrize("priors", [1.5, 3.0])
def test_sharper_priors_go_on_from_mean_to_own_above_a_floor(priors: float) -> None:
    for country in COUNTRIES.values():
        mean, own, sharp = (crop_shares(country, strength, 0.0) for strength in (0.0, 1.0, priors))
        assert sum(sharp.values()) == pytest.approx(1)
        assert min(sharp.values()) >= FLOOR - 1e-12
        line = {name: mean[name] + priors * (own[name] - mean[name]) for name in SHARED}
        above = [name for name in SHARED if line[name] > FLOOR]
        ratio = [(sharp[name] - FLOOR) / (line[name] - FLOOR) for name in above]
        assert ratio == pytest.approx([ratio[0]] * len(above))
        assert {name for name in SHARED if sharp[name] < FLOOR + 1e-12} == set(SHARED) - set(above)


def test_priors_just_above_one_are_the_countrys_own() -> None:
    for country in COUNTRIES.values():
        assert crop_shares(country, 1.0 + 1e-9, 1.0) == pytest.approx(crop_shares(country, 1.0, 1.0), abs=1e-7)


def test_a_larger_share_of_private_crops_leaves_the_others_in_proportion() -> None:
    one, more = crop_shares(COUNTRIES["EE"], 1.0, 1.0), crop_shares(COUNTRIES["EE"], 1.0, 2.5)
    name = "spring_rapeseed_rape"
    assert more[name] / (1 - more[name]) == pytest.approx(2.5 * one[name] / (1 - one[name]))
    assert more["oats"] / more["peas"] == pytest.approx(one["oats"] / one["peas"])
