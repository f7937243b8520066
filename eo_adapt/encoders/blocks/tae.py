"""Temporal attention with a master query a head, averaged over the dates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...types import Observation
from .days import DayEncoding, Position
from .masked import keep, lift, masked_mean, masked_softmax, valid_dates
from .norm import SafeBatchNorm1d, dense
from .stages import Temporal


class TAE(Temporal):
    """TAE, the temporal attention encoder (Garnot et al., CVPR 2020).

    A head's master query is the mean of its queries over the dates, then batch norm and Linear; the values are the
    unprojected dates. A mean of linear maps is the linear map of the mean, so queries are computed once a sample.

    Deviations: means and attention cover valid dates only; a sample without any date gives a constant.

    Args:
        in_channels: Size D of a date's vector.
        heads: Number of heads.
        d_key: Size of a key.
        widths: Hidden sizes of the MLP that follows, from heads * D.
        out: Size of the returned vector.
        dropout: On the output.
        attention_dropout: On the attention weights.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: See ``DayEncoding``; None is the default of the position.
    """

    def __init__(
        self,
        in_channels: int = 128,
        heads: int = 4,
        d_key: int = 32,
        widths: Sequence[int] = (128,),
        out: int = 128,
        dropout: float = 0.2,
        attention_dropout: float = 0.1,
        position: Position = "days",
        tau: float | None = None,
    ) -> None:
        super().__init__()
        self.out, self.heads, self.d_key = out, heads, d_key
        self.norm = nn.LayerNorm(in_channels)
        self.code = DayEncoding(in_channels, position, tau)
        size = heads * d_key
        self.query, self.key = nn.Linear(in_channels, size), nn.Linear(in_channels, size)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=(2 / d_key) ** 0.5)
        self.master = nn.Sequential(SafeBatchNorm1d(size), nn.Linear(size, size))
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.mlp = dense((heads * in_channels, *widths, out))
        self.finish = nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(out))

    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) -> (B, out)."""
        valid = valid_dates(observation)
        x = self.norm(keep(x, valid)) + self.code(observation)
        x = x.to(self.key.weight.dtype)
        query = self.master(self.query(masked_mean(x, valid).to(x.dtype))).unflatten(-1, (self.heads, -1))
        key = self.key(x).unflatten(-1, (self.heads, -1))
        with torch.autocast(x.device.type, enabled=False):
            scores = torch.einsum("bthk,bhk->bth", lift(key), lift(query)) / self.d_key**0.5
            seen = torch.einsum("bth,btd->bhd", self.attention_dropout(masked_softmax(scores, valid)), lift(x))
        result: Tensor = self.finish(self.mlp(seen.flatten(1).to(x.dtype)))
        return result
