"""Lightweight temporal attention: one learned query a head, channel groups as values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Observation
from .days import DayEncoding, Position
from .masked import keep, lift, masked_softmax, valid_dates
from .norm import dense
from .stages import Temporal


class LTAE(Temporal):
    """L-TAE (Garnot & Landrieu 2020, "Lightweight temporal self-attention").

    Scores are Q_h . (K_h x_t + b_h) / sqrt(d_key). Q_h does not depend on the input, so the forward pass folds it into
    the keys, u_h = K_h^T Q_h / sqrt(d_key), and scores with one product; the parameters stay the official ones.

    Deviations: the norm after the input layer is over channels only (theirs is over channels and dates, which freezes
    the number of dates); invalid dates get no attention; a sample without any date gives a constant.

    Args:
        in_channels: Size D of a date's vector.
        d_model: Width of attention, a multiple of ``heads``.
        heads: Number of heads.
        d_key: Size of a key.
        out: Size of the returned vector.
        dropout: On the output.
        attention_dropout: On the attention weights.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: See ``DayEncoding``; None is the default of the position.
    """

    def __init__(
        self,
        in_channels: int = 128,
        d_model: int = 256,
        heads: int = 16,
        d_key: int = 8,
        out: int = 128,
        dropout: float = 0.2,
        attention_dropout: float = 0.1,
        position: Position = "days",
        tau: float | None = None,
    ) -> None:
        super().__init__()
        self.out, self.heads, self.d_key = out, heads, d_key
        self.code = DayEncoding(d_model, position, tau, heads)
        self.embed = nn.Sequential(nn.LayerNorm(in_channels), nn.Linear(in_channels, d_model), nn.LayerNorm(d_model))
        self.query = nn.Parameter(torch.empty(heads, d_key))
        self.key = nn.Linear(d_model, heads * d_key)
        for weight in (self.query, self.key.weight):
            nn.init.normal_(weight, std=(2 / d_key) ** 0.5)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.mlp = dense((d_model, out))
        self.finish = nn.Sequential(nn.Dropout(dropout), nn.LayerNorm(out))

    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) -> (B, out)."""
        valid = valid_dates(observation)
        x = self.embed(keep(x, valid)) + self.code(observation)
        with torch.autocast(x.device.type, enabled=False):
            x = lift(x)
            weights = self.attention_dropout(masked_softmax(self.scores(x), valid))
            seen = torch.einsum("bth,bthg->bhg", weights, x.view(*x.shape[:2], self.heads, -1))
        result: Tensor = self.finish(self.mlp(seen.flatten(1).to(self.key.weight.dtype)))
        return result

    def scores(self, x: Tensor) -> Tensor:
        """Folded attention scores of embedded dates x (B, T, d_model): (B, T, heads)."""
        query = self.query.to(x.dtype) / self.d_key**0.5
        key = self.key.weight.to(x.dtype).view(self.heads, self.d_key, -1)
        offset = (self.key.bias.to(x.dtype).view(self.heads, -1) * query).sum(-1)
        scores: Tensor = x @ torch.einsum("hkd,hk->dh", key, query) + offset
        return scores
