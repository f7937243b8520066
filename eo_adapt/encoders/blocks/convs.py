"""Convolutions, norms and activations of the encoders for image series."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .norm import SafeBatchNorm2d

Norm = Literal["group", "batch"]
GROUPS = 4  # of group norm, as in U-TAE


def check_norm(norm: str, widths: Sequence[int]) -> None:
    """Raises ValueError unless the norm is known and fits the widths."""
    if norm not in get_args(Norm):
        raise ValueError(f"encoder.norm must be one of {list(get_args(Norm))}; got {norm!r}")
    if norm == "group" and any(width % GROUPS for width in widths):
        raise ValueError(
            f"group norm of {GROUPS} groups needs widths that are multiples of {GROUPS}; got {list(widths)}: change "
            "them, or set encoder.norm=batch"
        )


def norm_of(norm: Norm, width: int) -> nn.Module:
    """Group norm of one frame alone, or batch norm of all frames that are given to it."""
    return nn.GroupNorm(GROUPS, width) if norm == "group" else SafeBatchNorm2d(width)


def convs(sizes: Sequence[int], norm: Norm, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution (reflecting the border), norm and ReLU from each size to the next."""
    layers: list[nn.Module] = []
    for size, following in pairwise(sizes):
        layers += [
            nn.Conv2d(size, following, kernel, stride, padding=1, padding_mode="reflect"),
            norm_of(norm, following),
            nn.ReLU(inplace=True),  # neither norm needs its output for the gradient
        ]
    return nn.Sequential(*layers)


class Down(nn.Module):
    """Halves the sides with a 4 x 4 convolution, then one convolution and one with a shortcut (U-TAE).

    With step 1 the sides stay, by a 3 x 3 convolution (FLAIR-HUB).
    """

    def __init__(self, width: int, out: int, norm: Norm, step: int = 2) -> None:
        super().__init__()
        self.down = convs((width, width), norm, kernel=2 + step, stride=step)
        self.first = convs((width, out), norm)
        self.second = convs((out, out), norm)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, H, W) -> (N, out, H / 2, W / 2)."""
        x = self.first(self.down(x))
        return x + self.second(x)


class Up(nn.Module):
    """Doubles the sides, joins the map of that size, then one convolution and one with a shortcut (U-TAE).

    With step 1 the sides stay.
    """

    def __init__(self, width: int, out: int, skip: int, step: int = 2) -> None:
        super().__init__()
        up = nn.ConvTranspose2d(width, out, 2 + step, step, 1)
        self.up = nn.Sequential(up, SafeBatchNorm2d(out), nn.ReLU(inplace=True))
        self.skip = nn.Sequential(nn.Conv2d(skip, skip, 1), SafeBatchNorm2d(skip), nn.ReLU(inplace=True))
        self.first = convs((out + skip, out), "batch")
        self.second = convs((out, out), "batch")

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, D, h, w) and (B, S, 2 h, 2 w) -> (B, out, 2 h, 2 w)."""
        x = self.first(torch.cat([self.up(x), self.skip(skip)], 1))
        return x + self.second(x)
