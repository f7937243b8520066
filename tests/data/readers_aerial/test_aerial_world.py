"""Made-up aerial images: causes of shift come apart, things cast shadows, heights fit classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from eo_adapt.data.synthetic.aerial_departments import DEPARTMENTS, USES, Grain, light, shares
from eo_adapt.data.synthetic.aerial_land import (
    BUILDING,
    CLASSES,
    DECIDUOUS,
    HERBACEOUS,
    IMPERVIOUS,
    WATER,
    Painter,
    shadows,
)
from eo_adapt.data.synthetic.aerial_light import AIRLIGHT, EXPOSURE, HAZE, counts, reflectance
from eo_adapt.data.synthetic.aerial_world import SECOND_CAMERA, AerialWorld, Patch

SMALL: dict[str, Any] = {"zones": 2, "grid": 2, "size": 48}
ELEVATION = 4


def patches(name: str, **knobs: Any) -> list[Patch]:
    return list(AerialWorld(**{**SMALL, **knobs}).patches(name))


def pixels(some: list[Patch]) -> tuple[np.ndarray, np.ndarray]:
    images = np.concatenate([p.image.reshape(5, -1) for p in some], 1).astype(float)
    return images, np.concatenate([p.mask.ravel() for p in some])


def test_every_department_has_the_same_eight_classes() -> None:
    for name in DEPARTMENTS:
        _, mask = pixels(patches(name, zones=6, grid=2, size=48))
        found = {int(c): float((mask == c).mean()) for c in np.unique(mask)}
        assert set(found) == set(CLASSES)
        assert min(found.values()) > 0.005


def test_a_seed_decides_all() -> None:
    first, again, other = (patches("D006_2020", seed=seed) for seed in (0, 0, 1))
    assert all((a.image == b.image).all() and a.about == b.about for a, b in zip(first, again, strict=True))
    assert any((a.mask != b.mask).any() for a, b in zip(first, other, strict=True))
    apart = zip(patches("D006_2020"), patches("D064_2021"), strict=True)
    assert any((a.mask != b.mask).any() for a, b in apart)


def test_radiometry_changes_colours_only() -> None:
    own, usual = patches("D064_2021"), patches("D064_2021", radiometry=0)
    for a, b in zip(own, usual, strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert a.about == b.about
        assert np.abs(a.image[:4].astype(int) - b.image[:4]).mean() > 5


def test_priors_change_shares_only() -> None:
    assert shares(0, DEPARTMENTS["D006_2020"].shares) == shares(0, DEPARTMENTS["D064_2021"].shares)
    assert shares(1, DEPARTMENTS["D006_2020"].shares)["urban"] == pytest.approx(0.26)
    for department in DEPARTMENTS.values():
        assert sum(department.shares) == pytest.approx(1)
        assert len(department.shares) == len(USES)
    assert all(light(0, d.light) == light(0, DEPARTMENTS["D006_2020"].light) for d in DEPARTMENTS.values())
    assert all(light(1, d.light) == d.light for d in DEPARTMENTS.values())


def test_the_same_land_in_the_light_of_two_departments() -> None:
    rng = np.random.default_rng(0)
    land = Painter(rng, list(USES) * 2, 64, Grain()).paint()
    land.height[:] = 0  # no shadows, which fall elsewhere at another hour

    def mean(name: str, knob: float) -> np.ndarray:
        own = light(knob, DEPARTMENTS[name].light)
        image = counts(np.random.default_rng(1), reflectance(land, own), own, 0.5)
        return image[:, land.labels == HERBACEOUS].mean(1)

    np.testing.assert_array_equal(mean("D006_2020", 0), mean("D071_2020", 0))
    half, whole = (np.abs(mean("D006_2020", knob) - mean("D071_2020", knob)).max() for knob in (0.5, 1))
    assert 4 < half < whole < 40


def test_heights_fit_classes() -> None:
    image, mask = pixels(patches("D006_2020", zones=4))
    metres = 0.2 * image[ELEVATION]
    assert np.median(metres[mask == BUILDING]) > 3
    assert metres[mask == DECIDUOUS].mean() > 2
    assert np.median(metres[mask == WATER]) < 1
    assert np.median(metres[mask == IMPERVIOUS]) < 1


def test_nir_separates_plants_from_water() -> None:
    for name in ("D006_2020", "D071_2020"):
        image, mask = pixels(patches(name, zones=4))
        assert np.median(image[3, mask == HERBACEOUS]) > 2 * np.median(image[3, mask == WATER])


def test_patches_of_a_zone_are_neighbours() -> None:
    some = patches("D033_2021")
    assert len({p.about["zone"] for p in some}) == 2
    at = np.array([[p.about["patch_centroid_x"], p.about["patch_centroid_y"]] for p in some[:4]])
    np.testing.assert_allclose(at[1] - at[0], [9.6, 0], atol=0.011)  # 48 pixels of 0.2 m, rows run south
    np.testing.assert_allclose(at[2] - at[0], [0, -9.6], atol=0.011)
    gap = np.hypot(*(at[0] - [some[4].about["patch_centroid_x"], some[4].about["patch_centroid_y"]]))
    assert gap > 1000
    assert np.hypot(at[0, 0] - DEPARTMENTS["D033_2021"].x, at[0, 1] - DEPARTMENTS["D033_2021"].y) < 20_000


@given(st.floats(15, 75), st.sampled_from([0.0, 90.0, 180.0, 270.0]))
@settings(max_examples=20, deadline=None)
def test_the_shadow_of_a_wall(sun: float, azimuth: float) -> None:
    """A wall of 4 m on ground of 1 m pixels: its shadow is 4 / tan(sun) long, away from the sun."""
    height = np.zeros((41, 41))
    height[20, 20] = 4.0
    dark = shadows(height, sun, azimuth, 1.0)
    long = sum(step * np.tan(np.deg2rad(sun)) < 4.0 for step in range(1, 20))
    away = {0.0: (1, 0), 90.0: (0, -1), 180.0: (-1, 0), 270.0: (0, 1)}[azimuth]  # rows south, columns east
    expected = {(20 + s * away[0], 20 + s * away[1]) for s in range(1, long + 1)}
    assert {(int(r), int(c)) for r, c in zip(*np.nonzero(dark), strict=True)} == expected


def test_counts_follow_the_formula() -> None:
    rho = np.stack([np.full((40, 40), r) for r in (0.05, 0.1, 0.2, 0.3)])
    own = DEPARTMENTS["D064_2021"].light
    found = counts(np.random.default_rng(0), rho, own, 0.5, SECOND_CAMERA).reshape(4, -1).mean(1)
    for band in range(4):
        haze = own.haze * HAZE[band]
        signal = (rho[band, 0, 0] * (1 - haze) + AIRLIGHT * haze) * EXPOSURE * own.gain[band] * SECOND_CAMERA.gain[band]
        assert found[band] == pytest.approx(min(255, 255 * signal ** (own.gamma + SECOND_CAMERA.gamma)), abs=0.3)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"departments \['D075_2021'\] are not known; there are \['D006_2020'"):
        AerialWorld(("D075_2021",))
    with pytest.raises(ValueError, match=r"even number of at least 16 pixels.*size=33"):
        AerialWorld(size=33)
    with pytest.raises(ValueError, match=r"zones and grid are at least 1.*zones=0"):
        AerialWorld(zones=0)
    with pytest.raises(ValueError, match=r"radiometry lies between 0 .* and 1; got 1.5"):
        AerialWorld(radiometry=1.5)
    with pytest.raises(ValueError, match="compress is deflate or none; got 'jpeg'"):
        AerialWorld(compress="jpeg")


def test_the_shift_costs_what_it_should() -> None:
    """A source-trained classifier fails on the target only if departments differ; their statistics close a part."""

    def sample(name: str, knob: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        some = patches(name, zones=3, grid=2, size=64, radiometry=knob, texture=knob, priors=knob)
        images = np.stack([p.image for p in some]).astype(float)
        both = np.concatenate([images, gaussian_filter(images, (0, 0, 3, 3))], 1)
        own = (both - both.mean((0, 2, 3), keepdims=True)) / both.std((0, 2, 3), keepdims=True)
        raw, normed = (x[:, :, ::8, ::8].transpose(0, 2, 3, 1).reshape(-1, 10) for x in (both, own))
        return raw, normed, np.stack([p.mask for p in some])[:, ::8, ::8].ravel()

    def score(knob: float, normed: int) -> float:
        sources = [sample(name, knob) for name in ("D006_2020", "D058_2020")]
        target = sample("D071_2020", knob)
        x, y = (np.concatenate([s[i] for s in sources]) for i in (normed, 2))
        return _miou(x, y, target[normed], target[2])

    alike, apart, moved = score(0, 0), score(1, 0), score(1, 1)
    assert apart < alike - 0.15
    assert apart + 0.05 < moved < alike


def _miou(x: np.ndarray, y: np.ndarray, x_test: np.ndarray, y_test: np.ndarray) -> float:
    from sklearn.ensemble import RandomForestClassifier

    found = RandomForestClassifier(20, min_samples_leaf=3, random_state=0).fit(x, y).predict(x_test)
    both = [((found == c) & (y_test == c)).sum() / max(1, ((found == c) | (y_test == c)).sum()) for c in CLASSES]
    return float(np.mean(both))
