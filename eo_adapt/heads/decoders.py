"""Decoders of segmentation_models_pytorch as heads: maps of features in, logits at the size of the image out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from ..encoders.base import Encoder
from ..types import Features
from .base import Head

PACKAGE = "segmentation_models_pytorch"


class Decoder(Head):
    """Base of the heads for maps: decoder, one convolution to the classes, bilinear upsampling to the image.

    Pixel centres stay where they are (``align_corners=False``), for maps are georeferenced; the package upsamples its
    logits with ``align_corners=True``. Feature maps finer than :attr:`finest` are not read.

    Attributes:
        finest: Smallest stride that is read.
        least: Fewest maps of that stride or more.
        doubles: Whether the strides must be powers of two that double from map to map.
        pools: Whether it pools images to one cell before a batch norm, which then needs two images a batch.
    """

    finest: ClassVar[int] = 4
    least: ClassVar[int] = 2
    doubles: ClassVar[bool] = False
    pools: ClassVar[bool] = False

    @abstractmethod
    def __init__(self, encoder: Encoder, classes: int) -> None:
        super().__init__(encoder, classes)
        self.first = sum(stride < self.finest for stride in encoder.strides)  # of the maps that are read
        self.stride = encoder.strides[0]
        self.strides = tuple(encoder.strides[self.first :])
        self.blanks = self._blanks()

    def check(self, encoder: Encoder) -> None:
        """Raises ValueError unless the encoder gives maps of strides that this decoder can join."""
        name, net, strides = type(self).__name__, type(encoder).__name__, tuple(encoder.strides)
        if 0 in strides:
            raise ValueError(
                f"{name} draws maps; {net} gives one vector a sample (strides {strides}): choose an encoder of images, "
                "e.g. encoder=timm_pyramid, or head=classify"
            )
        read = [stride for stride in strides if stride >= self.finest]
        if len(read) < self.least:
            raise ValueError(
                f"{name} reads at least {self.least} maps of stride {self.finest} or more; {net} has strides "
                f"{strides}: choose a backbone with more stages, or head=segformer"
            )
        if self.doubles and (any(b != 2 * a for a, b in pairwise(read)) or any(s & (s - 1) for s in read)):
            raise ValueError(
                f"{name} needs strides that double from map to map; {net} has strides {strides}: choose a CNN, "
                "ConvNeXt or Swin with encoder.output_stride=32, or head=segformer or upernet"
            )

    def _blanks(self) -> tuple[int, ...]:
        """Strides of the finer levels that the package's decoder expects and passes over: maps without channels."""
        return 1, 2

    def _channels(self, encoder: Encoder) -> list[int]:
        return [0] * len(self.blanks) + list(encoder.channels[self.first :])

    def _finish(self, decoder: nn.Module, width: int, kernel: int) -> None:
        """Keep the decoder and add the convolution to the classes; both start as the package starts them."""
        begin = import_module(f"{PACKAGE}.base.initialization")
        self.decoder = decoder
        self.last = nn.Conv2d(width, self.classes, kernel, padding=kernel // 2)
        begin.initialize_decoder(self.decoder)
        begin.initialize_head(self.last)

    def forward(self, features: Features) -> Tensor:
        """Logits (B, K, H, W) at the size of the image.

        Raises:
            ValueError: In training, if one image is all there is and the decoder needs two.
        """
        maps = features.maps
        batch = maps[0].shape[0]
        if self.pools and self.training and batch == 1:
            raise ValueError(
                f"{type(self).__name__} pools each image to one cell, of which batch norm takes no statistics when it "
                "is alone: use at least 2 images a batch"
            )
        height, width = (side * self.stride for side in maps[0].shape[2:])
        blanks = [maps[0].new_empty(batch, 0, height // s, width // s) for s in self.blanks]
        logits: Tensor = self.last(self.decoder([*blanks, *maps[self.first :]]))
        if logits.shape[2:] == (height, width):
            return logits
        return F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)


class UNet(Decoder):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597): upsample, join the map of that stride, two convolutions.

    Args:
        encoder: Encoder whose strides double from map to map.
        classes: Number of classes K.
        widths: Channels after each step, coarsest first: one step a halving of the image, 5 for a stride of 32.
        attention: ``scse`` weighs channels and places of each step (Roy et al. 2018, arXiv:1803.02579), or ``none``.

    Raises:
        ValueError: If the encoder or the number of widths does not fit.
    """

    finest = 2
    doubles = True

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        attention: Literal["none", "scse"] = "none",
    ) -> None:
        super().__init__(encoder, classes)
        steps = len(self.blanks) + len(self.strides) - 1
        if len(widths) != steps:
            raise ValueError(
                f"head.widths lists one width a halving: {steps} for an encoder of strides {tuple(encoder.strides)}; "
                f"got {list(widths)}"
            )
        if attention not in ("none", "scse"):
            raise ValueError(f"head.attention must be one of ['none', 'scse']; got {attention!r}")
        decoder = _made(
            "unet.decoder.UnetDecoder",
            encoder_channels=self._channels(encoder),
            decoder_channels=list(widths),
            n_blocks=steps,
            attention_type=None if attention == "none" else attention,
        )
        self._finish(decoder, widths[-1], 3)

    def _blanks(self) -> tuple[int, ...]:
        return tuple(2**i for i in range(self.strides[0].bit_length() - 1))


class FPN(Decoder):
    """Semantic FPN (Kirillov et al. 2019, arXiv:1901.02446): a feature pyramid, each level upsampled, then summed.

    Args:
        encoder: Encoder whose last four strides double from map to map.
        classes: Number of classes K.
        pyramid: Channels of the pyramid.
        width: Channels of the levels that are joined; a multiple of 32, for the sake of their group norm.
        dropout: Share of the joined channels that are dropped in training.
        merge: ``add`` the levels, or ``cat`` them.

    Raises:
        ValueError: If the encoder does not fit, or an option is out of its range.
    """

    least = 4
    doubles = True

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        pyramid: int = 256,
        width: int = 128,
        dropout: float = 0.2,
        merge: Literal["add", "cat"] = "add",
    ) -> None:
        super().__init__(encoder, classes)
        if width % 32 or width < 32 or merge not in ("add", "cat"):
            raise ValueError(
                f"head.width must be a multiple of 32 and head.merge one of ['add', 'cat']; got {width}, {merge!r}"
            )
        decoder = _made(
            "fpn.decoder.FPNDecoder",
            encoder_channels=self._channels(encoder),
            pyramid_channels=pyramid,
            segmentation_channels=width,
            dropout=dropout,
            merge_policy=merge,
        )
        self._finish(decoder, width if merge == "add" else 4 * width, 1)


class UPerNet(Decoder):
    """UPerNet (Xiao et al. 2018, arXiv:1807.10221): pyramid pooling of the coarsest map, then a feature pyramid.

    Args:
        encoder: Encoder of at least two maps of stride 4 or more; equal strides (a plain ViT) are taken, too.
        classes: Number of classes K.
        width: Channels of every level.
    """

    pools = True

    def __init__(self, encoder: Encoder, classes: int, width: int = 256) -> None:
        super().__init__(encoder, classes)
        decoder = _made(
            "upernet.decoder.UPerNetDecoder", encoder_channels=self._channels(encoder), decoder_channels=width
        )
        self._finish(decoder, width, 1)


class SegFormer(Decoder):
    """Head of SegFormer (Xie et al. 2021, arXiv:2105.15203): a linear map a level, joined at a quarter of the image.

    Args:
        encoder: Encoder of maps, equal strides (a plain ViT) included; only those of stride 4 or more are read.
        classes: Number of classes K.
        width: Channels of every level.
    """

    least = 1

    def __init__(self, encoder: Encoder, classes: int, width: int = 256) -> None:
        super().__init__(encoder, classes)
        decoder = _made(
            "segformer.decoder.SegformerDecoder", encoder_channels=self._channels(encoder), segmentation_channels=width
        )
        self._finish(decoder, width, 1)


class DeepLabV3Plus(Decoder):
    """DeepLabv3+ (Chen et al. 2018, arXiv:1802.02611): dilated convolutions on the coarsest map, joined to a fine one.

    Made for an encoder with ``output_stride=16``; others are taken, too.

    Args:
        encoder: Encoder of at least two maps of stride 4 or more.
        classes: Number of classes K.
        width: Channels of the decoder.
        rates: The three dilations, in cells of the coarsest map.
        separable: Whether the dilated convolutions are depth-wise separable.
        dropout: After the dilated convolutions.

    Raises:
        ValueError: If the encoder or the number of rates does not fit.
    """

    pools = True

    def __init__(
        self,
        encoder: Encoder,
        classes: int,
        width: int = 256,
        rates: Sequence[int] = (12, 24, 36),
        separable: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__(encoder, classes)
        if len(rates) != 3:
            raise ValueError(f"head.rates lists three dilations; got {list(rates)}")
        decoder = _made(
            "deeplabv3.decoder.DeepLabV3PlusDecoder",
            encoder_channels=self._channels(encoder),
            encoder_depth=5,
            out_channels=width,
            atrous_rates=tuple(rates),
            output_stride=16,
            aspp_separable=separable,
            aspp_dropout=dropout,
        )
        decoder.up = nn.Upsample(scale_factor=self.strides[-1] // self.strides[0], mode="bilinear", align_corners=False)
        self._finish(decoder, width, 1)


def _made(path: str, **options: Any) -> Any:
    """A decoder of the package, by module and class."""
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(f"{PACKAGE}.decoders.{module}"), name)
    except ModuleNotFoundError as error:
        if error.name != PACKAGE:
            raise
        raise ImportError(
            f"heads for maps use {PACKAGE}, which is not installed: pip install segmentation-models-pytorch"
        ) from error
    return found(**options)
