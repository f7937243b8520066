"""One sensor's images: the maps of a timm backbone, whatever the bands."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..types import Features, Inputs
from .base import Encoder, pick_sensor, way_out

COLOURS = {"r": 0, "red": 0, "g": 1, "green": 1, "b": 2, "blue": 2}
NESTED = ("state_dict", "model")  # where checkpoints of training scripts keep the weights

# Transformers are built for one image size; these take any if they are told so, by timm's module.
ANY_SIZE: tuple[tuple[dict[str, bool], tuple[str, ...]], ...] = (
    ({"strict_img_size": False}, ("swin_transformer", "swin_transformer_v2")),
    ({"dynamic_img_size": True}, ("vision_transformer", "deit", "eva")),
)
STRIDES = (8, 16, 32)
LEVELS = 4  # maps of a plain ViT, evenly spaced over its blocks


def inflate(weight: Tensor, bands: Sequence[str]) -> Tensor:
    """Weights of a layer that reads red, green, blue -> weights of one that reads named bands.

    Red, green and blue are copied by name, every other band gets the mean of the three, and all are scaled by
    3 / C: the response to a constant image stays what it was. Exactly so where all three colours are among the bands
    or none is; with one or two of them (near infrared, red, green) it is close.

    Args:
        weight: (O, 3, k, k), of red, green and blue.
        bands: Name of each of the C bands; R, G, B or red, green, blue in any case are the colours.

    Returns:
        (O, C, k, k).

    Raises:
        ValueError: If a colour is named twice.
    """
    order = [COLOURS.get(band.lower()) for band in bands]
    colours = [colour for colour in order if colour is not None]
    if len(set(colours)) < len(colours):
        raise ValueError(f"encoder.bands names red, green and blue at most once each; got {list(bands)}")
    mean = weight.mean(1)
    return torch.stack([mean if i is None else weight[:, i] for i in order], 1) * (3 / len(bands))


def read_weights(path: Path) -> dict[str, Tensor]:
    """State dict of a ``.safetensors`` file or of one that torch.save wrote; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds more than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"encoder.pretrained is {str(path)!r}: no such file; give none, imagenet or a file")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        loaded: Any = load_file(path)
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch each raise their own kinds
            why = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{path} does not read as plain weights ({why}): save the state dict alone, "
                "torch.save(net.state_dict(), file)"
            ) from error
    for key in NESTED:
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(x, Tensor) for x in loaded.values()):
        raise ValueError(f"{path} holds no state dict of tensors: torch.save(net.state_dict(), file) makes one")
    return loaded


