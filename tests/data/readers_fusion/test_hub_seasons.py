"""The made-up year of FLAIR-HUB: shares of coarser pixels, seasons, clouds, radar, and what each sensor can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.data.synthetic.aerial_land import BUILDING, DECIDUOUS, FIELD, HERBACEOUS, IMPERVIOUS, SOIL, WATER
from eo_adapt.data.synthetic.flair_hub import HubWorld, elevations
from eo_adapt.data.synthetic.flair_hub_seasons import (
    CLASSES,
    CONIFEROUS,
    PLOWED,
    SKIES,
    bump,
    covers,
    reclassed,
    sentinel1,
    sentinel2,
    shares_of,
    sky,
    spectra,
)

MODALITIES = ("AERIAL_RGBI", "DEM_ELEV", "SENTINEL2_TS", "SENTINEL1-ASC_TS")
TEST = ("D064_2021", "D071_2020")
YEAR = np.arange(2, 365, 15)


@settings(max_examples=25, deadline=None)
@given(st.integers(4, 40), st.integers(1, 12), st.integers(0, 99))
def test_shares_of_coarser_pixels(side: int, size: int, seed: int) -> None:
    labels = np.random.default_rng(seed).choice(CLASSES, (side, side))
    found = shares_of(labels, size)
    fine = labels.repeat(size, 0).repeat(size, 1)  # side x size pixels: each coarse one is side x side of them
    want = [(fine == k).reshape(size, side, size, side).mean((1, 3)) for k in CLASSES]
    np.testing.assert_allclose(found, want, atol=1e-12)
    np.testing.assert_allclose(found.sum(0), 1)


def test_seasons() -> None:
    np.testing.assert_allclose(bump(np.array([110.0, 300.0]), 110, 300), 0.5)  # half at both ends
    assert bump(np.array([205]), 110, 300)[0] > 0.99
    assert bump(np.array([10, 350]), 290, 460).min() > 0.95  # over New Year
    np.testing.assert_allclose(bump(YEAR + 365, 75, 175), bump(YEAR, 75, 175))
    green, straw = covers(np.arange(365))
    for k in green:
        assert (green[k] + straw.get(k, 0)).max() <= 1
    assert green[DECIDUOUS][15] < 0.2 < 0.8 < green[DECIDUOUS][200]
    assert np.ptp(green[CONIFEROUS]) == 0
    assert green[FIELD].argmax() < 140 < 200 < straw[FIELD].argmax() < 225
    reflectance = spectra(YEAR, 1.0)
    assert reflectance.shape == (len(CLASSES), len(YEAR), 10)
    assert (reflectance > 0).all()
    assert (reflectance < 0.7).all()


def curves(day: float) -> dict[int, np.ndarray]:
    return dict(zip(CLASSES, spectra(np.array([day]), 1.0)[:, 0], strict=True))


def test_what_only_the_season_tells() -> None:
    summer, winter = curves(190), curves(20)
    assert np.abs(summer[PLOWED] - summer[SOIL]).max() < 0.02  # bare when the aerial images are taken
    assert (winter[PLOWED] - winter[SOIL])[6] > 0.1
    assert (summer[DECIDUOUS] - winter[DECIDUOUS])[6] > 0.1
    assert abs(summer[CONIFEROUS] - winter[CONIFEROUS]).max() < 1e-9
    assert (curves(120)[FIELD] - curves(280)[FIELD])[6] > 2 * (curves(120)[HERBACEOUS] - curves(280)[HERBACEOUS])[6] > 0


def test_large_woods_and_bare_parcels_are_divided() -> None:
    labels = np.full((60, 200), HERBACEOUS, np.uint8)
    for i in range(10):
        labels[2:26, 20 * i : 20 * i + 15] = DECIDUOUS
        labels[30:40, 20 * i : 20 * i + 10] = SOIL
        labels[50:52, 20 * i : 20 * i + 2] = DECIDUOUS  # a tree
    found = reclassed(np.random.default_rng(1), labels)
    assert set(np.unique(found[50:52])) == {HERBACEOUS, DECIDUOUS}
    for rows, kinds in ((slice(2, 26), {DECIDUOUS, CONIFEROUS}), (slice(30, 40), {SOIL, PLOWED})):
        of = [set(np.unique(found[rows, 20 * i : 20 * i + 10])) for i in range(10)]
        assert all(len(one) == 1 for one in of)  # whole parcels
        assert set.union(*of) == kinds
    assert (labels == found)[labels == HERBACEOUS].all()


def test_clouds_are_in_sentinel2_and_mostly_in_its_mask() -> None:
    rng = np.random.default_rng(0)
    fractions = shares_of(np.full((64, 64), SOIL), 10)
    cloudy = np.array([0.0, 0.5, 1.0])
    counts, masks = sentinel2(rng, fractions, np.array([150, 165, 180]), cloudy, SKIES["D033_2021"])
    assert (counts.dtype, masks.dtype, counts.shape, masks.shape) == (
        "uint16",
        "uint8",
        (3, 10, 10, 10),
        (3, 2, 10, 10),
    )
    assert not masks[0].any()
    assert not masks[:, 0].any()
    assert 0.3 < (masks[1, 1] > 1).mean() < 0.6
    assert (masks[2, 1] > 1).mean() > 0.9
    blue = counts[:, 0] / 1e4
    assert blue[2].mean() > 0.3 > 0.15 > blue[0].mean()
    hidden = masks[1, 1] > 1
    assert blue[1][hidden].mean() > blue[1][~hidden].mean() + 0.1


def test_radar_has_speckle_and_an_angle_and_no_clouds() -> None:
    days = np.arange(1, 365, 3)
    by = {
        k: sentinel1(np.random.default_rng(5), shares_of(np.full((64, 64), k), 10), days, 38.5, 0.0)
        for k in (SOIL, BUILDING, WATER, DECIDUOUS, CONIFEROUS)
    }
    assert by[SOIL].shape == (len(days), 2, 10, 10)
    power = 10 ** (by[SOIL] / 10)
    looks = (power.mean((2, 3)) / power.std((2, 3))) ** 2
    assert np.median(looks) == pytest.approx(5.0, rel=0.15)
    vv = {k: x[:, 0].mean() for k, x in by.items()}
    assert vv[BUILDING] > vv[SOIL] + 5
    assert vv[WATER] < vv[SOIL] - 5
    summer = (days > 150) & (days < 250)
    rise = {k: by[k][summer, 1].mean() - by[k][~summer, 1].mean() for k in (DECIDUOUS, CONIFEROUS)}
    assert rise[DECIDUOUS] > rise[CONIFEROUS] + 1
    steep = sentinel1(np.random.default_rng(5), shares_of(np.full((64, 64), SOIL), 10), days, 44.5, 0.0)
    np.testing.assert_allclose(by[SOIL] - steep, 6 * 0.12, atol=1e-4)


def test_a_sky_at_strength_0_is_that_of_all() -> None:
    usual = {(s.clouds, s.gain, s.angles) for s in (sky(name, 0.0, 0.0) for name in SKIES)}
    assert len(usual) == 1
    own = {name: sky(name, 1.0, 1.0) for name in SKIES}
    assert own == SKIES
    sources = [s.clouds for name, s in own.items() if name not in TEST]
    assert min(own[name].clouds for name in TEST) > max(sources) + 0.15


SMALL: dict[str, Any] = {
    "departments": TEST,
    "zones": 2,
    "grid": 2,
    "gsd": 1.6,
    "modalities": MODALITIES,
    "revisit": 60,
}


def test_height_says_the_same_in_any_light(tmp_path: Path) -> None:
    """A camera's shift changes aerial counts and no elevation; buildings stand out by height, roads do not."""
    bright, plain = (HubWorld(**SMALL, texture=0.0, radiometry=r).write_known(tmp_path / str(r)) for r in (1.0, 0.0))
    assert bright.keys() == plain.keys()
    high: dict[int, list[float]] = {BUILDING: [], IMPERVIOUS: []}
    for key, patch in bright.items():
        np.testing.assert_array_equal(elevations(patch), elevations(plain[key]))
        assert (patch.image[:4] != plain[key].image[:4]).mean() > 0.5
        np.testing.assert_array_equal(patch.mask, plain[key].mask)
        surface, terrain = elevations(patch)
        for k, found in high.items():
            found += (surface - terrain)[patch.mask == k].tolist()
    assert np.median(high[BUILDING]) > 2.5 > 1.0 > np.median(high[IMPERVIOUS])
    assert {CONIFEROUS, PLOWED} & set(np.unique(np.stack([p.mask for p in bright.values()])))


