"""Scenes of many dates: files by date, bands by date in one file, clouds, days of the label's year."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import echo
import numpy as np
import pytest
import torch
from torch import Tensor

from eo_adapt.mapping.looks import entries
from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.scene import open_scene
from eo_adapt.types import Inputs

DATES = ("2020-11-05", "2021-03-01", "2021-07-20")
HIDDEN = {"bands": 1, "least": [60.0], "values": [[]], "clear": 0.0}
HOW = Settings(tile=32, overlap=8, batch=3)


def at_day(device: torch.device, day: int) -> Any:
    """Says the class of one date's first band; class 4 where that date is hidden."""

    def said(inputs: Inputs) -> Tensor:
        look = inputs["s2"]
        assert look.days is not None
        assert look.valid_pixels is not None
        number = int((look.days[0] == day).nonzero()[0, 0])
        assert (look.days == look.days[0]).all()
        values = look.values[:, number, 0].round().long().clamp(0, 4)
        values = torch.where(look.valid_pixels[:, number], values, 4)
        return 50.0 * torch.nn.functional.one_hot(values, 5).permute(0, 3, 1, 2).float()

    return said


def mapper(day: int, **more: Any) -> Any:
    spec = echo.spec(("a", "b"), kind="series", **more)
    return echo.mapper(partial(at_day, day=day), {"s2": spec})


def stack(height: int = 70, width: int = 41) -> np.ndarray:
    """(T, 2, H, W) classes below 4."""
    return np.random.default_rng(1).integers(0, 4, (3, 2, height, width)).astype(np.uint8)


DAYS = (-57, 59, 200)


def test_one_file_a_date(tmp_path: Path) -> None:
    values = stack()
    for date, frame in zip(reversed(DATES), values[::-1], strict=True):
        echo.write(tmp_path / f"S2_{date.replace('-', '')}_x.tif", frame[::-1], ("b", "a"))
    given = {"s2": str(tmp_path / "S2_{date}_*.tif")}
    for day, frame in zip(DAYS, values, strict=True):
        map_scene(mapper(day), given, tmp_path / f"map{day}.tif", HOW)
        np.testing.assert_array_equal(echo.read(tmp_path / f"map{day}.tif")[0], frame[0])
    how = Settings(tile=32, overlap=8, year=2020)
    map_scene(mapper(200 + 366), given, tmp_path / "year.tif", how)
    np.testing.assert_array_equal(echo.read(tmp_path / "year.tif")[0], values[2, 0])


def test_many_dates_in_one_file(tmp_path: Path) -> None:
    """Bands called <band>|<date> in any order, or dates given of a file that holds one after the other."""
    values = stack()
    names = [f"{band}|{date}" for band in ("long-a", "b") for date in DATES]
    echo.write(tmp_path / "named.tif", values.swapaxes(0, 1).reshape(6, *values.shape[2:]), names)
    echo.write(tmp_path / "bare.tif", values.reshape(6, *values.shape[2:]), ())
    named = {"s2": {"path": tmp_path / "named.tif", "bands": {"a": "long-a"}}}
    bare = {"s2": {"path": tmp_path / "bare.tif", "bands": ["a", "b"], "dates": list(DATES)}}
    for name, given in (("named", named), ("bare", bare)):
        map_scene(mapper(59), given, tmp_path / f"{name}_map.tif", HOW)
        np.testing.assert_array_equal(echo.read(tmp_path / f"{name}_map.tif")[0], values[1, 0])


def test_clouds_hide_and_what_no_date_shows_is_nodata(tmp_path: Path) -> None:
    values, clouds = stack(), np.zeros((3, 1, 70, 41), np.uint8)
    clouds[1, :, 10:40, 5:30] = 80
    clouds[:, :, 50:60, 20:30] = 100
    for date, frame, cloud in zip(DATES, values, clouds, strict=True):
        echo.write(tmp_path / f"S2_{date}.tif", frame, ("a", "b"))
        echo.write(tmp_path / f"CLD_{date}.tif", cloud, ("cloud",))
    given = {"s2": {"path": str(tmp_path / "S2_{date}.tif"), "masks": str(tmp_path / "CLD_{date}.tif")}}
    map_scene(mapper(59, hidden=HIDDEN), given, tmp_path / "map.tif", HOW)
    expected = np.where(clouds[1, 0] >= 60, 4, values[1, 0])
    expected[50:60, 20:30] = 255
    np.testing.assert_array_equal(echo.read(tmp_path / "map.tif")[0], expected)
    scene = open_scene(entries(given, _sensors(), ()), mapper(59, hidden={**HIDDEN, "clear": 0.9}).card)
    read = scene.read(0, (0, 40), 64)["s2"]
    assert read.valid is not None
    assert read.valid.tolist() == [[True, False, True], [True, True, True]]  # the second window has one column
    scene.close()


def _sensors() -> Any:
    from eo_adapt.data.scenes.store import imagery_of

    return {"s2": imagery_of(echo.spec(("a", "b"), kind="series", hidden=HIDDEN))}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"path": "{date}_gone.tif"}, "no file matches"),
        ({"path": "one.tif"}, r"does not say its dates: s2 is a series. Give a pattern with \{date\}"),
        ({"path": "one.tif", "dates": ["2020-01-01", "2020-13-01"]}, "'2020-13-01' is no date; write YYYY-MM-DD"),
        ({"path": "one.tif", "dates": list(DATES)}, "has 2 bands, no multiple of the 3 dates given"),
        ({"path": "twice_{date}*.tif"}, r"has the dates \['2021-03-01'\] more than once"),
        ({"path": "other_{date}.tif"}, r"all files of a sensor share one grid. Set resample=bilinear"),
        ({"path": "twice_{date}a.tif", "masks": "one_{date}.tif"}, "no file matches"),
        ({"path": "one.tif", "date": 3}, r"input.s2 has unknown keys \['date'\]"),
        ({"bands": ["a"]}, "input.s2 lacks path"),
    ],
)
def test_series_that_do_not_fit_are_said(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    frame = stack(20, 20)[0]
    for name in ("one.tif", "twice_20210301a.tif", "twice_2021-03-01b.tif", "other_20210301.tif"):
        echo.write(tmp_path / name, frame, ("a", "b"))
    echo.write(tmp_path / "other_20210401.tif", frame[:, :10], ("a", "b"))
    spec = {k: str(tmp_path / v) if k in ("path", "masks") else v for k, v in given.items()}
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        map_scene(mapper(59), {"s2": spec}, tmp_path / "map.tif", HOW)
    assert not list(tmp_path.glob("*map*"))
