"""A recurrent baseline that reads the valid dates in order of time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Observation
from .days import DayEncoding, Position
from .days import position as place
from .masked import keep, valid_dates
from .stages import Temporal


class GRU(Temporal):
    """GRU over the valid dates, sorted by day and moved to the front; returns the state after the last one.

    Padding and the order in which dates are stored change nothing; dates on the same day keep their stored order.
    A sample without any date gives zeros.

    Args:
        in_channels: Size D of a date's vector.
        out: Size of the state and of the returned vector.
        layers: Number of stacked layers.
        dropout: Between layers, and on the returned vector.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: See ``DayEncoding``; None is the default of the position.
    """

    def __init__(
        self,
        in_channels: int = 128,
        out: int = 128,
        layers: int = 1,
        dropout: float = 0.2,
        position: Position = "days",
        tau: float | None = None,
    ) -> None:
        super().__init__()
        self.out = out
        self.axis: Position = "gdd" if position == "gdd" else "days"
        self.code = DayEncoding(in_channels, position, tau)
        self.gru = nn.GRU(in_channels, out, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) -> (B, out)."""
        valid = valid_dates(observation)
        x = (keep(x, valid) + self.code(observation)).to(self.gru.weight_ih_l0.dtype)
        order = place(observation, self.axis).where(valid, torch.inf).argsort(dim=1, stable=True)
        states, _ = self.gru(x.take_along_dim(order[..., None], 1))
        count = valid.sum(1)
        last = states[torch.arange(len(x), device=x.device), (count - 1).clamp(min=0)]
        result: Tensor = self.dropout(last.where(count[:, None] > 0, 0.0))
        return result
