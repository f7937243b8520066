"""Which parcels a training step sees: a function of (seed, domain, epoch, step), so a resumed run sees the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def generator(*numbers: int) -> torch.Generator:
    """A CPU generator whose stream is fixed by these numbers (each >= 0)."""
    state = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)


class Sampler:
    """Draws positions 0..size-1 of one domain, batch by batch.

    Without weights every parcel comes once before any comes twice (a domain smaller than the others starts over).
    With weights parcels are drawn with replacement.

    Args:
        size: Number of parcels.
        batch_size: Positions a step.
        seed: Seed of the run.
        domain: Number of the domain, so that equal-sized domains are not drawn alike.
    """

    def __init__(self, size: int, batch_size: int, seed: int, domain: int) -> None:
        self.size, self.batch_size, self.seed, self.domain = size, batch_size, seed, domain
        self.weights: Tensor | None = None
        self._permutations: dict[tuple[int, int], Tensor] = {}

    def positions(self, epoch: int, step: int) -> Tensor:
        """(B,) int64 positions of one step."""
        if self.weights is not None:
            stream = generator(self.seed, self.domain, epoch, step, 1)
            return torch.multinomial(self.weights, self.batch_size, replacement=True, generator=stream)
        first = step * self.batch_size
        stretch = torch.arange(first, first + self.batch_size)
        cycles = stretch // self.size
        drawn = [
            self._permutation(epoch, cycle)[stretch[cycles == cycle] % self.size]
            for cycle in range(int(cycles[0]), int(cycles[-1]) + 1)
        ]
        return torch.cat(drawn)

    def _permutation(self, epoch: int, cycle: int) -> Tensor:
        kept = self._permutations
        if (epoch, cycle) not in kept:
            if len(kept) > 1:  # the two of the current step are enough
                kept.pop(next(iter(kept)))
            kept[epoch, cycle] = torch.randperm(self.size, generator=generator(self.seed, self.domain, epoch, cycle, 0))
        return kept[epoch, cycle]
