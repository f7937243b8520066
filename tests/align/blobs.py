"""A toy of maps: scenes of blobs whose colours differ between domains, and a tiny network that names them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View

COLOURS = torch.tensor([[2.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 2.0]])


class SmallNet(nn.Module):
    """(features, logits) of maps with three bands."""

    def __init__(self, classes: int = 3, width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, width, 3, 1, 1))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


def layout(samples: int, side: int, shares: Tensor) -> Tensor:
    """(B, side, side) classes of blobs: smooth random fields, cut so that class k has about its share."""
    field = torch.randn(samples, 1, side // 4, side // 4)
    field = nn.functional.interpolate(field, size=(side, side), mode="bicubic")[:, 0]
    ranks = field.flatten().argsort().argsort().view_as(field).float() / field.numel()
    return torch.bucketize(ranks, shares.cumsum(0)[:-1].contiguous())


@dataclass(frozen=True)
class World:
    """How a domain draws its scenes.

    Attributes:
        shares: Of each class.
        offset: Added to all colours, (3,).
        gain: Of the colours, (3,).
        noise: Standard deviation of a value.
    """

    shares: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    noise: float = 0.5

    def draw(self, samples: int, side: int = 16) -> tuple[Tensor, Tensor]:
        """Images (B, 3, side, side) and labels (B, side, side)."""
        labels = layout(samples, side, torch.tensor(self.shares))
        clean = COLOURS[labels].movedim(-1, 1)
        offset, gain = (torch.tensor(x).view(1, 3, 1, 1) for x in (self.offset, self.gain))
        return gain * clean + offset + self.noise * torch.randn_like(clean), labels


def fit(align: Alignment, source: World, target: World, seed: int, steps: int = 80, lr: float = 0.015) -> nn.Module:
    """A network trained on labelled source and unlabelled target scenes."""
    torch.manual_seed(seed)
    model, criterion = SmallNet(len(source.shares)), nn.CrossEntropyLoss(ignore_index=-1)
    align.attach(model, Setup(8, 1, 1, len(source.shares)))
    optimiser = torch.optim.Adam([*model.parameters(), *(p for p in align.parameters() if p.requires_grad)], lr)
    for number in range(steps):
        batch, (xt, _) = source.draw(4), target.draw(4)
        step = Step(model, criterion, lambda domain: nullcontext(), number / steps)
        ((xs, ys),), (xt,) = align.edit((batch,), (xt,), step)
        (fs, zs), (ft, zt) = model(xs), model(xt)
        terms = align((View(fs, zs, xs, 0, ys),), (View(ft, zt, xt, 1),), step)
        loss = criterion(zs, ys) + sum(terms.values(), start=zs.new_zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        align.after_step(model)
    return model.eval()


def accuracy(model: nn.Module, world: World, balanced: bool = False) -> float:
    """Share of right pixels of fresh scenes; balanced: mean over classes."""
    torch.manual_seed(99)
    x, y = world.draw(40)
    with torch.no_grad():
        right = (model(x)[1].argmax(1) == y).float()
    shares = [right[y == k].mean() for k in y.unique()] if balanced else [right.mean()]
    return float(torch.stack(shares).mean())


def scores(align: Callable[[], Alignment], source: World, target: World, seeds: int = 3, steps: int = 80) -> Tensor:
    """(seeds,) accuracy on the target."""
    return torch.tensor([accuracy(fit(align(), source, target, seed, steps), target) for seed in range(seeds)])
