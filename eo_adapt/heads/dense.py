"""One class a pixel, from the finest map."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.base import Encoder
from ..encoders.blocks.norm import SafeBatchNorm2d
from ..types import Features
from .base import Head


class Dense(Head):
    """Convolution, batch norm and ReLU a width, then a convolution to the classes, on the encoder's finest map.

    The last layers of U-TAE (Garnot & Landrieu 2021), whose logits also pass a batch norm and a ReLU; here they are
    linear, for losses and calibration that need negative ones. Where the map is coarser than the image, logits are
    upsampled bilinearly with pixel centres in place (``align_corners=False``).

    Args:
        encoder: Encoder of maps; only the first, finest, is read.
        classes: Number of classes K.
        widths: Channels of the hidden convolutions; () is a linear probe of the neighbourhood.
        kernel: Side of the convolutions, odd; 1 looks at each cell alone.

    Raises:
        ValueError: If the encoder gives a vector, or the kernel is even.
    """

    def __init__(self, encoder: Encoder, classes: int, widths: Sequence[int] = (32,), kernel: int = 3) -> None:
        super().__init__(encoder, classes)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"head.kernel must be odd and positive, so that maps keep their size; got {kernel}")
        self.stride = encoder.strides[0]
        sizes = (encoder.channels[0], *widths)
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [_conv(size, following, kernel), SafeBatchNorm2d(following), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, _conv(sizes[-1], classes, kernel))

    def check(self, encoder: Encoder) -> None:
        """Raises ValueError if the encoder's first map is a vector."""
        if encoder.strides[0] == 0:
            raise ValueError(
                f"Dense draws maps; {type(encoder).__name__} gives one vector a sample (strides "
                f"{tuple(encoder.strides)}): choose an encoder of images or image series, e.g. encoder=utae, or "
                "head=classify"
            )

    def forward(self, features: Features) -> Tensor:
        """Logits (B, K, H, W) at the size of the image."""
        logits: Tensor = self.layers(features.maps[0])
        if self.stride == 1:
            return logits
        return F.interpolate(logits, scale_factor=float(self.stride), mode="bilinear", align_corners=False)


def _conv(size: int, following: int, kernel: int) -> nn.Conv2d:
    """A convolution that keeps the size; the border is repeated, which even a map of one cell allows."""
    return nn.Conv2d(size, following, kernel, padding=kernel // 2, padding_mode="replicate")
