"""Store -> batches. One code path: on the CPU from mapped files, or on an accelerator from resident arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..types import Batch, DomainBatch
from .ragged import Ragged
from .sampler import Sampler, generator
from .store import Store


@dataclass(frozen=True)
class Part:
    """Some parcels of one domain.

    Attributes:
        rows: (N,) int64 positions in the store.
        labels: (N,) int64, or None where labels must not be seen.
    """

    rows: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Reader:
    """Reads parcels from a store: which bands, how many pixels, which season, from which arrays.

    Attributes:
        store: The store.
        bands: Sensor -> band names.
        pixels: Pixels drawn a parcel, for pixel sets.
        arrays: Arrays resident on a device, or None to read the mapped files.
        days: First and last day that is read, both included; () = all.
    """

    store: Store
    bands: Mapping[str, Sequence[str]]
    pixels: int = 32
    arrays: Mapping[str, Ragged] | None = None
    days: Sequence[float] = ()

    def __post_init__(self) -> None:
        if len(self.days) not in (0, 2) or (self.days and not self.days[0] <= self.days[1]):
            raise ValueError(
                "data.days is the first and the last day to be read, e.g. [90, 300], or [] for all; got "
                f"{list(self.days)}"
            )

    @property
    def device(self) -> torch.device:
        """Where batches are made."""
        return next(iter(self.arrays.values())).values.device if self.arrays else torch.device("cpu")

    def batch(self, part: Part, positions: Tensor, stream: torch.Generator | None = None) -> Batch:
        """The batch of some positions of a part; without a generator the pixel draw is the same every time."""
        rows = part.rows[positions]
        inputs = self.store.gather(rows.to(self.device), self.bands, self.pixels, stream, self.arrays)
        if self.days:
            inputs = {name: look.between(*self.days) for name, look in inputs.items()}
        labels = None if part.labels is None else part.labels[positions].to(self.device)
        return Batch(inputs, labels, self.store.lonlat[rows].to(self.device), rows)


class Steps(Dataset[DomainBatch]):
    """(epoch, step) -> the batches of all domains.

    Args:
        reader: Where parcels come from.
        sources: Labelled parts, one a domain.
        targets: Unlabelled parts, one a domain.
        batch_size: Parcels a domain and step.
        seed: Seed of the run.
        steps: Steps an epoch; 0 = as many as the largest labelled part needs to be seen once.
    """

    def __init__(
        self, reader: Reader, sources: Sequence[Part], targets: Sequence[Part], batch_size: int, seed: int, steps: int
    ) -> None:
        self.reader, self.seed = reader, seed
        self.sources, self.targets = tuple(sources), tuple(targets)
        self.samplers = [Sampler(len(part), batch_size, seed, i) for i, part in enumerate((*sources, *targets))]
        self.length = steps or -(-max(len(part) for part in sources) // batch_size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: tuple[int, int]) -> DomainBatch:
        epoch, step = at
        batches = [
            self.reader.batch(part, sampler.positions(epoch, step), generator(self.seed, sampler.domain, epoch, step))
            for part, sampler in zip((*self.sources, *self.targets), self.samplers, strict=True)
        ]
        return DomainBatch(tuple(batches[: len(self.sources)]), tuple(batches[len(self.sources) :]))


class DomainLoader:
    """Iterates one epoch of :class:`Steps`, from wherever the trainer stands.

    The position is asked for when the first batch is wanted, not when the iterator is made: Lightning makes iterators
    before it knows where a resumed run stands.

    Args:
        steps: What to iterate.
        workers: Processes that prepare batches; 0 = none. Resident arrays need none.
        position: () -> (epoch, first step).
    """

    def __init__(
        self, steps: Steps, workers: int = 0, position: Callable[[], tuple[int, int]] = lambda: (0, 0)
    ) -> None:
        self.steps, self.workers, self.position = steps, workers, position

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[DomainBatch]:
        epoch, first = self.position()
        places = [(epoch, step) for step in range(first, len(self.steps))]
        if not self.workers:
            yield from map(self.steps.__getitem__, places)
            return
        own = torch.Generator()  # the loader draws from it; without, it would move the run's random stream
        yield from DataLoader(
            self.steps, None, sampler=places, num_workers=self.workers, collate_fn=_as_is, generator=own
        )

    def state_dict(self) -> dict[str, int]:
        """Nothing to keep: the position is the trainer's. Present because Lightning asks resumable loaders for it."""
        return {}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """See :meth:`state_dict`."""


def _as_is(batch: Any) -> Any:
    return batch  # torch's own would make lists of the tuples


class PartLoader:
    """Every parcel of a part once, in order.

    Args:
        reader: Where parcels come from.
        part: Which parcels.
        batch_size: Parcels a batch; the last may be smaller.
    """

    def __init__(self, reader: Reader, part: Part, batch_size: int) -> None:
        self.reader, self.part, self.batch_size = reader, part, batch_size

    def __len__(self) -> int:
        return -(-len(self.part) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        for first in range(0, len(self.part), self.batch_size):
            yield self.reader.batch(self.part, torch.arange(first, min(first + self.batch_size, len(self.part))))
