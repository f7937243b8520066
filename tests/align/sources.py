"""Toys of several labelled domains: a colour that follows the label, and tasks that share what they look at."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View

CRITERION = nn.CrossEntropyLoss()
Samples = tuple[Tensor, Tensor]


def scope(domain: int) -> nullcontext[None]:
    return nullcontext()


def step_of(model: nn.Module, progress: float = 0.5) -> Step:
    return Step(model, CRITERION, scope, progress)


def view(logits: Tensor, labels: Tensor, domain: int = 0) -> View:
    """Of a model whose features are its logits."""
    return View(logits, logits, logits, domain, labels)


class Net(nn.Module):
    def __init__(self, inputs: int, hidden: int = 16, layers: int = 1, kink: type[nn.Module] = nn.ReLU):
        super().__init__()
        sizes = [inputs, *[hidden] * layers]
        parts = [nn.Sequential(nn.Linear(a, b), kink()) for a, b in itertools.pairwise(sizes)]
        self.body, self.head = nn.Sequential(*parts), nn.Linear(hidden, 2)

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)


def coloured(rows: int, agree: float, seed: int) -> Samples:
    """(rows, 2) inputs and labels: a cause that is right 3 times in 4, a colour that is right with a share."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (rows,), generator=draw)
    right = torch.rand(rows, 2, generator=draw) < torch.tensor([0.75, agree])
    signs = torch.where(right, labels[:, None], 1 - labels[:, None]).float() * 2 - 1
    return signs + 0.1 * torch.randn(rows, 2, generator=draw), labels


def turned(rows: int, turn: float, seed: int) -> Samples:
    """(rows, 6) inputs and labels: the side of a line through two hidden coordinates that all tasks share."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 6, generator=draw)
    hidden = torch.stack([x[:, 0] * x[:, 1], x[:, 2].abs() - 0.8], 1)
    return x, (hidden @ torch.tensor([math.cos(turn), math.sin(turn)]) > 0).long()


def train(
    align: Alignment, model: nn.Module, batches: list[list[Samples]], lr: float = 0.02, late: float = 0.0
) -> None:
    """One optimiser step a list of domains; the terms count once a share ``late`` of the steps is done."""
    align.attach(model, Setup(16, len(batches[0]), 0, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr)
    for number, domains in enumerate(batches):
        torch.manual_seed(number)
        views = tuple(View(*model(x), x, i, y) for i, (x, y) in enumerate(domains))
        terms = align(views, (), step_of(model, number / len(batches)))
        task = torch.stack([CRITERION(v.logits, v.labels) for v in views]).mean()
        loss = task + (number >= late * len(batches)) * sum(terms.values(), start=torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        align.after_step(model)


def accuracy(model: nn.Module, samples: Samples) -> float:
    x, y = samples
    return float((model(x)[1].argmax(1) == y).float().mean())


def where_colour_lies(align: Alignment, seed: int) -> float:
    """Accuracy where the colour means the opposite, after training on two sources where it is right mostly."""
    torch.manual_seed(seed)
    model = Net(2)
    sources = [coloured(600, agree, 10 * seed + i) for i, agree in enumerate((0.95, 0.8))]
    train(align, model, [sources] * 200, late=0.3)
    return accuracy(model, coloured(3000, 0.1, 500 + seed))


def slopes(model: nn.Module, value: Callable[[nn.Module], Tensor], size: float = 1e-2) -> tuple[float, float]:
    """Slope of a value along a random direction of the weights: by its gradient, and by a central difference."""
    direction = [torch.randn_like(p) for p in model.parameters()]
    grads = torch.autograd.grad(value(model), list(model.parameters()))

    def moved(by: float) -> float:
        other = copy.deepcopy(model)
        with torch.no_grad():
            for p, d in zip(other.parameters(), direction, strict=True):
                p += by * d
        return value(other).item()

    by_gradient = sum(float((g * d).sum()) for g, d in zip(grads, direction, strict=True))
    return by_gradient, (moved(size) - moved(-size)) / (2 * size)
