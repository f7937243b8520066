"""A teacher: the running average of a network, and how to look twice in a step without leaving a trace."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .base import View
from .options import check_number


@torch.no_grad()
def average(teacher: nn.Module, student: nn.Module, decay: float | Tensor) -> None:
    """Move a teacher towards its student: teacher <- decay * teacher + (1 - decay) * student.

    Parameters and floating-point buffers are averaged, other buffers (counters, masks) copied. A parameter that stands
    in several places is averaged once.

    Args:
        teacher: Changed in place; a copy of the student.
        student: The network that learns.
        decay: In [0, 1]; 0 copies the student, 1 leaves the teacher alone.
    """
    ours, theirs = ((*x.parameters(), *x.buffers()) for x in (teacher, student))
    for own, other in zip(ours, theirs, strict=True):
        if own.is_floating_point():
            own.lerp_(other.to(own.dtype), torch.as_tensor(1 - decay, dtype=own.dtype, device=own.device))
        else:
            own.copy_(other)


class Teacher(nn.Module):
    """A running average of a network, always in eval mode and without gradients.

    A deep copy follows ``alignment.scope``, as the network does: run it inside ``with step.scope(domain)``. In step
    t = 0, 1, ... the decay is min(1 - 1 / (t + 1), decay), so that the first steps are a plain mean and the random
    start is forgotten at once (Tarvainen & Valpola 2017, arXiv:1703.01780). Deviation: buffers are averaged, too.

    Args:
        network: Copied.
        decay: In [0, 1]; about 1 / (1 - decay) steps are remembered, 1 never moves.
    """

    steps: Tensor

    def __init__(self, network: nn.Module, decay: float = 0.99) -> None:
        super().__init__()
        check_number("Teacher.decay", decay, least=0, most=1)
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        like = next(network.parameters(), torch.empty(0))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long, device=like.device))
        self.train(False)

    def train(self, mode: bool = True) -> Teacher:
        """Stays in eval mode whatever is asked."""
        return super().train(False)

    def follow(self, network: nn.Module) -> None:
        """After each optimiser step: average the network's new weights in."""
        if self.decay < 1:
            average(self.network, network, (1 - 1 / (self.steps + 1)).clamp_max(self.decay))
        self.steps += 1

    @torch.no_grad()
    def forward(self, inputs: Any) -> Any:
        """What the averaged network says."""
        return self.network(inputs)


def precision_of(view: View) -> torch.autocast:
    """Enter it around another forward pass over the domain of a view: the precision that the first one had.

    Terms are computed without autocast; a whole network need not be, and may have been given inputs in half precision.
    """
    kind, device = view.logits.dtype, view.logits.device.type
    half = kind in (torch.bfloat16, torch.float16)
    return torch.autocast(device, dtype=kind if half else None, enabled=half)


@contextmanager
def untracked(network: nn.Module) -> Iterator[None]:
    """Inside, norms normalise by the batch as they do in training, but leave their running statistics alone.

    For a second look at a domain in one step: an augmented view must not move what stands for the domain.
    """
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
