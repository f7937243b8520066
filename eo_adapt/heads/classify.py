"""One class a parcel."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ..encoders.base import Encoder
from ..encoders.blocks.norm import dense
from ..types import Features
from .base import Head


class Classify(Head):
    """Linear, batch norm and ReLU a width, then Linear: the decoder of PSE + TAE (Garnot et al. 2020).

    Args:
        encoder: Encoder whose last map is a vector, stride 0.
        classes: Number of classes K.
        widths: Hidden sizes; () is a linear probe.

    Raises:
        ValueError: If the encoder's last map is an image.
    """

    def __init__(self, encoder: Encoder, classes: int, widths: Sequence[int] = (64, 32)) -> None:
        super().__init__(encoder, classes)
        sizes = (encoder.channels[-1], *widths)
        self.layers = nn.Sequential(*dense(sizes), nn.Linear(sizes[-1], classes))

    def check(self, encoder: Encoder) -> None:
        """Raises ValueError unless the encoder's last map is a vector."""
        if encoder.strides[-1] != 0:
            raise ValueError(
                f"Classify reads one vector a sample, a last stride of 0; {type(encoder).__name__} has strides "
                f"{tuple(encoder.strides)}: choose a parcel encoder, or a head for maps"
            )

    def forward(self, features: Features) -> Tensor:
        """Logits (B, K)."""
        logits: Tensor = self.layers(features.maps[-1])
        return logits
