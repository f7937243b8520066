"""Numbers of a sample that are no pixels, e.g. when and how an image was taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ...types import Features, Inputs
from ..base import Encoder, pick_sensor


class AttributeEncoder(Encoder):
    """Dense layers over the attributes of a sample, as a branch of a fusion.

    The metadata branch of U-T&T (Garioud et al. 2023, FLAIR #2, arXiv:2310.13336): 64, 32 and 16 units, dropout 0.4.

    Args:
        sensors: Name -> number of attributes.
        sensor: Which to read; "auto" takes the only one.
        widths: Units of the layers.
        dropout: Between the layers, in training.

    Raises:
        ValueError: If there is no layer.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        sensor: str = "auto",
        widths: Sequence[int] = (64, 32, 16),
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.sensor = pick_sensor(sensors, sensor)
        if not widths:
            raise ValueError("widths of the attributes' dense layers must name one at least, e.g. [64, 32, 16]")
        sizes, layers = [sensors[self.sensor], *widths], []
        for before, after in zip(sizes, widths, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*layers[:-1])
        self.channels, self.strides = (widths[-1],), (0,)

    def forward(self, inputs: Inputs) -> Features:
        """Attributes (B, A), or (B, 1, A) as a fusion passes them, -> one vector (B, D)."""
        return Features((self.layers(inputs[self.sensor].values.flatten(1)),))
