"""The plain alternative to a pixel-set encoder: average the pixels, mix the bands."""

from __future__ import annotations

from torch import Tensor, nn

from ...types import Observation
from .masked import keep, lift, valid_dates
from .stages import Spatial, pixel_sets


class PixelMean(Spatial):
    """Mean over the valid pixels of a date, then one Linear over the bands.

    Args:
        in_channels: Bands C.
        out: Size of a date's vector.
    """

    def __init__(self, in_channels: int, out: int = 128) -> None:
        super().__init__()
        self.out = out
        self.mix = nn.Linear(in_channels, out)

    def forward(self, observation: Observation, attributes: Tensor | None = None) -> Tensor:
        """(B, T, C, S) or (B, T, C) -> (B, T, out), zeros on invalid dates; attributes are not read."""
        dates = valid_dates(observation)
        values, pixels = pixel_sets(observation)
        mask = (pixels & dates[..., None])[..., None]
        mean = lift(values).where(mask, 0.0).sum(2) / mask.sum(2).clamp(min=1)
        mixed: Tensor = self.mix(mean.to(self.mix.weight.dtype))
        return keep(mixed, dates)
