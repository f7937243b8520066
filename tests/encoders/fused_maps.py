"""Fusions of maps, and batches of which some samples lack a sensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from image_series import along_time, look
from torch import Tensor, nn

from eo_adapt.encoders.fusion import Fusion
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.types import Inputs, Observation

IMAGES = {"aerial": 4, "elevation": 1, "s2": 3, "s1": 2}  # 64, 32, 6 and 5 pixels a side
SERIES = {"s2": 3, "s1": 2}  # on one grid of 8 pixels
ON_ONE_GRID = ("early", "mid")
SCHEMES = ("late", "attention", "added", "decision", *ON_ONE_GRID)
SMALL: dict[str, Any] = {"widths": (8, 16), "decoder": (8,), "heads": 4, "d_model": 16}


def fusion(kind: str, **options: Any) -> Fusion:
    """Without dropout, in eval mode, the norms away from their initial state."""
    torch.manual_seed(0)
    scheme, fuse = ("late", "attention") if kind == "attention" else (kind, "concat")
    series = partial(UTAE, **SMALL, down=1)
    if kind in ON_ONE_GRID:
        made = Fusion(SERIES, partial(UTAE, **SMALL), scheme=scheme, **options)
    else:
        image = partial(TimmPyramid, backbone="test_resnet")
        made = Fusion(IMAGES, image, {"s2": series, "s1": series}, scheme=scheme, fuse=fuse, **options)
    for layer in made.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    made.train()(given(kind))
    return made.eval()


def gone(inputs: Mapping[str, Observation], who: Mapping[str, list[int]]) -> Inputs:
    """Nothing valid of a sensor in some samples, and nan there."""
    found = dict(inputs)
    for name, rows in who.items():
        one = found[name]
        values = one.values.clone()
        values[rows] = torch.nan
        if one.values.ndim == 5:
            valid, pixels = one.valid, one.valid_pixels
            assert valid is not None
            valid = valid.clone()
            if pixels is None:
                valid[rows] = False
            else:
                pixels = pixels.clone()
                pixels[rows] = False
            found[name] = replace(one, values=values, valid=valid, valid_pixels=pixels)
        else:
            pixels = torch.ones(len(values), *values.shape[2:]).bool() if one.valid_pixels is None else one.valid_pixels
            pixels = pixels.clone()
            pixels[rows] = False
            found[name] = replace(one, values=values, valid_pixels=pixels)
    return found


def given(kind: str, mixed: bool = True) -> Inputs:
    """Four samples: 1 lacks s2, 2 lacks s1, 3 lacks the aerial image (and so the first sensor)."""
    stream = torch.Generator().manual_seed(3)
    s2, s1 = (8, 8) if kind in ON_ONE_GRID else (6, 5)
    series = {
        "s2": look(4, 5, (s2, s2), pixels=True),
        "s1": along_time(look(4, 7, (s1, s1), bands=2), lambda x: x.flip(1) if x.ndim > 1 else x),
    }
    who = {"s2": [1], "s1": [2]}
    if kind in ON_ONE_GRID:
        return gone(series, who) if mixed else series
    seen = torch.rand(4, 64, 64, generator=stream) > 0.2
    aerial = torch.rand(4, 4, 64, 64, generator=stream).where(seen[:, None], torch.nan)
    images = {
        "aerial": Observation(aerial, valid_pixels=seen),
        "elevation": Observation(torch.rand(4, 1, 32, 32, generator=stream)),
    }
    return gone({**images, **series}, {**who, "aerial": [3], "elevation": [0, 3]}) if mixed else {**images, **series}


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> None:
    assert all(torch.isfinite(x).all() for x in one)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
