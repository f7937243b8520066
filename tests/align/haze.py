"""A target under haze, or seen by another sensor, that alignments can adapt to; its labels may agree or contradict.

No label-free method can tell an honest target from a contradicted one: their inputs are the same. So one run serves
both, and what closes the gap of the first must fail on the second.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from bench import make
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View

SEEDS, STEPS, ROWS, TARGET = range(3), 80, 40, 2
BY_NORMS = {"csn", "adabn", "tent"}  # act on batch norm alone, so they undo another sensor and no haze


class Net(nn.Module):
    """(features, logits) of four bands."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        layers = [nn.Linear(4, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.ReLU(), nn.Linear(16, 8)]
        self.encoder, self.head = nn.Sequential(*layers), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


def scene(rows: int, domain: int, sensor: bool) -> tuple[Tensor, Tensor]:
    """Bands and classes: a clear cue, a fainter one, two bands of noise.

    In the target haze of many strengths lies on the clear cue and on one band of noise; or the sensor's clear band has
    an offset that is larger than what the classes differ by.
    """
    labels = torch.randint(2, (rows,))
    x = 0.4 * torch.randn(rows, 4) + (2.0 * labels - 1)[:, None] * torch.tensor([1.0, 0.6, 0.0, 0.0])
    if domain == TARGET:
        haze = 4 * torch.randn(rows, 1) * torch.tensor([1.0, 0.0, 1.0, 0.0])
        x = x + (torch.tensor([2.0, 0.0, 0.0, 0.0]) if sensor else haze)
    return x, labels


def fitted(align: Alignment, seed: int, norm: bool, oracle: bool = False) -> tuple[Net, Alignment]:
    """Trained on two sources and an unlabelled target; the oracle on the contradicted labels of the target alone."""
    torch.manual_seed(seed)
    net, criterion = Net(norm), nn.CrossEntropyLoss()
    align.attach(net, Setup(8, 2, 1, 2))
    optimiser = torch.optim.Adam([*net.parameters(), *align.parameters()], 0.015)
    for number in range(STEPS):
        step = Step(net, criterion, align.scope, number / STEPS)
        batches = [scene(ROWS, TARGET if oracle else domain, norm) for domain in range(3)]
        xs = tuple(x for x, _ in batches)
        edited = align.edit(xs[:2], xs[2:] if align.needs_target else (), step)
        views = []
        for domain, x in enumerate((*edited[0], *edited[1])):
            with align.scope(domain):
                labels = None if domain == TARGET else 1 - batches[domain][1] if oracle else batches[domain][1]
                views.append(View(*net(x), x, domain, labels, torch.zeros(ROWS, 2)))
        task = torch.stack([criterion(v.logits, v.labels) for v in views[:2]]).mean()
        optimiser.zero_grad()
        (task + sum(align(tuple(views[:2]), tuple(views[2:]), step).values())).backward()
        optimiser.step()
        align.after_step(net)
    return settled(net, align)


def normed(net: Net) -> bool:
    return any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in net.modules())


def settled(net: Net, align: Alignment) -> tuple[Net, Alignment]:
    net.eval()
    align.eval()
    norm = normed(net)
    if align.settles:
        with torch.no_grad():
            align.settle(net, {i: [scene(200, i, norm)] for i in (0, 1)}, {TARGET: [scene(400, TARGET, norm)[0]]})
    return net, align


def accuracy(net: Net, align: Alignment, domain: int, contradicted: bool = False) -> float:
    x, y = scene(1000, domain, normed(net))
    with align.scope(domain), torch.set_grad_enabled(align.learns_at_test):
        right = align.predict(net, x).argmax(1) == (1 - y if contradicted else y)
    return float(right.float().mean())


class Scores(NamedTuple):
    """Accuracy on a source, on the honest and on the contradicted target, a seed each."""

    source: tuple[float, ...]
    honest: tuple[float, ...]
    contradicted: tuple[float, ...]


@cache
def scores(name: str, norm: bool, oracle: bool = False) -> Scores:
    found = []
    for seed in SEEDS:
        net, align = fitted(make(name), seed, norm, oracle)
        found.append((accuracy(net, align, 0), *(accuracy(net, align, TARGET, wrong) for wrong in (False, True))))
    return Scores(*zip(*found, strict=True))
