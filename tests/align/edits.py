"""What tests of methods that edit sources share: one edit, and what a network learns from edited sources."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from intervals import gain_over
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), None, 0.5)


def edited(method: Alignment, source: Any, *targets: Any) -> Any:
    """The source's batch as the method has changed it; targets are handed back as they came."""
    method.attach(nn.Identity(), Setup(3, 1, len(targets)))
    (source,), same = method.edit((source,), targets, STEP)
    assert same is targets
    return source


def accuracy(
    build: Callable[[], nn.Module],
    draw: Callable[[int, bool], tuple[Tensor, Tensor]],
    method: Alignment | None,
    rows: int,
    lr: float,
    seed: int,
) -> float:
    """Share of right answers in the target after training on the source.

    Args:
        build: The network, from inputs to logits.
        draw: (inputs, labels) of so many samples, of the target where the second argument is true.
        method: Edits the source's batches; None leaves them.
        rows: Samples a batch.
        lr: Of Adam.
        seed: Of everything that is drawn.
    """
    torch.manual_seed(seed)
    model = build()
    optimiser = torch.optim.Adam(model.parameters(), lr)
    for _ in range(150):
        (x, y), (other, _) = draw(rows, False), draw(rows, True)
        x = edited(method, x, other) if method else x
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    x, y = draw(500, True)
    return (model(x).argmax(1) == y).float().mean().item()


def gain(
    build: Callable[[], nn.Module],
    draw: Callable[[int, bool], tuple[Tensor, Tensor]],
    method: Alignment,
    rows: int,
    lr: float,
) -> tuple[float, float]:
    """Interval of the gain in accuracy over source-only, which must stay below 70 %; of three seeds."""
    plain, ours = ([accuracy(build, draw, edit, rows, lr, seed) for seed in range(3)] for edit in (None, method))
    return gain_over(plain, ours)
