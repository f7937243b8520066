"""What every head promises."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ..encoders.base import Encoder
from ..types import Features


class Head(nn.Module, ABC):
    """Turns an encoder's features into logits; whether the two fit is checked here, before any data is read.

    Args:
        encoder: The encoder it will follow; only ``channels`` and ``strides`` are read, it is not kept.
        classes: Number of classes K.

    Raises:
        ValueError: If there is no class, or the head cannot read this encoder's maps.
    """

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"a head needs at least one class; got classes={classes}")
        self.check(encoder)
        self.classes = classes

    @abstractmethod
    def check(self, encoder: Encoder) -> None:
        """Raises ValueError, saying what to do, if this head cannot follow the encoder."""

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Logits (B, K) of parcels or (B, K, H, W) of maps."""
