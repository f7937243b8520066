"""The simulated crops: climate, growth and spectra against independent computations."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eo_adapt.data.synthetic import climate, phenology, spectra
from eo_adapt.data.synthetic.countries import COUNTRIES
from eo_adapt.data.synthetic.crops import CROPS
from eo_adapt.data.synthetic.eurocropsml import streams
from eo_adapt.data.synthetic.farming import Management
from eo_adapt.data.synthetic.landscape import landscape
from eo_adapt.data.synthetic.scene import village_climate


def heat_of(code: str, crop: str, phenology_knob: float = 1.0) -> np.ndarray:
    """Thermal time of one crop, mean over the villages of a country."""
    rng, country = streams(0, code), COUNTRIES[code]
    land = landscape(rng["land"], country.regions, 400)
    felt = village_climate(rng["weather"], country, land, phenology_knob)
    return np.asarray(phenology.calendar(CROPS[crop], felt.temperature, felt.lat).heat.mean(axis=0))


def reached(heat: np.ndarray, value: float) -> int:
    return int(np.argmax(heat >= value))


# climate


def test_growing_degree_days_against_a_plain_loop() -> None:
    temperature = np.random.default_rng(0).uniform(-12, 34, 365)
    for base in (0.0, 8.0):
        known = []
        for mean in temperature:
            high, low = mean + 5, mean - 5
            high, low = max(min(high, 30.0), base), max(min(low, 30.0), base)
            known.append((high + low) / 2 - base)
        np.testing.assert_allclose(climate.growing_degree_days(temperature, base), known)
    # worked by hand: max 18, min 8 around 13; base 10 lifts the minimum to 10 -> 14 - 10
    assert climate.growing_degree_days(np.array([13.0]), 10.0)[0] == pytest.approx(4.0)
    assert climate.growing_degree_days(np.array([-6.0, 40.0]), 0.0) == pytest.approx([0.0, 30.0])


def test_day_length_against_another_formula() -> None:
    """CBM model of Forsythe et al. (1995) without refraction; equator and solstices by heart."""
    for lat in (38.6, 48.0, 58.6):
        known = []
        for n in range(1, 366):
            theta = 0.2163108 + 2 * math.atan(0.9671396 * math.tan(0.00860 * (n - 186)))
            phi = math.asin(0.39795 * math.cos(theta))
            x = math.tan(math.radians(lat)) * math.tan(phi)
            known.append(24 - 24 / math.pi * math.acos(x))
        np.testing.assert_allclose(climate.day_length(np.array([lat]))[0], known, atol=0.35)
    assert climate.day_length(np.array([0.0])) == pytest.approx(np.full((1, 365), 12.0))


def test_smooth_is_a_mean_over_a_ring() -> None:
    x = np.random.default_rng(1).normal(size=365)
    known = [np.mean([x[(day + k) % 365] for k in range(-10, 11)]) for day in range(365)]
    np.testing.assert_allclose(climate.smooth(x), known)


def test_sowing_and_season_end_on_a_known_year() -> None:
    temperature = 10 - 10 * np.cos(2 * np.pi * (np.arange(365) - climate.COLDEST_DAY) / 365)[None]
    day, end = climate.sowing_day(temperature, 10.0)[0], climate.season_end(temperature, 10.0)[0]
    assert abs(day - (climate.COLDEST_DAY + 365 / 4)) <= 2
    assert abs(end - (climate.COLDEST_DAY + 3 * 365 / 4)) <= 2
    assert climate.sowing_day(temperature, -5.0)[0] == 0
    assert climate.season_end(temperature, -5.0)[0] == 365


# phenology


def test_double_logistic_against_its_closed_form() -> None:
    s = np.linspace(-500, 3000, 200)
    one = np.ones_like(s)
    found = phenology.double_logistic(s, 0.2 * one, 0.9 * one, 0.05 * one, 400 * one, 90.0, 1600 * one, 70.0)
    known = (
        0.2 + 0.7 / (1 + np.exp(-(s - 400) / 90)) - 0.85 / (1 + np.exp(-(s - 1600) / 70))
    )  # fmt: skip
    np.testing.assert_allclose(found, known, atol=1e-12)
    assert found[0] == pytest.approx(0.2, abs=1e-3)
    assert found[-1] == pytest.approx(0.05, abs=1e-3)


@pytest.mark.parametrize("crop", sorted(CROPS))
def test_colder_countries_are_later(crop: str) -> None:
    up = [reached(heat_of(code, crop), CROPS[crop].up) for code in ("PT", "FR", "EE")]
    assert up == sorted(up)
    assert up[-1] - up[1] > 15


def test_the_number_of_days_differs_by_crop_and_stage() -> None:
    def delay(crop: str, stage: str) -> int:
        value = getattr(CROPS[crop], stage)
        return reached(heat_of("EE", crop), value) - reached(heat_of("FR", crop), value)

    delays = {crop: delay(crop, "up") for crop in ("winter_common_soft_wheat", "spring_barley", "potatoes")}
    assert max(delays.values()) - min(delays.values()) >= 8
    assert delay("winter_common_soft_wheat", "up") - delay("winter_common_soft_wheat", "down") >= 8


@pytest.mark.parametrize("crop", ["winter_common_soft_wheat", "grain_maize_corn_popcorn"])
def test_without_phenology_every_country_has_one_calendar(crop: str) -> None:
    for knob, most in ((0.0, 5), (1.0, 365)):
        days = [reached(heat_of(code, crop, knob), CROPS[crop].up) for code in COUNTRIES]
        assert max(days) - min(days) <= most
    assert max(days) - min(days) > 30


@pytest.mark.parametrize("crop", sorted(CROPS))
def test_cover_is_a_share_of_the_ground(crop: str) -> None:
    n = 500
    rng = np.random.default_rng(0)
    farm = Management(
        rng.normal(0, 50, n), np.exp(rng.normal(0, 0.05, n)), np.exp(rng.normal(0, 0.1, n)),
        rng.uniform(0, 0.35, n), rng.uniform(0, 0.7, n), rng.uniform(120, 700, n),
    )  # fmt: skip
    state = phenology.cover(CROPS[crop], rng.uniform(-800, 6000, n), rng.uniform(900, 6000, n), farm)
    parts = np.stack([state.green, state.straw, state.petals])
    assert parts.min() >= -1e-9
    assert parts.sum(axis=0).max() <= 1 + 1e-9


# spectra


def test_soils_lie_on_a_line_and_leaves_have_a_red_edge() -> None:
    ground = spectra.soil(np.array([0.05, 0.10, 0.15]))
    red, nir = ground[:, 3], ground[:, 7]
    np.testing.assert_allclose(np.diff(nir) / np.diff(red), 1.2)
    np.testing.assert_allclose(ground[:, 3], [0.05, 0.10, 0.15])
    assert spectra.GREEN[7] > 8 * spectra.GREEN[3]
    assert spectra.GREEN[2] > spectra.GREEN[3]
    assert (np.diff(spectra.WAVELENGTH) > 0).all()


def test_haze_brightens_the_blue_of_dark_ground_most() -> None:
    dark = np.full((2, 13), 0.03)
    clear, hazy = spectra.top_of_atmosphere(dark, np.array([0.05, 0.5]))
    gain = (hazy - clear)[[1, 2, 3, 7, 11, 12]]
    assert (gain > 0).all()
    assert (np.diff(gain) < 0).all()
    assert clear[10] < 0.003
