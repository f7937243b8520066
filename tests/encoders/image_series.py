"""Small encoders of image series, and series with gaps to feed them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eo_adapt.encoders.series import SeriesEncoder
from eo_adapt.encoders.tsvit import TSViT
from eo_adapt.encoders.unet3d import UNet3d
from eo_adapt.encoders.utae import UTAE
from eo_adapt.types import Observation

BANDS, SAMPLES, DATES, SIZE = 3, 3, 6, 16
UTAE_SMALL: dict[str, Any] = {"widths": (8, 8, 16), "decoder": (8, 8), "heads": 2, "d_model": 16}
TSVIT_SMALL: dict[str, Any] = {"width": 16, "tokens": 3, "temporal_layers": 2, "spatial_layers": 1, "heads": 2}
SMALL: dict[str, Callable[[], SeriesEncoder]] = {
    "utae": lambda: UTAE({"s2": BANDS}, **UTAE_SMALL),
    "utae att_mean": lambda: UTAE({"s2": BANDS}, aggregate="att_mean", **UTAE_SMALL),
    "utae mean": lambda: UTAE({"s2": BANDS}, aggregate="mean", **UTAE_SMALL),
    "utae batch": lambda: UTAE({"s2": BANDS}, norm="batch", **UTAE_SMALL),
    "tsvit": lambda: TSViT({"s2": BANDS}, head_width=8, patch=4, **TSVIT_SMALL),
    "tsvit line": lambda: TSViT({"s2": BANDS}, head_width=8, position="days", size=16, **TSVIT_SMALL),
    "unet3d": lambda: UNet3d({"s2": BANDS}, widths=(4, 8)),
    "unet3d group": lambda: UNet3d({"s2": BANDS}, widths=(4, 8), norm="group"),
}


def fresh(name: str) -> SeriesEncoder:
    """In training mode without dropout, its batch norms away from their initial state."""
    torch.manual_seed(0)
    encoder = SMALL[name]()
    for module in encoder.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    encode(encoder, look())
    return encoder


def look(
    samples: int = SAMPLES,
    dates: int = DATES,
    size: tuple[int, int] = (SIZE, SIZE),
    pixels: bool = False,
    junk: float = torch.nan,
    bands: int = BANDS,
) -> Observation:
    """Random images with gaps, early and late days; ``junk`` wherever the masks say so."""
    generator = torch.Generator().manual_seed(1)
    values = torch.rand(samples, dates, bands, *size, generator=generator)
    days = (torch.rand(samples, dates, generator=generator) * 500 - 80).sort(1).values
    valid = torch.rand(samples, dates, generator=generator) > 0.3
    valid[:, 0] = True
    shown = torch.rand(samples, dates, *size, generator=generator) > 0.4
    shown[:, :, :4, :4] &= (torch.arange(dates) % 2 == 0)[:, None, None]  # a cloud over a whole cell
    there = valid[:, :, None, None] & (shown | (not pixels))
    values = values.where(there[:, :, None], junk)
    return Observation(values, days, valid, shown if pixels else None)


def encode(encoder: SeriesEncoder, series: Observation) -> tuple[Tensor, ...]:
    return encoder({"s2": series}).maps


def along_time(series: Observation, change: Callable[[Tensor], Tensor]) -> Observation:
    """The same change on everything that has dates."""
    return replace(series, **{name: change(x) for name, x in vars(series).items() if x is not None})


def same(one: tuple[Tensor, ...], other: tuple[Tensor, ...], tolerance: float = 1e-5) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def bilinear(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w) -> (height, width), pixel centres in place."""

    def places(size: int, out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        at = np.clip((np.arange(out) + 0.5) * size / out - 0.5, 0, size - 1)
        low = np.floor(at).astype(int)
        return low, np.minimum(low + 1, size - 1), at - low

    top, bottom, down = places(x.shape[0], height)
    left, right, across = places(x.shape[1], width)
    rows = x[top] * (1 - down[:, None]) + x[bottom] * down[:, None]
    return rows[:, left] * (1 - across) + rows[:, right] * across
