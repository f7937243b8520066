"""A world of shifted Gaussians that tests of adversarial methods share, and a small trainer for it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from intervals import gain_over
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View


class Net(nn.Module):
    """(features, logits) of rows of two numbers."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, width))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


def shifted(n: int, target: bool) -> tuple[Tensor, Tensor]:
    """Two classes that differ in both columns; the target's first column, where they differ most, is shifted."""
    labels = torch.arange(n) % 2
    x = 0.5 * torch.randn(n, 2) + (2.0 * labels[:, None] - 1) * torch.tensor([1.5, 1.0])
    return x + target * torch.tensor([2.6, 0.0]), labels


def step(model: nn.Module | None = None, progress: float = 1.0) -> Step:
    return Step(model or nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), progress)


def view(features: Tensor, domain: int, logits: Tensor | None = None, labels: Tensor | None = None) -> View:
    return View(features, features if logits is None else logits, features, domain, labels)


def train(align: Alignment, seed: int, steps: int = 200) -> float:
    """Accuracy on the target after training on both domains."""
    torch.manual_seed(seed)
    net = Net()
    align.attach(net, Setup(8, 1, 1, 2))
    optimiser = torch.optim.Adam([*net.parameters(), *align.parameters()], 0.01)
    for number in range(steps):
        (xs, ys), (xt, _) = shifted(64, False), shifted(64, True)
        source, target = (View(*net(x), x, i, y) for i, (x, y) in enumerate(((xs, ys), (xt, None))))
        terms = align((source,), (target,), step(net, number / steps))
        loss = nn.functional.cross_entropy(source.logits, ys) + sum(terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        align.after_step(net)
    x, y = shifted(1000, True)
    return float((net(x)[1].argmax(1) == y).float().mean())


@cache
def baseline() -> tuple[float, ...]:
    """Source-only accuracy on the target, of five seeds."""
    return tuple(train(Alignment(), seed) for seed in range(5))


def gain(make: Callable[[], Alignment]) -> tuple[float, float]:
    """Interval of the gain in target accuracy over source-only, seed by seed, where source-only stays below 70 %."""
    return gain_over(baseline(), [train(make(), seed) for seed in range(5)])
