"""Temporal convolutions on a regular grid of days."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Observation
from .days import Position, position
from .masked import keep, lift, valid_dates
from .norm import SafeBatchNorm1d
from .stages import Temporal


def resample(values: Tensor, days: Tensor, valid: Tensor, grid: Tensor) -> Tensor:
    """Linear interpolation of valid dates onto a grid of days; the nearest date outside, zeros without any date.

    Args:
        values: (B, T, D), dates in any order; dates on the same day are averaged.
        days: (B, T).
        valid: (B, T) bool.
        grid: (G,) days, or (B, G) where each sample has its own.

    Returns:
        (B, G, D), float32 or better.
    """
    with torch.autocast(values.device.type, enabled=False):
        values, at = keep(lift(values), valid), grid[..., None].to(values.device)
        days, shown = days[:, None], valid[:, None]  # (B, 1, T) against (G, 1)
        before = days.where(shown & (days <= at), -torch.inf).amax(-1, keepdim=True)
        after = days.where(shown & (days >= at), torch.inf).amin(-1, keepdim=True)
        before, after = before.where(before.isfinite(), after), after.where(after.isfinite(), before)
        on_before, on_after = ((shown & (days == day)).to(values.dtype) for day in (before, after))
        share = ((at - before) / (after - before)).where(after > before, 0.0).to(values.dtype)
        weight = (1 - share) * on_before / on_before.sum(-1, keepdim=True).clamp(min=1)
        weight = weight + share * on_after / on_after.sum(-1, keepdim=True).clamp(min=1)
        return weight @ values


class TempCNN(Temporal):
    """TempCNN (Pelletier et al. 2019) with the sizes of BreizhCrops: three convolutions, flatten, one dense layer.

    Deviation: theirs draws 45 of the dates at random; here the valid dates are interpolated onto 45 days, 8 apart.

    Args:
        in_channels: Size D of a date's vector.
        width: Channels of the convolutions.
        kernel: Their length, odd.
        out: Size of the returned vector.
        dropout: After every layer.
        position: What the grid counts: "days", "doy" or "gdd".
        first: First point of the grid, days or degree days.
        step: Distance between its points.
        steps: Number of its points.
    """

    def __init__(
        self,
        in_channels: int = 128,
        width: int = 128,
        kernel: int = 7,
        out: int = 512,
        dropout: float = 0.182,
        position: Position = "days",
        first: float = 0.0,
        step: float = 8.0,
        steps: int = 45,
    ) -> None:
        super().__init__()
        self.out, self.position = out, position
        self.first, self.step, self.steps = first, step, steps
        layers: list[nn.Module] = []
        for size in (in_channels, width, width):
            layers += [nn.Conv1d(size, width, kernel, padding="same"), SafeBatchNorm1d(width), nn.ReLU()]
            layers += [nn.Dropout(dropout)]
        layers += [nn.Flatten(), nn.Linear(width * steps, out), SafeBatchNorm1d(out), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) -> (B, out)."""
        days = position(observation, self.position)
        grid = self.first + self.step * torch.arange(self.steps, device=x.device, dtype=days.dtype)
        regular = resample(x, days, valid_dates(observation), grid)
        result: Tensor = self.layers(regular.transpose(1, 2).to(x.dtype))
        return result
