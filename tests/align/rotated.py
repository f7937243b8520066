"""Three clusters on a circle, turned in the target: a toy where methods that look at target logits should help."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache

import torch
from intervals import gain_over
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.source_only import SourceOnly

CLASSES = 3


def step(progress: float = 0.5) -> Step:
    return Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), progress)


def view(logits: Tensor, domain: int = 1, labels: Tensor | None = None) -> View:
    return View(logits, logits, None, domain, labels)


def clusters(n: int, degrees: float) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    angle = 2 * math.pi * labels / CLASSES + math.radians(degrees)
    return torch.stack([angle.cos(), angle.sin()], 1) + 0.25 * torch.randn(n, 2), labels


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Sequential(nn.Linear(2, 32), nn.ReLU()), nn.Linear(32, CLASSES)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def accuracy(make: Callable[[], Alignment], seed: int, degrees: float = 54, steps: int = 150) -> float:
    """On new target samples; the method joins after a third of the steps."""
    torch.manual_seed(seed)
    (xs, ys), (xt, _), (xe, ye) = clusters(450, 0), clusters(450, degrees), clusters(600, degrees)
    net, align, criterion = Net(), make(), nn.CrossEntropyLoss()
    align.attach(net, Setup(32, 1, 1, CLASSES))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for number in range(steps):
        (f, z), (g, q) = net(xs), net(xt)
        loss = criterion(z, ys)
        if number >= steps // 3:
            loss = loss + sum(align((View(f, z, xs, 0, ys),), (View(g, q, xt, 1),), step(number / steps)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return (net(xe)[1].argmax(1) == ye).float().mean().item()


def gain(make: Callable[[], Alignment]) -> tuple[float, float]:
    """Interval of the gain in accuracy over source-only, which must stay below 70 %."""
    return gain_over([baseline(seed) for seed in range(4)], [accuracy(make, seed) for seed in range(4)])


@cache
def baseline(seed: int) -> float:
    return accuracy(SourceOnly, seed)
