"""Masks: what each kind calls clear, on coarser and finer grids than the image's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_tiles import small_grid, write_tif

from eo_adapt.data.extract.errors import BadImageError
from eo_adapt.data.extract.grid import Block
from eo_adapt.data.extract.images import Image
from eo_adapt.data.extract.masks import Mask, on_grid
from eo_adapt.data.extract.raster import filled, opened
from eo_adapt.data.extract.sentinel1 import check_units, to_decibels, to_power


@pytest.mark.parametrize(
    ("mask", "numbers", "clear"),
    [
        (Mask("scl"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0]),
        (Mask("scl", bad=(9,)), [4, 9, 11], [1, 0, 1]),
        (Mask("clm"), [0, 1, 255], [1, 0, 0]),
        (Mask("s2cloudless", cloud_max=40), [0, 40, 41, 100], [1, 1, 0, 0]),
        (Mask("classes", bad=(2, 3)), [0, 2, 3, 5], [1, 0, 0, 1]),
    ],
)
def test_kinds(mask: Mask, numbers: list[int], clear: list[int], tmp_path: Path) -> None:
    grid = small_grid(len(numbers), 1)
    with opened(Image(str(write_tif(tmp_path / "m.tif", np.array([numbers], np.uint8), grid)))) as raster:
        assert mask.clear(raster, Block(0, 1, 0, len(numbers))).astype(int).tolist() == [clear]


def test_clear_is_clear_even_if_zero_is_declared_nodata(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", np.array([[0, 1]], np.uint8), small_grid(2, 1), nodata=0)
    with opened(Image(str(path))) as raster:
        assert Mask("clm").clear(raster, Block(0, 1, 0, 2)).tolist() == [[True, False]]
        assert Mask("s2cloudless").clear(raster, Block(0, 1, 0, 2)).tolist() == [[True, True]]


def test_classi_needs_neither_cloud_nor_cirrus(tmp_path: Path) -> None:
    bands = np.array([[[0, 1, 0]], [[0, 0, 1]], [[1, 0, 0]]], np.uint8)  # opaque, cirrus, snow
    with opened(Image(str(write_tif(tmp_path / "m.tif", bands, small_grid(3, 1))))) as raster:
        assert Mask("classi").clear(raster, Block(0, 1, 0, 3)).tolist() == [[True, False, False]]


def test_probabilities_are_per_cent(tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", np.array([[0, 180]], np.uint8), small_grid(2, 1))
    with (
        opened(Image(str(path))) as raster,
        pytest.raises(BadImageError, match=r"m\.tif holds 180; cloud probabilities are per"),
    ):
        Mask("s2cloudless").clear(raster, Block(0, 1, 0, 2))


@pytest.mark.parametrize(("factor", "width", "height"), [(2, 60, 50), (3, 60, 51), (6, 60, 54)])
def test_a_coarse_mask_is_repeated_in_any_block(factor: int, width: int, height: int, tmp_path: Path, rng) -> None:
    image = small_grid(width, height)
    coarse = small_grid(width // factor, height // factor, 10.0 * factor)
    cloud = rng.integers(0, 2, (coarse.height, coarse.width)).astype(np.uint8)
    fine = np.kron(cloud, np.ones((factor, factor))) == 0
    with opened(Image(str(write_tif(tmp_path / "m.tif", cloud, coarse)))) as raster:
        for block in (Block(0, height, 0, width), Block(7, 22, 11, 35), Block(height - 5, height, width - 1, width)):
            expected = fine[block.top : block.bottom, block.left : block.right]
            np.testing.assert_array_equal(on_grid(Mask("clm"), raster, image, block), expected)


def test_of_a_fine_mask_all_pixels_must_be_clear(tmp_path: Path, rng) -> None:
    cloud = (rng.random((40, 40)) < 0.2).astype(np.uint8)
    with opened(Image(str(write_tif(tmp_path / "m.tif", cloud, small_grid(40, 40))))) as raster:
        got = on_grid(Mask("clm"), raster, small_grid(20, 20, 20.0), Block(3, 9, 2, 20))
    expected = ~cloud.reshape(20, 2, 20, 2).any((1, 3)).astype(bool)
    np.testing.assert_array_equal(got, expected[3:9, 2:20])


@pytest.mark.parametrize(
    "other", [small_grid(61, 50), small_grid(60, 50, corner=(500005.0, 5100000.0)), small_grid(40, 33, 15.0)]
)
def test_a_mask_on_other_ground_is_refused(other, tmp_path: Path) -> None:
    path = write_tif(tmp_path / "m.tif", np.zeros((other.height, other.width), np.uint8), other)
    with (
        opened(Image(str(path))) as raster,
        pytest.raises(BadImageError, match=r"the mask .*m\.tif .* does not fit its image"),
    ):
        on_grid(Mask("clm"), raster, small_grid(), Block(0, 5, 0, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "fmask"}, r"mask='fmask' is none of \['classes', 'classi', 'clm', 'none', 's2cloudless', 'scl'\]"),
        ({"kind": "s2cloudless", "cloud_max": 140}, "cloud_max is a probability in per cent"),
        ({"kind": "classes", "bad": ()}, r"mask=classes needs mask_bad=\[...\]"),
    ],
)
def test_masks_that_cannot_be_meant(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mask(**arguments)


def test_filled_knows_nan_and_numbers() -> None:
    assert filled(np.array([1.0, np.nan, np.inf, -9999.0]), (-9999.0, float("nan"))).tolist() == [
        True,
        False,
        False,
        False,
    ]
    assert filled(np.array([0, 1, 65535], np.uint16), (0.0,)).tolist() == [False, True, True]


# -- backscatter -----------------------------------------------------------------------------------------------------


def test_decibels_and_power_are_each_others_inverse() -> None:
    power = np.array([1e-3, 0.1, 1.0, 20.0])
    np.testing.assert_allclose(to_power(to_decibels(power)), power)
    assert to_decibels(np.array([0.1]))[0] == pytest.approx(-10)
    assert np.isnan(to_decibels(np.array([0.0, -1.0]))).all()


def test_units_that_cannot_be_true_are_refused(rng) -> None:
    power = rng.gamma(4, 0.05, 1000)
    check_units(power, False, "a.tif")
    check_units(to_decibels(power), True, "a.tif")
    with pytest.raises(
        BadImageError, match=r"a\.tif is declared to hold linear power, but .* negative .*say backscatter=db"
    ):
        check_units(to_decibels(power), False, "a.tif")
    with pytest.raises(BadImageError, match=r"declared to hold decibels, but none .* say backscatter=linear"):
        check_units(power, True, "a.tif")
    check_units(-power[:50], False, "a.tif")  # too few to tell
