"""Bands of a map, from windows read to bytes written: reading and writing go on while the network computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from threading import Barrier
from typing import TypeVar

import torch
from torch import Tensor

from ..types import Inputs
from .blend import Blend
from .paint import paint
from .scene import Counts, Scene
from .windows import Windows
from .work import Work

AHEAD = 3  # batches that are read before they are needed, a reader
BEHIND = 2  # bands that wait to be written
Probabilities = Callable[[Inputs], Tensor]  # inputs -> (B, K, H, W)
Argument = TypeVar("Argument")
Result = TypeVar("Result")
Place = tuple[int, tuple[int, ...]]  # number of a row of windows, first columns of some of its windows


@dataclass(frozen=True)
class Engine:
    """Maps bands of one scene.

    Attributes:
        scene: What is read.
        windows: The grid.
        classes: K.
        batch: Windows at once, of one row.
        device: Where the network is.
        readers: Threads that read.
    """

    scene: Scene
    windows: Windows
    classes: int
    batch: int
    device: torch.device
    readers: int = 2

    def run(
        self, answer: Probabilities, work: Work, bands: Iterable[int], told: Callable[[int], None] = lambda band: None
    ) -> None:
        """Map the bands that are not in yet.

        A band's bytes do not depend on which other bands are mapped: every window is read alike, in the same batch, and
        answers are summed in the same order. What reaches into the first band from above is computed again.

        Args:
            answer: Inputs -> probabilities.
            work: Where bands go.
            bands: Their numbers.
            told: Called with the number of each band once it is in.
        """
        done = work.done()
        with ThreadPoolExecutor(1) as writer:
            waiting: deque[Future[None]] = deque()
            try:
                for first, last in runs(band for band in bands if not done[band]):
                    for band, top, mean, seen in self._bands(answer, first, last):
                        rows = paint(mean, seen, work.layers)

                        def put(band: int = band, top: int = top, rows: dict = rows) -> None:
                            work.write(band, top, rows)
                            told(band)

                        waiting.append(writer.submit(put))
                        while len(waiting) > BEHIND:
                            waiting.popleft().result()
            finally:
                for future in waiting:  # an error of the network must not lose what is computed already
                    future.result()

    def _bands(self, answer: Probabilities, first: int, last: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Number, first row, probabilities (K, N, W) and pixels seen (N, W) of bands ``first`` .. ``last``."""
        start = self.windows.reaching(first)
        blend = Blend(self.windows, self.classes, self.device, start)
        groups = self.windows.groups(self.batch)
        places = [(row, columns) for row in range(start, last + 1) for columns in groups]
        for (row, columns), counts in self.batches(places):
            self._add(answer, blend, counts, columns)
            if columns is groups[-1]:
                top, until = self.windows.band(row)
                mean, seen = blend.take(until)
                if row >= first:
                    yield row, top, mean, seen

    def batches(self, places: Sequence[Place]) -> Iterator[tuple[Place, dict[str, Counts]]]:
        """What is read at each place, in order, by threads that are a little ahead."""

        def read(place: Place) -> dict[str, Counts]:
            row, columns = place
            return pinned(self.scene.read(self.windows.rows[row], columns, self.windows.tile), self.device)

        with ThreadPoolExecutor(self.readers) as pool:
            try:
                yield from zip(places, ahead(pool, read, places, AHEAD * self.readers), strict=True)
            finally:
                at_once = Barrier(self.readers)  # so that every thread gets one of these, and closes its own files
                for closed in [pool.submit(_close, self.scene, at_once) for _ in range(self.readers)]:
                    closed.result()

    def _add(self, answer: Probabilities, blend: Blend, counts: dict[str, Counts], columns: tuple[int, ...]) -> None:
        """Put the answers of those windows of a batch into the sums that show anything."""
        shown = counts[self.scene.lead].shown
        keep, counts = self._kept(counts)
        if not len(keep):
            return
        said = answer(self.scene.inputs(counts, self.device))
        self._check(said, len(keep))
        blend.add(said, shown[keep].to(self.device), tuple(columns[i] for i in keep.tolist()))

    def _kept(self, counts: dict[str, Counts]) -> tuple[Tensor, dict[str, Counts]]:
        """Positions of the windows of a batch that show anything, and what was read of those."""
        there = counts[self.scene.lead].shown.flatten(1).any(1)
        keep = there.nonzero()[:, 0]
        return keep, counts if there.all() else {name: _some(look, keep) for name, look in counts.items()}

    def shown(self, places: Sequence[Place]) -> Iterator[Inputs]:
        """Inputs of the windows at some places that show anything."""
        for _, counts in self.batches(places):
            keep, some = self._kept(counts)
            if len(keep):
                yield self.scene.inputs(some, self.device)

    def _check(self, said: Tensor, batch: int) -> None:
        wanted = (batch, self.classes, self.windows.tile, self.windows.tile)
        if tuple(said.shape) != wanted:
            raise ValueError(
                f"the network answers {tuple(said.shape)} for {batch} windows of {self.windows.tile} pixels; a map of "
                f"{self.classes} classes needs {wanted}"
            )


def _close(scene: Scene, at_once: Barrier) -> None:
    scene.close()
    at_once.wait()


def _some(look: Counts, keep: Tensor) -> Counts:
    valid = None if look.valid is None else look.valid[keep]
    return replace(look, counts=look.counts[keep], seen=look.seen[keep], valid=valid)


def pinned(counts: dict[str, Counts], device: torch.device) -> dict[str, Counts]:
    """In memory that a GPU fetches without waiting; the same for other devices."""
    if device.type != "cuda":
        return counts
    return {n: replace(c, counts=c.counts.pin_memory(), seen=c.seen.pin_memory()) for n, c in counts.items()}


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[Argument], Result], arguments: Sequence[Argument], most: int
) -> Iterator[Result]:
    """``map(work, arguments)`` by threads, in order, never more than ``most`` results ahead."""
    waiting: deque[Future[Result]] = deque()
    try:
        for argument in arguments:
            waiting.append(pool.submit(work, argument))
            if len(waiting) >= most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    first = last = None
    for number in numbers:
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last
