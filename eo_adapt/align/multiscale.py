"""Predictions at several scales: an image looked at enlarged and shrunk, its class probabilities averaged."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .looks import Look, looks, put
from .options import check_number

POOLED = 32  # how often networks halve a side, multiplied: most take sides that are a multiple of this


def side_at(side: int, scale: float) -> int:
    """Pixels of a side at another scale.

    It stays a multiple of the power of two, up to 32, that the side is a multiple of, so that a network which halves
    its maps takes the new size where it took the old one. At least one such multiple is left.
    """
    step = math.gcd(side, POOLED)
    return step * max(1, round(side * scale / step))


def resize(look: Look, scale: float) -> Look:
    """An image, or a series of images, at another scale; pixels that are not finite have no say.

    Args:
        look: Values (B, C, H, W) or (B, T, C, H, W).
        scale: Factor of both sides, > 0; see :func:`side_at`.
    """
    x = look.values
    size = tuple(side_at(n, scale) for n in x.shape[-2:])
    flat = x.float().flatten(0, -4)
    seen = flat.isfinite()
    share = _bilinear(seen.float(), size)
    values = torch.where(share > 0.5, _bilinear(flat.where(seen, 0.0), size) / share, torch.nan)
    pixels = look.valid_pixels
    if pixels is not None:
        near = F.interpolate(pixels.float().flatten(0, -3)[:, None], size=size, mode="nearest-exact")[:, 0] > 0.5
        pixels = near.view(*pixels.shape[:-2], *size)
    return replace(look, values=values.view(*x.shape[:-2], *size).to(x.dtype), valid_pixels=pixels)


def multiscale(predict: Callable[[Any], Tensor], inputs: Any, scales: Sequence[float], size: Sequence[int]) -> Tensor:
    """Logits of what a network says on average over scales: log of the mean of its probabilities.

    Softmax comes before the mean, so that each scale has one vote, whatever the size of its logits. Inputs that are no
    images (see :attr:`.looks.Look.imaged`) stay as they are; where there is no image at all, or the only scale is 1,
    the network is asked once and answers as it does.

    Args:
        predict: inputs -> logits (B, K, *S).
        inputs: What the network is called with.
        scales: Factors of the images' sides, > 0.
        size: *S of the logits wanted; those of another scale are brought there.

    Returns:
        (B, K, *size); float32 where several looks are averaged.

    Source: LoveCS (Wang et al. 2022, Remote Sensing of Environment 277), whose released code averages raw logits.
    """
    images = {name: look for name, look in looks(inputs).items() if look.imaged}
    if tuple(scales) == (1.0,) or not images:
        return predict(inputs)
    _check_sizes(images.values(), scales)
    total = torch.zeros(())
    for scale in scales:
        logits = predict(put(inputs, {name: resize(look, scale) for name, look in images.items()}))
        p = logits.float().softmax(1)
        total = total.to(p.device) + (_bilinear(p, size) if p.ndim == 4 else p)
    return (total / len(scales)).clamp_min(torch.finfo(torch.float32).tiny).log()


def _check_sizes(images: Iterable[Look], scales: Sequence[float]) -> None:
    """Warn, once, where scales are too near for images so small."""
    for look in images:
        height, width = look.values.shape[-2:]
        sizes = [(side_at(height, scale), side_at(width, scale)) for scale in scales]
        if len(set(sizes)) < len(set(scales)):
            warnings.warn(
                f"images of {height} x {width} pixels have the sizes {sizes} at scales {list(scales)}, some alike: "
                "sides stay multiples of what networks divide them by; take larger images or scales further apart",
                stacklevel=3,
            )


def check_scales(name: str, scales: Sequence[float], gsd_ratio: float) -> tuple[float, ...]:
    """Scales as factors of the image's sides: each times the ratio of ground sampling distances.

    Raises:
        ValueError: If there is none, or a number is not positive and finite.
    """
    check_number(f"{name}.gsd_ratio (metres a target pixel by metres a source pixel)", gsd_ratio, above=0)
    for scale in scales:
        check_number(f"{name}.scales", scale, above=0)
    if not len(scales):
        raise ValueError(f"{name}.scales needs at least one scale; got none")
    return tuple(gsd_ratio * scale for scale in scales)


def _bilinear(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)
