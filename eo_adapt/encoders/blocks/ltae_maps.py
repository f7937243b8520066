"""Lightweight temporal attention of every cell of a map series."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...types import Observation
from .days import DayEncoding, Position
from .masked import keep, lift, masked_softmax
from .norm import dense


class DateNorm(nn.GroupNorm):
    """Group norm of series (P, T, C) that sees valid dates only: over the dates and the channels of a group.

    Without invalid dates it is torch's group norm of (P, C, T).
    """

    def forward(self, input: Tensor, valid: Tensor) -> Tensor:  # type: ignore[override]
        """(P, T, C) and valid (P, T) -> (P, T, C) float32 or better; finite on invalid dates."""
        x = keep(lift(input), valid).unflatten(2, (self.num_groups, -1))
        shown = valid[..., None, None]
        count = (valid.sum(1) * x.shape[3]).clamp(min=1)[:, None, None, None]
        centred = (x - x.sum((1, 3), keepdim=True) / count).where(shown, 0.0)
        variance = centred.square().sum((1, 3), keepdim=True) / count
        return (centred * (variance + self.eps).rsqrt()).flatten(2) * self.weight + self.bias


class LTAEMaps(nn.Module):
    """L-TAE (Garnot & Landrieu 2020) applied to every cell, as in U-TAE (Garnot & Landrieu 2021).

    Each head's query is constant, so that it is folded into the keys, see
    :class:`~eo_adapt.encoders.blocks.ltae.LTAE`; the parameters stay the official ones.

    Deviations: the first norm takes its statistics from valid dates (theirs from padded ones, too, so that the output
    depends on the padding); cells that are never seen get no attention and give a constant.

    Args:
        in_channels: Channels D of the maps, also those of the result.
        d_model: Width of attention, a multiple of ``heads``.
        heads: Number of heads; divides D.
        d_key: Size of a key.
        dropout: On the output.
        attention_dropout: On the attention weights.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: See :class:`~eo_adapt.encoders.blocks.days.DayEncoding`.
    """

    def __init__(
        self,
        in_channels: int,
        d_model: int,
        heads: int,
        d_key: int,
        dropout: float,
        attention_dropout: float,
        position: Position,
        tau: float | None,
    ) -> None:
        super().__init__()
        self.heads, self.d_key = heads, d_key
        self.code = DayEncoding(d_model, position, tau, heads)
        self.norm = DateNorm(heads, in_channels)
        self.embed = nn.Linear(in_channels, d_model)
        self.query = nn.Parameter(torch.empty(heads, d_key))
        self.key = nn.Linear(d_model, heads * d_key)
        for weight in (self.query, self.key.weight):
            nn.init.normal_(weight, std=(2 / d_key) ** 0.5)
        self.attention_dropout = nn.Dropout(attention_dropout)
        self.mlp = dense((d_model, in_channels))
        self.dropout = nn.Dropout(dropout)
        self.finish = nn.GroupNorm(heads, in_channels)

    def forward(self, x: Tensor, seen: Tensor, observation: Observation) -> tuple[Tensor, Tensor]:
        """Attend to the dates of every cell.

        Args:
            x: (B, T, D, h, w).
            seen: (B, T, h, w) bool, where the maps show something.
            observation: Its dates.

        Returns:
            The aggregated map (B, D, h, w), and the weights (B, T, heads, h, w), after dropout: over dates they sum to
            1, or are all 0 where nothing is ever seen.
        """
        batch, (height, width) = x.shape[0], x.shape[3:]
        rows, shown = x.permute(0, 3, 4, 1, 2).flatten(0, 2), seen.permute(0, 2, 3, 1).flatten(0, 2)
        with torch.autocast(x.device.type, enabled=False):
            rows = self.embed(self.norm(rows, shown)).unflatten(0, (batch, height * width))
            rows = (rows + self.code(observation)[:, None]).flatten(0, 1)
            weights = self.attention_dropout(masked_softmax(self.scores(rows), shown))
            sums = torch.einsum("pth,pthg->phg", weights, rows.unflatten(2, (self.heads, -1)))
        out = self.finish(self.dropout(self.mlp(sums.flatten(1).to(self.key.weight.dtype))))
        out = out.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)
        return out, weights.unflatten(0, (batch, height, width)).permute(0, 3, 4, 1, 2)

    def scores(self, x: Tensor) -> Tensor:
        """Folded attention scores of embedded dates (P, T, d_model): (P, T, heads)."""
        query = self.query / self.d_key**0.5
        key = self.key.weight.view(self.heads, self.d_key, -1)
        offset = (self.key.bias.view(self.heads, -1) * query).sum(-1)
        scores: Tensor = x @ torch.einsum("hkd,hk->dh", key, query) + offset
        return scores
