"""A toy on which aligning features helps: of two cues to the class, the clearer one is offset in the target."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from intervals import gain_over, interval
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View


class Small(nn.Module):
    """(features, logits) of two cues."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


def cues(rows: int, share: float, offset: float) -> tuple[Tensor, Tensor]:
    """(rows, 2) inputs and labels, of which a share is 1: a vague cue, and a clear one that is offset."""
    labels = (torch.arange(rows) < share * rows).long()
    signs = 2.0 * labels - 1
    vague, clear = signs + 0.5 * torch.randn(rows), signs + 0.2 * torch.randn(rows) + offset
    return torch.stack([vague, clear], 1), labels


def accuracy(align: Alignment, seed: int, share: float = 0.5, offset: float = 3.0, ramp: bool = False) -> float:
    """Share of right answers on a balanced target after 100 steps.

    Args:
        align: The method.
        seed: Of everything that is drawn.
        share: Share of class 1 in the target's training batches; in the source it is a half.
        offset: Of the clear cue in the target; the classes are 2 apart.
        ramp: Whether the terms' weight grows from 0 to 1 over the first half.
    """
    torch.manual_seed(seed)
    model, criterion = Small(), nn.CrossEntropyLoss()
    align.attach(model, Setup(4, 1, 1, 2))
    optimiser = torch.optim.Adam([*model.parameters(), *align.parameters()], 0.015)
    for number in range(100):
        (xs, ys), (xt, _) = cues(128, 0.5, 0.0), cues(96, share, offset)
        (fs, zs), (ft, zt) = model(xs), model(xt)
        step = Step(model, criterion, lambda domain: nullcontext(), number / 100)
        terms = align((View(fs, zs, xs, 0, ys),), (View(ft, zt, xt, 1),), step)
        factor = min(1.0, number / 50) if ramp else 1.0
        loss = criterion(zs, ys) + factor * sum(terms.values(), start=zs.new_zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        align.after_step(model)
    x, y = cues(1000, 0.5, offset)
    return float((model(x)[1].argmax(1) == y).float().mean())


def scores(align: Callable[[], Alignment], seeds: int = 3, **options: float) -> list[float]:
    """Accuracy on the target, one a seed."""
    return [accuracy(align(), seed, **options) for seed in range(seeds)]


def gain(align: Callable[[], Alignment], **options: float) -> tuple[float, float]:
    """Interval of the gain over source-only, which must stay below 70 %."""
    return gain_over(scores(Alignment, **options), scores(align, **options))


def difference(align: Callable[[], Alignment], other: Callable[[], Alignment], **options: float) -> tuple[float, float]:
    """Interval of the gain of one method over another, whatever their scores; of five seeds."""
    pairs = zip(scores(align, 5, **options), scores(other, 5, **options), strict=True)
    return interval([ours - theirs for ours, theirs in pairs])
