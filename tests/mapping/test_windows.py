"""Windows cover every pixel, bands every row, and blending gives back what all windows agree on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from eo_adapt.mapping.blend import LEAST, Blend, weight_of
from eo_adapt.mapping.windows import Windows

sizes = st.integers(1, 70)


@st.composite
def grids(draw: st.DrawFn) -> Windows:
    tile = draw(st.integers(1, 40))
    return Windows(draw(sizes), draw(sizes), tile, draw(st.integers(0, tile - 1)))


@given(grids())
def test_windows_cover_each_pixel_and_bands_each_row_once(grid: Windows) -> None:
    covered = np.zeros((grid.height, grid.width), int)
    for row in grid.rows:
        for column in grid.columns:
            covered[row : row + grid.tile, column : column + grid.tile] += 1
    assert covered.min() >= 1
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        steps = np.diff(starts)
        assert (steps >= 1).all()
        assert (steps <= grid.tile - grid.overlap).all()
        assert starts[-1] == max(0, length - grid.tile)
    ends = [grid.band(number) for number in range(grid.bands)]
    assert [row for top, until in ends for row in range(top, until)] == list(range(grid.height))
    for number, (top, until) in enumerate(ends):
        reach = [r for r, start in enumerate(grid.rows) if start < until and start + grid.tile > top]
        assert reach == list(range(grid.reaching(number), number + 1))


@given(grids(), st.integers(1, 9))
def test_batches_of_a_row_are_of_nearly_equal_size(grid: Windows, most: int) -> None:
    groups = grid.groups(most)
    assert [column for group in groups for column in group] == list(grid.columns)
    assert max(map(len, groups)) <= most
    assert max(map(len, groups)) - min(map(len, groups)) <= 1


def test_coarser_pixels_are_not_cut_through() -> None:
    grid = Windows(103, 97, 24, 4, unit=6)
    assert all(start % 6 == 0 for start in (*grid.rows, *grid.columns))
    assert grid.rows[-1] + 24 >= 103
    assert grid.columns[-1] + 24 >= 97
    with pytest.raises(ValueError, match=r"overlap=20 must be at least 0 and at most tile - 6 = 18"):
        Windows(103, 97, 24, 20, unit=6)


@settings(deadline=None, max_examples=60)
@given(grids(), st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_what_windows_agree_on_comes_back(grid: Windows, seed: int, channels: int) -> None:
    """An identity network gives back its input, at every size, tile and overlap; so does a start in the middle."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(channels, grid.height, grid.width)).astype(np.float32)
    seen = rng.random((grid.height, grid.width)) < 0.8
    start = int(rng.integers(grid.bands))
    for first in {0, grid.reaching(start)}:
        blend = Blend(grid, channels, torch.device("cpu"), first)
        for row in range(first, grid.bands):
            for group in grid.groups(3):
                cut = [_cut(image, grid.rows[row], column, grid.tile) for column in group]
                there = [_cut(seen[None], grid.rows[row], column, grid.tile)[0] for column in group]
                blend.add(torch.from_numpy(np.stack(cut)), torch.from_numpy(np.stack(there)), group)
            top, until = grid.band(row)
            mean, shown = blend.take(until)
            if first == 0 or row >= start:
                np.testing.assert_allclose(mean, image[:, top:until], rtol=2e-5, atol=2e-5)
                np.testing.assert_array_equal(shown, seen[top:until])


def _cut(image: np.ndarray, row: int, column: int, tile: int) -> np.ndarray:
    out = np.zeros((len(image), tile, tile), image.dtype)
    part = image[:, row : row + tile, column : column + tile]
    out[:, : part.shape[1], : part.shape[2]] = part
    return out


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (8, 2), (16, 8), (9, 3), (9, 8), (1, 0)])
def test_weights_of_neighbours_add_up_to_one(tile: int, overlap: int) -> None:
    weight = weight_of(tile, overlap)
    assert float(weight.min()) >= LEAST**2
    assert torch.equal(weight, weight.T)
    assert torch.equal(weight, weight.flip(0))
    reach = min(overlap, tile // 2)
    expected = np.sin((np.arange(reach) + 0.5) * np.pi / (2 * max(1, reach))) ** 2
    row = weight.diagonal().sqrt()
    np.testing.assert_allclose(row[:reach], np.maximum(expected, LEAST), rtol=1e-4)
    if overlap <= tile // 2:
        both = row[tile - reach :] + row[:reach]
        np.testing.assert_allclose(both, 1.0, atol=2 * LEAST)
    assert (row[reach : tile - reach] == 1).all()