class TimmPyramid(Encoder):
    """Images (B, C, H, W) -> the maps of a timm backbone, finest first.

    Any backbone of timm that gives feature maps: CNNs (resnet18: strides 2 to 32), ConvNeXt and Swin (4 to 32), plain
    ViT (four maps at the stride of its patches, from evenly spaced blocks). timm and its weights: Wightman 2019.

    Args:
        sensors: The data's sensors, name -> number of bands.
        sensor: The sensor to read; "auto" takes the only one.
        backbone: Name in timm, with or without the tag of its weights ("resnet18", "convnext_tiny.fb_in22k").
        pretrained: "none", "imagenet" (timm's own weights, downloaded) or a file with a state dict of the timm model
            (``.safetensors`` or torch.save). Weights of red, green and blue are spread over the bands by
            :func:`inflate`; a file for another number of bands must be for these bands, and is taken as it is.
        bands: Name of each band, in order; needed where weights of red, green and blue are spread over them.
        output_stride: Stride of the coarsest map, 8, 16 or 32; below 32 the last stages are dilated (DeepLab).

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If timm cannot build the backbone so, or weights or band names do not fit.
        FileNotFoundError: If the file of the weights does not exist.
        OSError: If weights cannot be downloaded.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        sensor: str = "auto",
        backbone: str = "resnet18",
        pretrained: str = "none",
        bands: Sequence[str] = (),
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        self.sensor = pick_sensor(sensors, sensor)
        self.bands, self.backbone = sensors[self.sensor], backbone
        if bands and len(bands) != self.bands:
            raise ValueError(
                f"encoder.bands names {len(bands)} bands, {list(bands)}; sensor {self.sensor!r} has {self.bands}: "
                "name each, in order"
            )
        if output_stride not in STRIDES:
            raise ValueError(f"encoder.output_stride must be one of {list(STRIDES)}; got {output_stride}")
        self.net = self._made(pretrained, tuple(bands), output_stride)
        info = self.net.feature_info
        self.channels, self.strides = tuple(info.channels()), tuple(info.reduction())
        if _wraps(self.net) and len(set(self.strides)) == 1:
            depth = len(self.net.model.blocks)
            levels = min(LEVELS, depth)
            self.net.out_indices = [depth * (i + 1) // levels - 1 for i in range(levels)]
            self.channels, self.strides = self.channels[:1] * levels, self.strides[:1] * levels
        self._last = getattr(self.net, "output_fmt", None) == "NHWC"
        self._normed = any(isinstance(layer, _BatchNorm) for layer in self.net.modules())

    def _made(self, pretrained: str, bands: tuple[str, ...], output_stride: int) -> Any:
        """The backbone with its first weights."""
        if pretrained == "none":
            return _build(self.backbone, self.bands, output_stride)
        if pretrained == "imagenet":
            _check_names(bands, self.bands, self.sensor)
            return _spread(_build(self.backbone, 3, output_stride, download=True), self.backbone, bands)
        path = Path(pretrained)
        state = {_flat(name): value for name, value in read_weights(path).items()}
        first = state.get(_flat(_readers(self.backbone)[0]) + "_weight")
        count = self.bands if first is None or first.ndim < 2 else first.shape[1]  # a strange file is refused below
        if count not in (3, self.bands):
            raise ValueError(
                f"{path} holds weights for {count} bands, sensor {self.sensor!r} has {self.bands}: only those of red, "
                "green and blue are spread over other bands"
            )
        if count == 3:
            _check_names(bands, self.bands, self.sensor)
        net = _build(self.backbone, count, output_stride)
        _load(net, state, path, self.backbone)
        return _spread(net, self.backbone, bands) if count == 3 else net

    def forward(self, inputs: Inputs) -> Features:
        """One map a stride, (B, D_i, H / stride_i, W / stride_i); pixels that are not valid are zeros.

        Raises:
            LookupError: If the batch lacks the sensor.
            ValueError: If the images have another number of bands, or a size that is no multiple of the largest stride.
        """
        if self.sensor not in inputs:
            raise LookupError(f"the encoder reads sensor {self.sensor!r}; this batch holds {sorted(inputs)}")
        values, pixels = inputs[self.sensor].values, inputs[self.sensor].valid_pixels
        self._check(tuple(values.shape))
        if pixels is not None:
            values = values.where(pixels[:, None], 0.0)
        maps = self.net(values.contiguous(memory_format=torch.channels_last))  # convolutions are faster so
        return Features(tuple(m.permute(0, 3, 1, 2) if self._last else m for m in maps))

    def _check(self, shape: tuple[int, ...]) -> None:
        if len(shape) != 4 or shape[1] != self.bands:
            raise ValueError(
                f"{type(self).__name__} with {self.bands} bands reads images (B, {self.bands}, H, W); {self.sensor!r} "
                f"has shape {shape}: {way_out(self.sensor, len(shape) != 4)}"
            )
        batch, _, height, width = shape
        step = max(self.strides)
        if height % step or width % step or not height * width:
            up = [max(-(-side // step), 1) * step for side in (height, width)]
            raise ValueError(
                f"backbone {self.backbone!r} takes images whose sides are multiples of {step}; got {height} x {width}: "
                f"pad them to {up[0]} x {up[1]}, or crop them to multiples of {step}"
            )
        if self.training and self._normed and batch * height * width == step * step:
            raise ValueError(
                f"one image of {height} x {width} leaves a single cell at stride {step}, of which batch norm takes no "
                "statistics: use at least 2 images a batch, or larger ones"
            )


def _flat(name: str) -> str:
    """Feature nets of timm write ``stages_0`` where the network itself writes ``stages.0``."""
    return name.replace(".", "_")


def _wraps(net: Any) -> bool:
    """Whether the feature net asks a whole network for maps (transformers) rather than being made of its parts."""
    return hasattr(net, "model") and hasattr(net, "out_indices")


def _readers(backbone: str) -> tuple[str, ...]:
    """Names of the layers that read the bands."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(backbone)
    first = config.first_conv if config is not None else None
    if not first:
        raise ValueError(
            f"timm does not say which layer of {backbone!r} reads the bands: use encoder.pretrained=none, or another "
            "backbone"
        )
    return (first,) if isinstance(first, str) else tuple(first)


