"""Frames: packed and spread, cells that are seen, sums over dates against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_series import bilinear

from eo_adapt.encoders.blocks.frames import Frames, clean_frames, dates_only, seen_cells, weighted_sum
from eo_adapt.types import Observation


@settings(deadline=None, max_examples=25)
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=3),
    groups=st.sampled_from([1, 2, 4]),
    scale=st.sampled_from([1, 2, 4]),
    most=st.sampled_from([None, 1, 2]),
)
def test_weighted_sums_of_frames(counts: list[int], groups: int, scale: int, most: int | None) -> None:
    valid = torch.arange(3) < torch.tensor(counts)[:, None]
    frames = Frames(valid)
    x, weights = torch.randn(sum(counts), 4, 2 * scale, 3 * scale), torch.rand(sum(counts), groups, 2, 3)
    sizes, owners = frames.pieces(most)
    got = weighted_sum(x.split(sizes), weights, owners, len(counts)).numpy()
    wanted, n = np.zeros_like(got), 0
    for sample, count in enumerate(counts):
        for _ in range(count):
            for channel in range(4):
                weight = weights[n, channel * groups // 4].numpy()
                wanted[sample, channel] += bilinear(weight, 2 * scale, 3 * scale) * x[n, channel].numpy()
            n += 1
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize("full", [True, False])
def test_frames_are_packed_and_spread(full: bool) -> None:
    valid = torch.tensor([[True, True], [full, True]])
    frames, x = Frames(valid), torch.randn(2, 2, 3, requires_grad=True)
    packed = frames.pack(x)
    assert packed.tolist() == x[valid].tolist()
    assert frames.spread(packed).tolist() == x.where(valid[..., None], 0.0).tolist()
    frames.spread(packed).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == valid[..., None].float().expand(2, 2, 3).tolist()
    assert frames.pieces() == ([2, 2] if full else [2, 1], [0, 1])
    assert frames.pieces(1)[1] == ([0, 0, 1, 1] if full else [0, 0, 1])
    assert Frames(torch.zeros(2, 2).bool()).pieces() == ([0], [0])


def test_cells_are_seen_where_a_pixel_is() -> None:
    pixels = torch.zeros(1, 2, 4, 8).bool()
    pixels[0, 0, 3, 7] = pixels[0, 0, 0, 1] = True
    series = clean_frames(Observation(torch.rand(1, 2, 1, 4, 8), valid_pixels=pixels))
    assert series.valid is not None
    assert series.valid.tolist() == [[True, False]]
    assert seen_cells(series, 4).tolist() == [[[[True, True]], [[False, False]]]]
    assert seen_cells(series, 2)[0, 0].int().tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]
    assert seen_cells(dates_only(series), 2)[0, :, 0, 0].tolist() == [True, False]
    assert (series.values[:, :, 0] != 0).tolist() == pixels.tolist()
