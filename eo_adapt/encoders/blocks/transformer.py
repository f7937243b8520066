"""The transformer of the EuroCropsML benchmark."""

from __future__ import annotations

from torch import Tensor, nn

from ...types import Observation
from .days import DayEncoding, Position
from .masked import keep, masked_mean, valid_dates
from .stages import Temporal


class Transformer(Temporal):
    """LayerNorm, Linear, position code, transformer layers, mean over dates (Reuss et al. 2025, EuroCropsML).

    Days since 1 January of the label year with tau = 10,000 are their day-of-year sinusoid.

    Deviation: the mean is over valid dates (theirs is over all steps, padding too); a sample without any date gives
    zeros.

    Args:
        in_channels: Size D of a date's vector.
        d_model: Width, a multiple of ``heads``; also the size of the returned vector.
        heads: Number of attention heads.
        layers: Number of transformer layers.
        feedforward: Hidden size of a layer's MLP.
        dropout: Inside the layers.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: See ``DayEncoding``; None is the default of the position.
    """

    def __init__(
        self,
        in_channels: int = 128,
        d_model: int = 128,
        heads: int = 4,
        layers: int = 1,
        feedforward: int = 264,
        dropout: float = 0.2,
        position: Position = "days",
        tau: float | None = 10_000.0,
    ) -> None:
        super().__init__()
        self.out = d_model
        self.code = DayEncoding(d_model, position, tau)
        self.embed = nn.Sequential(nn.LayerNorm(in_channels), nn.Linear(in_channels, d_model))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(d_model, heads, feedforward, dropout, batch_first=True) for _ in range(layers)
        )

    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) -> (B, d_model)."""
        valid = valid_dates(observation)
        x = self.embed(keep(x, valid)) + self.code(observation)
        hidden = ~valid & valid.any(1, keepdim=True)  # a row that hides every key is nan in some attention kernels
        for layer in self.layers:
            x = layer(x, src_key_padding_mask=hidden)
        return masked_mean(x, valid)
