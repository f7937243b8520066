"""FDA: give source images the low frequencies of target images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .base import Alignment, Step
from .looks import Look, inputs_of, looks, put, with_inputs
from .options import check_number


def swap_low_frequencies(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """Source images whose lowest frequencies have the amplitudes of the target's; phases stay.

    Args:
        source: (..., H, W) finite.
        target: Same shape, finite.
        beta: Half width of the square of frequencies, as a share of the shorter side, in [0, 0.5]; 0 swaps the mean.

    Returns:
        (..., H, W). The mean (frequency 0) is taken over with its sign, which decibels need.

    Source: Yang & Soatto 2020 (arXiv:2004.05498), eq. 1-3.
    """
    height, width = source.shape[-2:]
    half = int(beta * min(height, width))
    ours, theirs = (torch.fft.fft2(x.float(), norm="forward") for x in (source, target))
    low = _near_zero(height, half, source.device)[:, None] & _near_zero(width, half, source.device)
    mixed = torch.where(low, torch.polar(theirs.abs(), ours.angle()), ours)
    mixed[..., 0, 0] = theirs[..., 0, 0]
    result: Tensor = torch.fft.ifft2(mixed, norm="forward").real.to(source.dtype)
    return result


def _near_zero(size: int, half: int, device: torch.device) -> Tensor:
    """(size,) bool: frequencies of at most ``half`` waves an image; symmetric, so that the result is real."""
    waves: Tensor = torch.fft.fftfreq(size, 1 / size, device=device)
    return waves.round().abs() <= half


def gap_mean(look: Look, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean of what is there along these axes, which are kept with size 1, float32; and where anything is there."""
    seen = look.seen()
    count = seen.sum(axes, keepdim=True)
    return look.values.float().where(seen, 0.0).sum(axes, keepdim=True) / count.clamp_min(1), count > 0


def restyle(source: Look, target: Look, beta: float) -> Tensor:
    """Values of source images with the low frequencies of target images of the same shape, gaps as they were.

    Gaps count as the mean of the rest of their image. A band that a target image lacks stays the source's.
    """
    axes = (-2, -1)
    (ours, _), (theirs, there) = gap_mean(source, axes), gap_mean(target, axes)
    seen = source.seen()
    x, y = source.values.float().where(seen, ours), target.values.float().where(target.seen(), theirs)
    return torch.where(seen & there, swap_low_frequencies(x, y, beta).to(source.values.dtype), source.values)


def relevel(source: Look, target: Look) -> Tensor:
    """Values of source samples moved so that their level, the mean of each band, is that of target samples.

    The level is over dates and pixels; of (B, C), which has neither, over the batch.
    """
    axes = tuple(i for i in range(source.values.ndim) if i not in (0, source.bands)) or (0,)
    (ours, _), (theirs, there) = gap_mean(source, axes), gap_mean(target, axes)
    return torch.where(source.seen() & there, (source.values + (theirs - ours)).to(source.values.dtype), source.values)


def nearest_dates(source: Look, target: Look) -> Look:
    """The target with, for each source date, its nearest date that is there; by position where days are unknown."""
    theirs = target.dates()
    days, others = source.days, target.days
    if days is None or others is None:
        days, others = (torch.arange(x.shape[1], device=x.device)[None] for x in (source.values, target.values))
    apart = (days[:, :, None] - others[:, None]).float().abs().masked_fill(~theirs[:, None], torch.inf)
    at = apart.argmin(2)
    rows = torch.arange(len(at), device=at.device)[:, None]
    return Look(target.values[rows, at], valid=theirs[rows, at])


class FDA(Alignment):
    """Fourier domain adaptation: each source image gets the low frequencies (haze, light, sensor) of a target image.

    Source inputs are changed before the network sees them; labels, targets and predictions are not. Each source sample
    takes a random sample of a random target, band by band. Images of a series take the target's image of the nearest
    date. Series without rows and columns have no spatial frequencies: they take the level alone (see :func:`relevel`).

    Source: Yang & Soatto 2020 (arXiv:2004.05498). Deviations: any number of bands, gaps kept, no entropy term (stack it
    with ``entropy``), frequency 0 with its sign.

    Args:
        beta: See :func:`swap_low_frequencies`.
        leave: Names of inputs that are left as they are.

    Raises:
        ValueError: If ``beta`` is out of range.
    """

    needs_target = True

    def __init__(self, beta: float = 0.01, leave: Sequence[str] = ("attributes",)) -> None:
        super().__init__()
        check_number("fda.beta", beta, least=0, most=0.5)  # of the image's side
        self.beta, self.leave = beta, frozenset(leave)

    @torch.no_grad()
    def edit(self, sources: tuple[Any, ...], targets: tuple[Any, ...], step: Step) -> tuple[Any, Any]:
        return tuple(self._batch(batch, targets) for batch in sources), targets

    def _batch(self, batch: Any, targets: tuple[Any, ...]) -> Any:
        inputs = inputs_of(batch)
        others = looks(inputs_of(targets[int(torch.randint(len(targets), ()))]))
        shared = {name: look for name, look in looks(inputs).items() if name in others and name not in self.leave}
        size = {name: (len(look.values), len(others[name].values)) for name, look in shared.items()}
        luck = {n: torch.randint(n[1], n[:1]) for n in dict.fromkeys(size.values())}  # one draw for all sensors
        new = {name: self._one(name, look, others[name], luck[size[name]]) for name, look in shared.items()}
        return with_inputs(batch, put(inputs, new))

    def _one(self, name: str, source: Look, target: Look, rows: Tensor) -> Look:
        self._check(name, source, target)
        if source.values.ndim == 2:
            return replace(source, values=relevel(source, target))
        drawn = target.take(rows.to(target.values.device))
        if not source.imaged:
            return replace(source, values=relevel(source, drawn))
        drawn = nearest_dates(source, drawn) if source.dated else drawn
        return replace(source, values=restyle(source, drawn, self.beta))

    @staticmethod
    def _check(name: str, source: Look, target: Look) -> None:
        ours, theirs = source.values.shape, target.values.shape
        alike = (slice(source.bands, None),) if source.imaged else (source.bands,)
        if len(ours) != len(theirs) or any(ours[i] != theirs[i] for i in alike):
            raise ValueError(
                f"fda swaps frequencies of images of one size, band by band; input {name!r} is {tuple(ours)} in the "
                f"source and {tuple(theirs)} in the target: choose the same bands (command line: data.bands) and "
                "crop images alike, or take HistogramMatching (method=histogram_matching), to which the size is all one"
            )
