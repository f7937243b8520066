"""Views of a whole batch of images or series, of any bands: turned, mirrored, recoloured, blurred; labels follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...align.augment import turn
from .points import turned

RADIUS = 3  # pixels on each side that a blur reaches


@dataclass(frozen=True)
class Image:
    """One sensor's images, or series of them, on their way to the network.

    Attributes:
        values: (B, C, H, W) or (B, T, C, H, W) float32, physical units, anything where nothing was seen; or points
            (B, P, F).
        seen: (B, H, W) or (B, T, H, W) bool, or (B, P).
        extent: Height and width, in pixels, that points lie in; None = an image.
    """

    values: Tensor
    seen: Tensor
    extent: tuple[int, int] | None = None

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.extent or (self.seen.shape[-2], self.seen.shape[-1])


@dataclass(frozen=True)
class Augment:
    """What training batches of all domains go through, each sample with a draw of its own.

    Colours change by what the bands vary in the sources, so 8-bit counts, decibels and metres are changed alike:
    x + g (x - mean) + (b + e) std. All dates of a series are turned, recoloured and blurred alike; noise is their own.
    Of points, places are turned and mirrored and nothing else changes.

    Attributes:
        d4: Turn and mirror: one of the eight symmetries of a square (of four, where images are not square).
        scale: Smallest and largest magnification; one draw a batch and domain. [1, 1] = none.
        gain: Standard deviation of g, drawn a sample and band, no unit.
        bias: Standard deviation of b, drawn a sample and band, in standard deviations of the band.
        noise: Standard deviation of e, drawn a pixel, in standard deviations of the band.
        blur: Largest sigma of a Gaussian blur, pixels; drawn a sample, uniform from 0.
        leave: Bands whose values are left as they are, e.g. elevation.

    Raises:
        ValueError: If an option is out of its range.
    """

    d4: bool = True
    scale: Sequence[float] = (1.0, 1.0)
    gain: float = 0.0
    bias: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    leave: Sequence[str] = ()

    def __post_init__(self) -> None:
        if min(self.gain, self.bias, self.noise, self.blur) < 0 or self.blur > RADIUS:
            raise ValueError(
                f"data.augment needs gain, bias, noise >= 0 and 0 <= blur <= {RADIUS} pixels; got gain={self.gain}, "
                f"bias={self.bias}, noise={self.noise}, blur={self.blur}"
            )
        if len(self.scale) != 2 or not 0.25 <= self.scale[0] <= self.scale[1] <= 4:
            raise ValueError(
                "data.augment.scale is the smallest and the largest magnification, within 0.25 and 4; got "
                f"{list(self.scale)} ([1, 1] = none)"
            )

    def magnification(self, stream: torch.Generator) -> float:
        """Of one batch, uniform on a log scale."""
        low, high = (math.log(s) for s in self.scale)
        return math.exp(low + (high - low) * float(torch.rand((), generator=stream)))

    def __call__(
        self,
        images: Mapping[str, Image],
        labels: Tensor | None,
        bands: Mapping[str, Sequence[str]],
        statistics: Mapping[str, tuple[Sequence[float], Sequence[float]]],
        stream: torch.Generator,
    ) -> tuple[dict[str, Image], Tensor | None]:
        """Views of a batch.

        Args:
            images: By sensor.
            labels: (B, H, W) or several maps of each sample, (B, n, H, W), which are turned alike; or None.
            bands: Names of each sensor's bands.
            statistics: Mean and standard deviation of each sensor's bands.
            stream: Generator on the device of the images.
        """
        turns = self._turns(images, stream)
        changed = {}
        for name, image in images.items():
            if image.extent is not None:
                points = image.values if turns is None else turned(image.values, turns, image.extent)
                changed[name] = replace(image, values=points)
                continue
            values = self._colours(image, bands[name], statistics[name], stream)
            if turns is None:
                changed[name] = Image(values, image.seen)
            else:
                changed[name] = Image(turn(values, turns), turn(image.seen, turns))
        return changed, labels if labels is None or turns is None else turn(labels, turns)

    def _turns(self, images: Mapping[str, Image], stream: torch.Generator) -> Tensor | None:
        if not self.d4:
            return None
        sides = [image.sides for image in images.values()]
        batch = len(next(iter(images.values())).seen)
        turns = torch.rand(3, batch, generator=stream, device=stream.device) < 0.5
        turns[2] &= all(height == width for height, width in sides)
        return turns

    def _colours(
        self,
        image: Image,
        bands: Sequence[str],
        statistics: tuple[Sequence[float], Sequence[float]],
        stream: torch.Generator,
    ) -> Tensor:
        x = image.values
        keep = torch.tensor([band in self.leave for band in bands], device=x.device)[:, None, None]
        mean, std = (torch.tensor(s, dtype=x.dtype, device=x.device)[:, None, None] for s in statistics)

        def draw(*size: int) -> Tensor:
            return torch.randn(size, generator=stream, device=x.device, dtype=x.dtype)

        y = x
        if self.blur:
            sigma = self.blur * torch.rand(len(x), generator=stream, device=x.device)
            y = blurred(torch.where(image.seen.unsqueeze(-3), y, mean), sigma)
        if self.gain or self.bias:
            size = (len(x), *[1] * (x.ndim - 4), x.shape[-3], 1, 1)
            g, b = self.gain * draw(*size), self.bias * draw(*size)
            y = y + g * (y - mean) + b * std
        if self.noise:
            y = y + self.noise * std * draw(*x.shape)
        return torch.where(keep, x, y)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of each sample of (B, ..., H, W) by its own sigma (B,), pixels; the border is repeated."""
    steps = torch.arange(-RADIUS, RADIUS + 1, device=x.device)
    weights = torch.exp(-0.5 * (steps / sigma.clamp_min(1e-3)[:, None]).square())
    weights = (weights / weights.sum(1, keepdim=True)).to(x.dtype)
    for axis in (-1, -2):
        places = torch.arange(x.shape[axis], device=x.device)
        moved = [x.index_select(axis, (places + s).clamp(0, x.shape[axis] - 1)) for s in steps.tolist()]
        each = weights.T.reshape(len(steps), -1, *[1] * (x.ndim - 1))
        x = sum((w * m for w, m in zip(each, moved, strict=True)), torch.zeros_like(x))
    return x


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """(B, ..., H, W) on another number of pixels, bilinear; the same where the size is the same."""
    for axis, size in ((-2, height), (-1, width)):
        old = x.shape[axis]
        if old == size:
            continue
        place = ((torch.arange(size, device=x.device) + 0.5) * old / size - 0.5).clamp(0, old - 1)
        low = place.floor().long()
        share = (place - low).to(x.dtype)
        share = share[:, None] if axis == -2 else share
        x = torch.lerp(x.index_select(axis, low), x.index_select(axis, (low + 1).clamp_max(old - 1)), share)
    return x


def picked(x: Tensor, height: int, width: int) -> Tensor:
    """(B, ..., H, W) labels or masks on another number of pixels: the nearest of each."""
    for axis, size in ((-2, height), (-1, width)):
        old = x.shape[axis]
        if old != size:
            place = ((torch.arange(size, device=x.device) + 0.5) * old / size).long().clamp_max(old - 1)
            x = x.index_select(axis, place)
    return x
