"""The embedded PASTIS: tiles differ by what its knobs say, fields green up by their calendar, clouds hide no radar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.synthetic.pastis import Known, PastisWorld
from eo_adapt.data.synthetic.pastis_land import veil
from eo_adapt.data.synthetic.pastis_tiles import CROP, TILES, between, shares

NORTH, SOUTH = "T30UXV", "T31TFJ"
SMALL: dict[str, Any] = {"tiles": (NORTH, SOUTH), "patches": 12, "size": 24, "revisit": 10, "seed": 1}


def made(tmp: Path, **knobs: Any) -> dict[str, list[Known]]:
    known = PastisWorld(**{**SMALL, **knobs}).write_known(tmp)
    return {tile: [p for p in known if p.tile == tile] for tile in (NORTH, SOUTH)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Known]]:
    return made(tmp_path_factory.mktemp("w"))


def greening(patches: list[Known], classes: tuple[int, ...]) -> float:
    """Mean day since 1 January on which the NDVI of the clear pixels of some classes is highest."""
    peaks = []
    for p in patches:
        x = p.images["S2"].astype(float)
        ndvi = (x[:, 6] - x[:, 2]) / (x[:, 6] + x[:, 2])
        ndvi[x[:, 0] > 1500] = np.nan
        spring = p.days["S2"] > 60
        at = np.isin(p.target[0], classes)
        if at.any():
            with np.errstate(all="ignore"):
                peaks.append(p.days["S2"][spring][np.nanargmax(np.nanmean(np.where(at, ndvi, -1), (1, 2))[spring])])
    return float(np.mean(peaks))


def cloudy(patches: list[Known]) -> float:
    return float(np.mean([(p.images["S2"][:, 0] > 2500).mean() for p in patches]))


def test_the_north_is_later_cloudier_and_grows_other_crops(world: dict[str, list[Known]]) -> None:
    assert greening(world[NORTH], (3, 7)) > greening(world[SOUTH], (3, 7)) + 10
    assert cloudy(world[NORTH]) > 1.5 * cloudy(world[SOUTH])
    count = {t: sum((p.target[0] == 7).sum() for p in patches) for t, patches in world.items()}
    assert count[SOUTH] > 2 * count[NORTH]
    assert np.mean([len(p.days["S2"]) for p in world[SOUTH]]) > np.mean([len(p.days["S2"]) for p in world[NORTH]])


def test_knobs_at_zero_make_tiles_alike() -> None:
    for name in ("lon", "lat", "gain", "soil", "clouds", "angles"):
        np.testing.assert_allclose(between(0.0, name, NORTH), between(0.0, name, SOUTH))
        np.testing.assert_allclose(between(1.0, name, NORTH), getattr(TILES[NORTH], name))
    np.testing.assert_allclose(shares(0.0, NORTH), shares(0.0, SOUTH))
    assert shares(1.0, NORTH).sum() == pytest.approx(1)
    assert len(shares(0.5, NORTH)) == len(CROP)


def test_a_knob_changes_its_own_cause_only(world: dict[str, list[Known]], tmp_path: Path) -> None:
    other = made(tmp_path, radiometry=0.0)
    for one, two in zip(world[NORTH], other[NORTH], strict=True):
        np.testing.assert_array_equal(one.target, two.target)
        np.testing.assert_array_equal(one.days["S2"], two.days["S2"])
        assert (one.images["S2"] != two.images["S2"]).any()


def test_radar_speckles_sees_through_clouds_and_depends_on_the_angle(world: dict[str, list[Known]]) -> None:
    for p in world[NORTH][:4]:
        vv = p.images["S1A"][:, 0]
        assert -30 < vv.mean() < -5
        parcel = p.target[1] == np.bincount(p.target[1][p.target[1] > 0]).argmax()
        assert 1.0 < vv[:, parcel].std(1).mean() < 3.5  # five looks: 2.1 dB
    mean = {t: np.mean([p.images["S1A"][:, 1].mean() for p in world[t]]) for t in (NORTH, SOUTH)}
    assert mean[SOUTH] > mean[NORTH]  # 35 against 44 degrees


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_veils_cover_their_share(share: float) -> None:
    rng = np.random.default_rng(0)
    found = np.mean([(veil(rng, 32, share) > 0).mean() for _ in range(20)])
    assert found == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tiles": ("T00XXX",)}, r"tiles \['T00XXX'\] are not known; there are \['T30UXV'"),
        ({"size": 4}, "size at least 8 pixels"),
        ({"patches": 0}, "patches is at least 1"),
        ({"clouds": 2.0}, r"clouds lies between 0 \(tiles alike\) and 1; got 2.0"),
    ],
)
def test_impossible_options(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PastisWorld(**options)
