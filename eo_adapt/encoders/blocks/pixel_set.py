"""Pixel-set encoder: the mean and spread of learned pixel features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...types import Observation
from .masked import keep, lift, valid_dates
from .norm import SafeBatchNorm1d, dense
from .stages import Spatial, pixel_sets
from .static import exporting

EPS = 1e-10  # added to the variance: keeps the gradient of the root finite, also in half precision


def mean_std(x: Tensor, pixels: Tensor) -> Tensor:
    """Mean and standard deviation (divisor n - 1; 1 for a lone pixel) over valid pixels, in float32.

    Args:
        x: (N, S, W) features, finite everywhere.
        pixels: (N, S) bool; a row without any True gives no meaningful numbers, but finite ones.

    Returns:
        (N, 2 W): means, then standard deviations.
    """
    with torch.autocast(x.device.type, enabled=False):
        x, mask = lift(x), pixels[..., None]
        count = mask.sum(1)
        mean = x.where(mask, 0.0).sum(1) / count.clamp(min=1)
        spread = (x - mean[:, None]).where(mask, 0.0).square().sum(1) / (count - 1).clamp(min=1)
        return torch.cat([mean, (spread + EPS).sqrt()], -1)


class PixelSetEncoder(Spatial):
    """PSE, the pixel-set encoder (Garnot et al., CVPR 2020).

    MLP a pixel -> mean and std over the pixels -> beside the geometric features -> Linear and batch norm, no ReLU.

    Deviations: masked dates and pixels never enter a layer, so batch statistics do not depend on padding; epsilon is
    1e-10 inside the root (theirs, 1e-31, has an infinite gradient in half precision); a series (B, T, C) counts as one
    pixel.

    Args:
        in_channels: Bands C.
        widths: Sizes of the pixel MLP.
        out: Size of a date's vector.
        attributes: Geometric features A a parcel, already normalised; 0 for none. Theirs are 4.
    """

    def __init__(self, in_channels: int, widths: Sequence[int] = (32, 64), out: int = 128, attributes: int = 0) -> None:
        super().__init__()
        sizes = (in_channels, *widths)
        self.out, self.attributes = out, attributes
        self.pixel = dense(sizes)
        self.date = nn.Sequential(nn.Linear(2 * sizes[-1] + attributes, out), SafeBatchNorm1d(out))

    def forward(self, observation: Observation, attributes: Tensor | None = None) -> Tensor:
        """(B, T, C, S) or (B, T, C), and attributes (B, A), -> (B, T, out), zeros on invalid dates."""
        dates = valid_dates(observation)
        values, pixels = pixel_sets(observation)
        if exporting():
            return self._of_all(values, pixels, dates, attributes)
        pixels = pixels[dates]
        shown: Tensor = self.pixel(values[dates][pixels])
        sets = shown.new_zeros(*pixels.shape, shown.shape[-1])
        sets[pixels] = shown
        pooled = mean_std(sets, pixels)
        if self.attributes:
            shape = self._checked(attributes, len(values)).to(pooled)
            pooled = torch.cat([pooled, shape[:, None].expand(-1, values.shape[1], -1)[dates]], -1)
        code: Tensor = self.date(pooled)
        every = code.new_zeros(*dates.shape, self.out)
        every[dates] = code
        return every

    def _of_all(self, values: Tensor, pixels: Tensor, dates: Tensor, attributes: Tensor | None) -> Tensor:
        """The same from all pixels of all dates; those that are masked are hidden after each layer."""
        batch, times, size, _ = values.shape
        sets = self.pixel(values.flatten(0, 2)).unflatten(0, (batch * times, size))
        pooled = mean_std(sets, pixels.flatten(0, 1))
        if self.attributes:
            shape = self._checked(attributes, batch).to(pooled)
            pooled = torch.cat([pooled, shape[:, None].expand(-1, times, -1).flatten(0, 1)], -1)
        code: Tensor = self.date(pooled).unflatten(0, (batch, times))
        return keep(code, dates)

    def _checked(self, attributes: Tensor | None, samples: int) -> Tensor:
        if attributes is None or attributes.shape != (samples, self.attributes):
            got = "none" if attributes is None else f"shape {tuple(attributes.shape)}"
            raise ValueError(
                f"the pixel-set encoder was built for {self.attributes} attributes a parcel and needs shape "
                f"{(samples, self.attributes)}; got {got}: set spatial.attributes to what the store holds, 0 for none"
            )
        return attributes
