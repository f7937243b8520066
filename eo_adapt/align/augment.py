"""Strong views of any number of bands, of images and of series."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .looks import Look, band_moments, looks, put
from .options import check_number

Follow = Callable[[Tensor], Tensor]


def recolour(look: Look, gain: float, bias: float, noise: float, kept: Sequence[int] = ()) -> Look:
    """Change colours: x <- x + g * (x - mean) + (b + e) * spread; g and b drawn a sample and band, e a value.

    Mean and spread (standard deviation) of a band are those of the batch, so reflectances, decibels and indices are
    changed alike. Values that are masked or not finite stay as they are.

    Args:
        look: What to change.
        gain: Standard deviation of g, no unit.
        bias: Standard deviation of b, in spreads of the band.
        noise: Standard deviation of e, in spreads of the band.
        kept: Positions of bands that stay as they are.
    """
    x = look.values
    free = torch.ones(x.shape[look.bands], dtype=torch.bool, device=x.device)
    free[list(kept)] = False
    mean, spread = (look.along_bands(m).to(x.dtype) for m in band_moments(look))
    size = x.shape[0], x.shape[look.bands]
    g, b = (look.along_bands(scale * torch.randn(size, dtype=x.dtype, device=x.device)) for scale in (gain, bias))
    e = noise * torch.randn_like(x)
    free = look.along_bands(free)
    return replace(look, values=torch.where(look.seen() & free, x + g * (x - mean) + spread * (b + e), x))


def drop_dates(look: Look, share: float) -> Look:
    """Mask each date with this probability; a sample that has dates keeps at least one. Values stay as they are."""
    dates = look.dates()
    luck = torch.rand(dates.shape, device=dates.device).masked_fill(~dates, -1)
    kept = (luck >= share) | (luck == luck.amax(1, keepdim=True))
    return replace(look, valid=dates & kept)


def jitter_days(look: Look, days: float) -> Look:
    """Move all dates of a sample by one number of days, uniform in [-days, days]; whole days where days are whole."""
    if look.days is None:
        return look
    luck = days * (2 * torch.rand(len(look.days), 1, device=look.days.device) - 1)
    luck = luck if look.days.is_floating_point() else luck.round()
    return replace(look, days=torch.where(look.dates(), look.days + luck.to(look.days.dtype), look.days))


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Mirror each sample of x (B, ..., H, W) left-right, up-down and, if square, along its diagonal.

    Args:
        x: Images or label maps.
        turns: (3, B) bool, which samples to mirror how. The eight combinations are the eight symmetries of a square.
    """
    mirrors: list[Follow] = [lambda y: y.flip(-1), lambda y: y.flip(-2), lambda y: y.transpose(-1, -2)]
    for hit, mirror in zip(turns, mirrors[: 3 if x.shape[-1] == x.shape[-2] else 2], strict=False):
        x = torch.where(hit.view(-1, *[1] * (x.ndim - 1)), mirror(x), x)
    return x


class StrongView:
    """Draws a strong view of a batch: colours of every sample, dates of series, mirrored images.

    Places that are masked or not finite are never changed, except that images are mirrored as a whole. Labels are left
    alone by all but the mirroring, which they must follow: the second return value mirrors maps alike.

    Args:
        gain: See :func:`recolour`.
        bias: See :func:`recolour`.
        noise: See :func:`recolour`.
        drop: Share of the dates of a series that are masked; see :func:`drop_dates`.
        jitter: Largest common move of a sample's dates, days; see :func:`jitter_days`.
        mirror: Whether images are mirrored; see :func:`turn`.
        leave: Names of inputs that are left as they are.
        leave_bands: Name of an input -> positions, from 0, of its bands that keep their colours: an elevation beside
            reflectances (``{aerial: [4]}``). They are mirrored with the rest. Inputs that a batch lacks do not matter.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        gain: float = 0.2,
        bias: float = 0.2,
        noise: float = 0.05,
        drop: float = 0.3,
        jitter: float = 0.0,
        mirror: bool = True,
        leave: Sequence[str] = ("attributes",),
        leave_bands: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        for name, size in (("gain", gain), ("bias", bias), ("noise", noise), ("jitter", jitter)):
            check_number(f"StrongView.{name}", size, least=0)
        check_number("StrongView.drop", drop, least=0, below=1)
        self.gain, self.bias, self.noise, self.drop, self.jitter = gain, bias, noise, drop, jitter
        self.mirror, self.leave = mirror, frozenset(leave)
        self.leave_bands = {name: tuple(bands) for name, bands in (leave_bands or {}).items()}

    def __call__(self, inputs: Any) -> tuple[Any, Follow]:
        """A strong view of inputs (see :func:`.looks.looks`), and what makes maps (B, *S) of labels follow it."""
        found = {name: look for name, look in looks(inputs).items() if name not in self.leave}
        turns = self._turns([look.values for look in found.values() if look.imaged])
        strong = {name: self._one(name, look, turns) for name, look in found.items()}
        return put(inputs, strong), lambda x: x if turns is None or x.ndim < 3 else turn(x, turns)

    def _turns(self, images: list[Tensor]) -> Tensor | None:
        """One draw for all images of a sample; none along the diagonal unless all are square."""
        if not (self.mirror and images):
            return None
        turns = torch.rand(3, len(images[0]), device=images[0].device) < 0.5
        turns[2] &= all(image.shape[-1] == image.shape[-2] for image in images)
        return turns

    def _kept(self, name: str, look: Look) -> tuple[int, ...]:
        kept, count = self.leave_bands.get(name, ()), look.values.shape[look.bands]
        if not all(0 <= band < count for band in kept):
            raise ValueError(
                f"strong.leave_bands names bands {list(kept)} of input {name!r}, which has {count}: positions go from "
                f"0 to {count - 1}, in the order of data.bands"
            )
        return kept

    def _one(self, name: str, look: Look, turns: Tensor | None) -> Look:
        look = recolour(look, self.gain, self.bias, self.noise, self._kept(name, look))
        if look.days is not None or look.valid is not None:
            look = jitter_days(look, self.jitter)
            look = drop_dates(look, self.drop) if self.drop else look
        if not look.imaged or turns is None:
            return look
        pixels = None if look.valid_pixels is None else turn(look.valid_pixels, turns)
        return replace(look, values=turn(look.values, turns), valid_pixels=pixels)
