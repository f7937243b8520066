"""What a network says of windows: probabilities, averaged over views of each window."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from ..data.scenes.augment import picked, resized
from ..types import Inputs, Observation

Network = Callable[[Inputs], Tensor]  # inputs in physical units -> logits (B, K, H, W)
Precision = Literal["auto", "fp32", "bf16"]
Turn = tuple[bool, bool, bool]  # mirrored left-right, then up-down, then along the diagonal
UPRIGHT: Turn = (False, False, False)
TURNS: dict[str, tuple[Turn, ...]] = {
    "none": (UPRIGHT,),
    "flips": tuple((a, b, False) for a in (False, True) for b in (False, True)),
    "d4": tuple((a, b, c) for c in (False, True) for b in (False, True) for a in (False, True)),
}
STEP = 32  # sides of magnified windows are multiples of it


class Answer:
    """Inputs -> probabilities (B, K, H, W) float32, softmax(logits / T) averaged over views.

    The softmax comes before the average: logits of different views have different scales, so that their mean lets the
    loudest view decide.

    Args:
        network: The network, on its device, in eval mode.
        temperature: T.
        views: ``none``, ``flips`` (four mirrored views) or ``d4`` (the eight symmetries of a square).
        scales: Magnifications, each with all views; 1.0 = as it is.
        precision: ``auto`` = bf16 on GPUs that have it, fp32 elsewhere.

    Raises:
        ValueError: If an option is none of these.
    """

    def __init__(
        self,
        network: Network,
        temperature: float = 1.0,
        views: str = "none",
        scales: Sequence[float] = (1.0,),
        precision: Precision = "auto",
    ) -> None:
        if views not in TURNS:
            raise ValueError(f"tta is one of {list(TURNS)}; got {views!r}")
        if not scales or not all(0.25 <= s <= 4 for s in scales):
            raise ValueError(f"scales are magnifications within 0.25 and 4, at least one; got {list(scales)}")
        if precision not in ("auto", "fp32", "bf16"):
            raise ValueError(f"precision is auto, fp32 or bf16; got {precision!r}")
        self.network, self.temperature, self.turns = network, temperature, TURNS[views]
        self.scales, self.precision = tuple(float(s) for s in scales), precision

    def __call__(self, inputs: Inputs) -> Tensor:
        first = next(iter(inputs.values())).values
        total, count = None, len(self.scales) * len(self.turns)
        for scale in self.scales:
            scaled = _scaled(inputs, scale)
            for turn in self.turns:
                said = self._one(_each(scaled, partial(mirrored, turn=turn)))
                back = mirrored(said, turn, back=True)
                back = back if scale == 1.0 else resized(back, *first.shape[-2:])
                total = back if total is None else total + back
        assert total is not None  # noqa: S101  (there is a view)
        return total / count

    def _one(self, inputs: Inputs) -> Tensor:
        """Probabilities of one view."""
        device = next(iter(inputs.values())).values.device
        low = self.precision == "bf16" or (
            self.precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        with torch.autocast(device.type, torch.bfloat16) if low else contextlib.nullcontext():
            logits = self.network(_channels_last(inputs))
        return torch.softmax(logits.detach().float().div(self.temperature), 1)


def mirrored(x: Tensor, turn: Turn, back: bool = False) -> Tensor:
    """(..., H, W) mirrored; ``back`` undoes it."""
    steps: list[Callable[[Tensor], Tensor]] = [
        lambda y: y.flip(-1), lambda y: y.flip(-2), lambda y: y.transpose(-1, -2)
    ]  # fmt: skip
    pairs = list(zip(turn, steps, strict=True))
    for hit, step in reversed(pairs) if back else pairs:
        x = step(x) if hit else x
    return x


def _each(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Values and masks of pixels changed alike."""

    def one(look: Observation) -> Observation:
        pixels = None if look.valid_pixels is None else change(look.valid_pixels)
        return replace(look, values=change(look.values), valid_pixels=pixels)

    return {name: one(look) for name, look in inputs.items()}


def _scaled(inputs: Inputs, scale: float) -> Inputs:
    """All sensors magnified; the first one to sides that are multiples of :data:`STEP`."""
    if scale == 1.0:
        return inputs
    sides = list(_sides(inputs, scale))
    out = {}
    for (name, look), (height, width) in zip(inputs.items(), sides, strict=True):
        pixels = None if look.valid_pixels is None else picked(look.valid_pixels, height, width)
        out[name] = replace(look, values=resized(look.values, height, width), valid_pixels=pixels)
    return out


def _sides(inputs: Inputs, scale: float) -> Iterator[tuple[int, int]]:
    first = next(iter(inputs.values())).values.shape[-2:]
    goal = [max(STEP, round(n * scale / STEP) * STEP) for n in first]
    for look in inputs.values():
        height, width = (max(1, round(n * g / f)) for n, g, f in zip(look.values.shape[-2:], goal, first, strict=True))
        yield height, width


def _channels_last(inputs: Inputs) -> Inputs:
    """Images in the order of memory in which convolutions are fastest on GPUs."""

    def one(look: Observation) -> Observation:
        if look.values.ndim != 4 or look.values.device.type != "cuda":
            return look
        return replace(look, values=look.values.contiguous(memory_format=torch.channels_last))

    return {name: one(look) for name, look in inputs.items()}