def test_patches_of_a_zone_are_neighbours(tmp_path: Path) -> None:
    known = HubWorld(**SMALL).write_known(tmp_path)
    zone = {key.split("_")[2]: p.about for key, p in known.items() if key.startswith("D064-2021_") and "-S1-1_" in key}
    x, y = ({cell: about[f"patch_centroid_{axis}"] for cell, about in zone.items()} for axis in "xy")
    assert x["1-2"] - x["1-1"] == pytest.approx(102.4)
    assert y["1-1"] - y["2-1"] == pytest.approx(102.4)
    assert (x["2-1"], y["1-2"]) == (x["1-1"], y["1-1"])


def test_options() -> None:
    for wrong, message in (
        ({"modalities": ("SENTINEL3",)}, r"modalities are .*got \['SENTINEL3'\]"),
        ({"lacking": {"SPOT": []}}, r"modalities are .*got \['SPOT'\]"),
        ({"lacking": {"DEM_ELEV": ["D999"]}}, r"lacking maps modalities to departments, .*got \['D999'\]"),
        ({"modalities": MODALITIES}, r"64 pixels of 0.2 m is too small for series, whose pixels are 10 m"),
        ({"revisit": 0}, r"revisit is 1 to 100 days, clouds 0 to 1; got 0 and 1"),
        ({"clouds": 1.5}, r"got 15 and 1.5"),
        ({"size": 60}, r"size is a multiple of 8 pixels"),
    ):
        with pytest.raises(ValueError, match=message):
            HubWorld(**wrong)
