"""A 3-D U-Net: convolutions over dates, rows and columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..types import Features, Inputs
from .blocks.convs import Norm, check_norm, norm_of
from .blocks.frames import Frames
from .series import SeriesEncoder


class Conv3d(nn.Module):
    """Convolution over dates and space, then norm and leaky ReLU of the valid frames alone; the others become zeros."""

    def __init__(self, width: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv3d(width, out, 3, padding=1)
        self.norm = norm_of(norm, out)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """(B, D, T, H, W) -> (B, out, T, H, W)."""
        x = frames.pack(self.conv(x).transpose(1, 2))
        return frames.spread(F.leaky_relu(self.norm(x))).transpose(1, 2)


class Pair(nn.Module):
    """Two convolutions."""

    def __init__(self, width: int, out: int, norm: Norm) -> None:
        super().__init__()
        self.first, self.second = Conv3d(width, out, norm), Conv3d(out, out, norm)

    def forward(self, x: Tensor, frames: Frames) -> Tensor:
        """(B, D, T, H, W) -> (B, out, T, H, W)."""
        out: Tensor = self.second(self.first(x, frames), frames)
        return out


class UNet3d(SeriesEncoder):
    """3-D U-Net over an image series (Çiçek et al. 2016, arXiv:1606.06650; for crops Rustowicz et al. 2019).

    A baseline without dates: a convolution sees the dates before and after as neighbours, so give them in order. Frames
    that are not valid are zeros at every stage, as beyond the ends of the series; they take no part in statistics or
    in the mean over dates that each map ends with. One in the middle is a gap that keeps its place. The output is that
    of the series without padding, if padding stands at its ends.

    Deviations: no pooling over dates, so that masks hold at every stage; the mean over dates is before the head.

    Args:
        sensors: The data's sensors, name -> number of bands.
        sensor: The sensor to read; "auto" takes the only one.
        widths: Channels at strides 1, 2, 4, ...
        norm: ``batch`` (over the valid frames) or ``group`` (of one frame alone).

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If there is no width, or the norm does not fit.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        sensor: str = "auto",
        widths: Sequence[int] = (32, 64, 128),
        norm: Norm = "batch",
    ) -> None:
        super().__init__(sensors, sensor)
        if not widths:
            raise ValueError("encoder.widths lists the channels at strides 1, 2, 4, ...; got none")
        check_norm(norm, widths)
        self.downs = nn.ModuleList(Pair(a, b, norm) for a, b in pairwise((self.bands, *widths)))
        sizes = list(pairwise(widths))  # of each step up, finest first
        self.ups = nn.ModuleList(nn.ConvTranspose3d(b, a, (1, 2, 2), (1, 2, 2)) for a, b in sizes)
        self.joins = nn.ModuleList(Pair(2 * a, a, norm) for a, _ in sizes)
        self.channels, self.strides = tuple(widths), tuple(2**i for i in range(len(widths)))
        self.step = self.least = self.strides[-1]

    def forward(self, inputs: Inputs) -> Features:
        """One map a stride, (B, D_i, H / stride_i, W / stride_i), means over the valid dates; zeros without any."""
        observation = self.look(inputs)
        assert observation.valid is not None  # noqa: S101 - look gives it
        frames = Frames(observation.valid)
        x, skips = observation.values.transpose(1, 2), []
        for i, down in enumerate(self.downs):
            x = down(F.max_pool3d(x, (1, 2, 2)) if i else x, frames)
            skips.append(x)
        maps = [x]
        for up, join, skip in zip(reversed(self.ups), reversed(self.joins), reversed(skips[:-1]), strict=True):
            x = frames.spread(frames.pack(up(x).transpose(1, 2))).transpose(1, 2)  # its bias is no value of a gap
            x = join(torch.cat([x, skip], 1), frames)
            maps.append(x)
        count = observation.valid.sum(1).clamp(min=1)[:, None, None, None]
        return Features(tuple(x.sum(2) / count for x in reversed(maps)))
