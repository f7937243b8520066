"""MIC: masked image consistency. The student must name what a teacher sees behind hidden parts of an image."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import StrongView
from .base import Alignment, Place, Setup, Step, View, Views
from .dacs import images_of, judged
from .looks import Look, band_moments, put, shown
from .options import check_number
from .teacher import Teacher, precision_of, untracked


def blocks(samples: int, height: int, width: int, side: int, hidden: float, device: torch.device) -> Tensor:
    """Which pixels stay visible: each square block is hidden by itself, but one of each image stays.

    Args:
        samples: Number of images B.
        height: Pixels.
        width: Pixels.
        side: Of a block, pixels; the last blocks of a row or column may be smaller.
        hidden: Probability that a block is hidden.
        device: Of the result.

    Returns:
        (B, height, width) bool, True = visible.
    """
    luck = torch.rand(samples, -(-height // side), -(-width // side), device=device)
    seen = (luck >= hidden) | (luck == luck.amax((1, 2), keepdim=True))
    rows, columns = (torch.arange(n, device=device) // side for n in (height, width))
    return seen[:, rows[:, None], columns]


def hide(look: Look, seen: Tensor) -> Look:
    """An image, or a series, whose hidden places have the mean of their band, which normalisation makes about 0.

    Args:
        look: Values (B, C, H, W) or (B, T, C, H, W); the mean is over what the batch has.
        seen: (B, H', W') bool; brought to the image's size by nearest neighbour.
    """
    at = F.interpolate(seen[:, None].float(), size=look.values.shape[-2:], mode="nearest-exact") > 0.5
    at = at[:, :, None] if look.values.ndim == 5 else at
    mean = look.along_bands(band_moments(look)[0]).to(look.values.dtype)
    return replace(look, values=torch.where(at | ~look.seen(), look.values, mean))


class MIC(Alignment):
    """A mean teacher labels target images; the student learns those labels from images of which most is hidden.

    To name what it does not see it must use what lies around: context that holds in the target. Each image is weighted
    by the share of its pixels that the teacher is sure of. All images of a sample are hidden at the same places.

    Source: Hoyer et al. 2023 (arXiv:2212.01322). Deviations: in docs/methods/mic.md.

    Args:
        weight: Factor of the term.
        hidden: Share of the blocks that is hidden, in [0, 1).
        block: Side of a block, as a share of the image's shorter side, in (0, 0.5]; at least a pixel.
        threshold: Probability from which on a pixel counts as sure, in [0, 1].
        decay: Of the teacher, see :class:`.teacher.Teacher`.
        start: Share of training before the first label, in [0, 1).
        strong: Draws the strong view that is hidden; None is ``StrongView()``.

    Raises:
        ValueError: If an option is out of its range.
    """

    place: ClassVar[Place] = "copies"
    needs_target = True
    images_only = True

    def __init__(
        self,
        weight: float = 1.0,
        hidden: float = 0.7,
        block: float = 0.125,
        threshold: float = 0.968,
        decay: float = 0.99,
        start: float = 0.0,
        strong: StrongView | None = None,
    ) -> None:
        super().__init__(weight)
        check_number("mic.hidden", hidden, least=0, below=1)
        check_number("mic.block (a share of the image's shorter side)", block, above=0, most=0.5)
        check_number("mic.threshold", threshold, least=0, most=1)
        check_number("mic.decay", decay, least=0, most=1)
        check_number("mic.start", start, least=0, below=1)
        self.hidden, self.block, self.threshold, self.decay, self.start = hidden, block, threshold, decay, start
        self.strong = strong or StrongView()
        self._sure: list[Tensor] = []

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        self.teacher = Teacher(model, self.decay)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        self._sure = []
        for view in targets:
            images_of("MIC", view.inputs)
        if step.progress < self.start:
            return {"masked": targets[0].features.new_zeros((), dtype=torch.float32)}
        return {"masked": torch.stack([self._masked(view, step) for view in targets]).mean()}

    def _masked(self, view: View, step: Step) -> Tensor:
        with step.scope(view.domain), precision_of(view):
            said = self.teacher(view.inputs)[1]
            there = shown(view.inputs, said.shape[2:])
            label, sure = judged(said, self.threshold, there)
        self._sure.append(sure.mean())
        strong, follow = self.strong(view.inputs)
        with step.scope(view.domain), precision_of(view), untracked(step.model):
            logits = step.model(self.masked(strong))[1].float()
        loss = F.cross_entropy(logits, follow(label), reduction="none")
        if there is not None:
            loss = loss.where(follow(there), 0.0)
        return (sure * loss.flatten(1).mean(1)).mean()

    def masked(self, inputs: Any) -> Any:
        """Inputs whose images are hidden in part, all images of a sample at the same places."""
        images = images_of("MIC", inputs)
        finest = max((look.values for look in images.values()), key=lambda x: x.shape[-2] * x.shape[-1])
        height, width = finest.shape[-2:]
        side = max(1, round(self.block * min(height, width)))
        seen = blocks(len(finest), height, width, side, self.hidden, finest.device)
        return put(inputs, {name: hide(look, seen) for name, look in images.items()})

    def monitors(self) -> dict[str, Tensor]:
        """Share of the target's pixels that the teacher is sure of."""
        return {"sure": torch.stack(self._sure).mean()} if self._sure else {}

    def after_step(self, model: nn.Module) -> None:
        self.teacher.follow(model)
