"""Store -> batches. One code path: on the CPU from mapped files, or on an accelerator from resident arrays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

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
    workers: ClassVar[int] = 0  # parcels are mapped from disk: reading them one after the other is fastest

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

    def read(self, part: Part, positions: Tensor, stream: torch.Generator | None = None) -> Batch:
        """What a worker process hands on: of parcels, the batch."""
        return self.batch(part, positions, stream)

    def finish(self, raw: Batch) -> Batch:
        """What the training process makes of it: of parcels, nothing."""
        return raw

    def chunks(self, part: Part, size: int) -> list[Tensor]:
        """Positions of all parcels of a part, up to ``size`` at once, in order; see :func:`pieces`."""
        return pieces(torch.arange(len(part)), size)

    def plain(self) -> Reader:
        """The same without resident arrays, which hold but the domains that train."""
        return replace(self, arrays=None)


def pieces(positions: Tensor, size: int) -> list[Tensor]:
    """Up to ``size`` positions at once, in order. Batch norm takes no statistics of one: the last has at least two.

    Not where ``size`` is below 3, or where there is but one.
    """
    if not len(positions):
        return []
    found = list(positions.split(size))
    if size > 2 and len(found) > 1 and len(found[-1]) == 1:
        found[-2:] = torch.cat(found[-2:]).split([size - 1, 2])
    return found


class Reads(Protocol):
    """What makes batches: :class:`Reader` of parcels, :class:`.scenes.reader.PatchReader` of images."""

    @property
    def workers(self) -> int:
        """Processes that read whole parts; training has its own."""

    def read(self, part: Any, positions: Tensor, stream: torch.Generator | None = None) -> Any:
        """In a worker process: what is read of some samples, small enough to hand on."""

    def finish(self, raw: Any) -> Batch:
        """In the training process, on its device: the batch."""

    def chunks(self, part: Any, size: int) -> list[Tensor]:
        """Positions of all samples of a part, up to ``size`` at once, in order."""


class Steps(Dataset[DomainBatch]):
    """(epoch, step) -> the batches of all domains.

    Args:
        reader: Where samples come from.
        sources: Labelled parts, one a domain.
        targets: Unlabelled parts, one a domain.
        batch_size: Samples a domain and step.
        seed: Seed of the run.
        steps: Steps an epoch; 0 = as many as the largest labelled part needs to be seen once.
    """

    def __init__(
        self, reader: Reads, sources: Sequence[Part], targets: Sequence[Part], batch_size: int, seed: int, steps: int
    ) -> None:
        self.reader, self.seed = reader, seed
        self.sources, self.targets = tuple(sources), tuple(targets)
        self.samplers = [Sampler(len(part), batch_size, seed, i) for i, part in enumerate((*sources, *targets))]
        self.length = steps or -(-max(len(part) for part in sources) // batch_size)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: tuple[int, int]) -> DomainBatch:
        return self.finish(self.read(at))

    def read(self, at: tuple[int, int]) -> list[Any]:
        """What is read for a step, one entry a domain."""
        epoch, step = at
        return [
            self.reader.read(part, sampler.positions(epoch, step), generator(self.seed, sampler.domain, epoch, step))
            for part, sampler in zip((*self.sources, *self.targets), self.samplers, strict=True)
        ]

    def finish(self, raw: Sequence[Any]) -> DomainBatch:
        """The batches of a step."""
        batches = [self.reader.finish(one) for one in raw]
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
        yield from map(self.steps.finish, in_processes(self.steps.read, places, self.workers))

    def state_dict(self) -> dict[str, int]:
        """Nothing to keep: the position is the trainer's. Present because Lightning asks resumable loaders for it."""
        return {}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """See :meth:`state_dict`."""


At = TypeVar("At")


class _Calls(Dataset[Any], Generic[At]):
    """A function as a data set, for worker processes."""

    def __init__(self, read: Callable[[At], Any]) -> None:
        self.read = read

    def __getitem__(self, at: At) -> Any:
        return self.read(at)


def in_processes(read: Callable[[At], Any], places: Sequence[At], workers: int) -> Iterator[Any]:
    """``map(read, places)``, in order, by worker processes."""
    own = torch.Generator()  # the loader draws from it; without, it would move the run's random stream
    calls = _Calls(read)
    yield from DataLoader(calls, None, sampler=places, num_workers=workers, collate_fn=_as_is, generator=own)


def _as_is(batch: Any) -> Any:
    return batch  # torch's own would make lists of the tuples


class PartLoader:
    """Every sample of a part once, in order.

    Args:
        reader: Where samples come from.
        part: Which samples.
        batch_size: Samples a batch; some may be smaller.
    """

    def __init__(self, reader: Reads, part: Part, batch_size: int) -> None:
        self.reader, self.part, self.batch_size = reader, part, batch_size

    def __len__(self) -> int:
        return len(self.reader.chunks(self.part, self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        chunks = self.reader.chunks(self.part, self.batch_size)
        read = partial(self.reader.read, self.part)
        raws = in_processes(read, chunks, self.reader.workers) if self.reader.workers else map(read, chunks)
        yield from map(self.reader.finish, raws)
