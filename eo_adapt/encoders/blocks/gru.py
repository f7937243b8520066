"""A recurrent baseline that reads the valid dates in order of time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...types import Observation
from .days import DayEncoding, Position
from .days import position as place
from .masked import keep, valid_dates
from .stages import Temporal
from .static import exporting

OF_A_LAYER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


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
        place_of = place(observation, self.axis).where(valid, torch.inf)
        if exporting():
            states = self._scanned(sorted_by(x, place_of))
        else:
            order = place_of.argsort(dim=1, stable=True)
            states, _ = self.gru(x.take_along_dim(order[..., None], 1))
        count = valid.sum(1)
        last = states[torch.arange(x.shape[0], device=x.device), (count - 1).clamp(min=0)]
        result: Tensor = self.dropout(last.where(count[:, None] > 0, 0.0))
        return result

    def _scanned(self, x: Tensor) -> Tensor:
        """States (B, T, out) of all layers, written as a scan over dates: torch.export would fix T in ``nn.GRU``."""
        from torch._higher_order_ops.scan import scan

        x = x.transpose(0, 1)
        for layer in range(self.gru.num_layers):
            weight, again, bias, offset = (getattr(self.gru, f"{name}_l{layer}") for name in OF_A_LAYER)

            def step(state: Tensor, seen: Tensor, again: Tensor = again, offset: Tensor = offset) -> Any:
                reset, update, new = seen.chunk(3, -1)
                own_reset, own_update, own_new = F.linear(state, again, offset).chunk(3, -1)
                update = (update + own_update).sigmoid()
                state = (1 - update) * (new + (reset + own_reset).sigmoid() * own_new).tanh() + update * state
                return state, state.clone()

            _, x = scan(step, x.new_zeros(x.shape[1], self.out), F.linear(x, weight, bias))
        return x.transpose(0, 1)


def sorted_by(x: Tensor, keys: Tensor) -> Tensor:
    """Rows of x (B, T, D) in the order of keys (B, T), ties as they stand: a product, for ONNX has no stable sort."""
    index = torch.arange(keys.shape[1], device=keys.device)
    mine, other = keys[:, :, None], keys[:, None]
    rank = ((other < mine) | ((other == mine) & (index[None] < index[:, None]))).sum(2)
    return (rank[:, None] == index[:, None]).to(x.dtype) @ x