def _check_names(bands: tuple[str, ...], count: int, sensor: str) -> None:
    if not bands:
        raise ValueError(
            f"pretrained weights of red, green and blue go to the bands of that name: name the {count} bands of sensor "
            f"{sensor!r} in order, e.g. encoder.bands=[R,G,B,NIR]"
        )


def _spread(net: Any, backbone: str, bands: tuple[str, ...]) -> Any:
    """The network, its weights of red, green and blue spread over the bands."""
    wanted = {_flat(name) for name in _readers(backbone)}
    for name, layer in net.named_modules():
        if _flat(name.removeprefix("model.") if _wraps(net) else name) in wanted:
            layer.weight = nn.Parameter(inflate(layer.weight.detach(), bands))
            layer.in_channels = len(bands)
    return net


def _load(net: Any, state: dict[str, Tensor], path: Path, backbone: str) -> None:
    """Weights by name into the network; what it does not use (a classifier) is left out."""
    own = net.state_dict()
    names = {name: _flat(name.removeprefix("model.") if _wraps(net) else name) for name in own}
    lacking = [name for name, flat in names.items() if flat not in state and not flat.endswith("num_batches_tracked")]
    unlike = [name for name, flat in names.items() if flat in state and state[flat].shape != own[name].shape]
    if lacking or unlike:
        raise ValueError(
            f"{path} does not fit backbone {backbone!r}: of {len(names)} tensors {len(lacking)} are missing and "
            f"{len(unlike)} have another shape, e.g. {(lacking + unlike)[0]}; save it with this version of timm: "
            f"torch.save(timm.create_model({backbone!r}).state_dict(), file)"
        )
    net.load_state_dict({name: state.get(flat, own[name]) for name, flat in names.items()})


def _build(backbone: str, bands: int, output_stride: int, download: bool = False) -> Any:
    """A timm feature net for any image size."""
    import timm

    arch = backbone.partition(".")[0]
    if not timm.is_model(arch):
        near = difflib.get_close_matches(arch, timm.list_models(), n=3)
        raise ValueError(f"timm has no backbone {backbone!r}; the closest are {near} (timm.list_models() lists all)")
    free = [options for options, modules in ANY_SIZE if timm.models.is_model_in_modules(arch, modules)]
    fixed = timm.models.get_pretrained_cfg(arch)
    if not free and fixed is not None and fixed.fixed_input_size:
        raise ValueError(
            f"backbone {backbone!r} takes images of {fixed.input_size[1]} x {fixed.input_size[2]} only: choose a CNN, "
            "ConvNeXt, Swin or plain ViT"
        )
    options: dict[str, Any] = dict(free[0]) if free else {}
    if output_stride != 32:
        options["output_stride"] = output_stride
    try:
        return timm.create_model(backbone, pretrained=download, features_only=True, in_chans=bands, **options)
    except OSError as error:
        raise OSError(
            f"timm's weights of {backbone!r} could not be fetched ({type(error).__name__}): download them elsewhere "
            "and set encoder.pretrained to the file, or encoder.pretrained=none"
        ) from error
    except (AssertionError, RuntimeError, TypeError, NotImplementedError, AttributeError) as error:
        raise ValueError(
            f"timm cannot build {backbone!r} with encoder.output_stride={output_stride} and "
            f"encoder.pretrained={'imagenet' if download else 'none or a file'} as a pyramid of maps: {error}"
        ) from error
