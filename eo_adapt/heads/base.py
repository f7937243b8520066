"""What every head promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.base import Encoder
from ..encoders.blocks.static import same_size
from ..types import Batch, Features, Panoptic


class Head(nn.Module, ABC):
    """Turns an encoder's features into logits; whether the two fit is checked here, before any data is read.

    Args:
        encoder: The encoder it will follow; only ``channels`` and ``strides`` are read, it is not kept.
        classes: Number of classes K.

    Attributes:
        joins: Whether it joins what a fusion has left apart.
        owns_loss: Whether it learns more than a class a sample or pixel; :meth:`loss` is then added to the task loss.

    Raises:
        ValueError: If there is no class, or the head cannot read this encoder's maps.
    """

    joins: bool = False
    owns_loss: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"a head needs at least one class; got classes={classes}")
        if encoder.apart and not self.joins:
            raise ValueError(
                f"{type(encoder).__name__} leaves the modalities apart until their answers (scheme decision), and "
                f"{type(self).__name__} does not join them: set head=decision, or encoder.scheme=late"
            )
        self.check(encoder)
        self.classes = classes

    @abstractmethod
    def check(self, encoder: Encoder) -> None:
        """Raises ValueError, saying what to do, if this head cannot follow the encoder."""

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Logits (B, K) of parcels or (B, K, H, W) of maps."""

    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms by name, of a labelled batch, besides the task loss of the logits; nothing by default."""
        return {}


class PanopticHead(Head):
    """A head that also tells things of one class apart, such as parcels; it learns from ``Batch.instances``.

    Attributes:
        min_confidence: Things of less confidence do not count; None = evaluation looks for the best on labelled
            validation samples.
    """

    owns_loss = True
    min_confidence: float | None = None

    @abstractmethod
    def loss(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms by name, of a batch with labels and instances."""

    @abstractmethod
    def panoptic(self, features: Features, logits: Tensor) -> Panoptic:
        """The things of each sample, however unsure, without gradients.

        What is more confident was laid out first: :meth:`..types.Panoptic.surer` gives what a higher least confidence
        would have given.

        Args:
            features: What the encoder saw.
            logits: (B, K, H, W), as the method predicts them.
        """


def at_size(logits: Tensor, size: tuple[int, int] | None) -> Tensor:
    """Maps of logits (B, K, H', W') at the size (H, W), bilinear, pixel centres in place; anything else as it is."""
    if size is None or logits.ndim < 4 or same_size(logits.shape[2:], size):
        return logits
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)
