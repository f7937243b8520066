"""TSViT: its size, its attention against plain loops, positions of other sizes, the circle of the year."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from image_series import BANDS, TSVIT_SMALL, encode, fresh, look, same
from torch.nn import functional as F

from eo_adapt.encoders.blocks.tokens import Block
from eo_adapt.encoders.tsvit import TSViT
from eo_adapt.types import Observation

OFFICIAL = 1_657_476  # parameters of the official code, 10 bands, 19 classes, 24 x 24 images


def test_official_size_less_the_table_of_days() -> None:
    encoder = TSViT({"s2": 10}, out=4)  # as many as pixels a patch: the paper's logits of a class
    table = 366 * 128 + 128
    assert sum(p.numel() for p in encoder.parameters()) == OFFICIAL - table
    assert (encoder.channels, encoder.strides) == ((76,), (2,))


def test_attention_against_plain_loops() -> None:
    torch.manual_seed(0)
    block = Block(6, 2, 3, 2, 0.0)
    x, seen = torch.randn(2, 4, 6), torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]]).bool()
    normed = F.layer_norm(x, (6,)).numpy()
    query, key, value = (normed @ w.numpy().T for w in block.qkv.weight.detach().chunk(3))
    found = np.zeros((2, 4, 6))
    for row in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            scores = query[row][:, head] @ key[row][:, head].T / np.sqrt(3)
            share = np.where(seen[row].numpy(), np.exp(scores), 0)
            found[row][:, head] = share / share.sum(1, keepdims=True) @ value[row][:, head]
    wanted = x + block.project(torch.from_numpy(found).float())
    wanted = wanted + block.mlp(wanted)
    torch.testing.assert_close(block(x, seen), wanted, atol=1e-5, rtol=1e-5)


def test_patches_are_read_pixel_by_pixel_and_tokens_are_channels() -> None:
    """With layers that do nothing, a map is what the last layer makes of token plus place, whatever the image."""
    encoder = TSViT({"s2": BANDS}, head_width=8, size=8, **(TSVIT_SMALL | {"temporal_layers": 0, "spatial_layers": 0}))
    (one,) = encode(encoder, look(2, 3, (8, 8)))
    token = F.layer_norm(encoder.tokens[1], (16,))
    wanted = encoder.last(F.layer_norm(token + encoder.places[:, 2, 3], (16,)))
    torch.testing.assert_close(one[0, 8:16, 2, 3], wanted)
    torch.testing.assert_close(one[0], one[1])


def test_each_patch_meets_its_own_pixels() -> None:
    encoder = TSViT({"s2": BANDS}, head_width=8, **(TSVIT_SMALL | {"spatial_layers": 0})).eval()
    series = look(1, 3, (8, 8), junk=0.0)
    values = series.values.clone()
    values[0, 0, 1, 5, 2] += 1  # in the patch of row 2, column 1
    changed = encode(encoder, replace(series, values=values))[0] - encode(encoder, series)[0]
    assert [tuple(x) for x in changed[0].abs().sum(0).gt(1e-6).nonzero().tolist()] == [(2, 1)]
    half = series.values.roll(1, 4)  # within patches, pixels are not alike
    assert not torch.allclose(encode(encoder, replace(series, values=half))[0], encode(encoder, series)[0], atol=1e-4)


def test_positions_of_other_sizes_are_interpolated() -> None:
    encoder = TSViT({"s2": BANDS}, head_width=8, size=8, **TSVIT_SMALL)
    assert torch.equal(encoder._places(4, 4), encoder.places.flatten(1).T)
    wide = encoder._places(4, 8).T.unflatten(1, (4, 8))
    torch.testing.assert_close(wide[:, :, 1], 0.75 * encoder.places[:, :, 0] + 0.25 * encoder.places[:, :, 1])


@pytest.mark.parametrize(("kind", "same_year"), [("tsvit", True), ("tsvit line", False)])
def test_dates_lie_on_a_circle_or_a_line(kind: str, same_year: bool) -> None:
    encoder, series = fresh(kind).eval(), look()
    assert series.days is not None
    (now,), (then,) = (encode(encoder, replace(series, days=series.days + d)) for d in (0, 4 * 365.25))
    assert torch.allclose(now, then, atol=1e-3) is same_year


def test_growing_degree_days_are_read() -> None:
    encoder = TSViT({"s2": BANDS}, head_width=8, position="gdd", **TSVIT_SMALL).eval()
    series = look()
    with pytest.raises(ValueError, match="needs growing degree days"):
        encode(encoder, series)
    (one,) = encode(encoder, replace(series, gdd=torch.arange(6.0).repeat(3, 1) * 100))
    assert one.isfinite().all()


def test_tokens_always_have_something_to_look_at() -> None:
    encoder = fresh("tsvit").eval()
    nothing = Observation(torch.full((1, 2, BANDS, 16, 16), torch.nan), torch.zeros(1, 2), torch.zeros(1, 2).bool())
    assert encode(encoder, nothing)[0].isfinite().all()
    same(encode(encoder, nothing), encode(encoder, replace(nothing, days=torch.full((1, 2), torch.nan))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 9}, "encoder.size must be a multiple of encoder.patch, 2; got 9"),
        ({"patch": 0}, "must be at least 1"),
        ({"position": "week"}, "position is 'week'"),
    ],
)
def test_options_that_do_not_fit_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TSViT({"s2": BANDS}, **options)
