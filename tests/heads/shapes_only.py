"""An encoder for heads to be built on."""

from __future__ import annotations

from eo_adapt.encoders.base import Encoder
from eo_adapt.types import Features, Inputs


class Stub(Encoder):
    """An encoder of which only the shapes matter."""

    def __init__(self, *strides: int, channels: int = 8) -> None:
        super().__init__()
        self.channels, self.strides = (channels,) * len(strides), strides

    def forward(self, inputs: Inputs) -> Features:
        raise NotImplementedError
