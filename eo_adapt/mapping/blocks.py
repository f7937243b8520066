"""Bands of a map on several workers: each takes a block of them, with what reaches into it from above."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from .answer import Answer, Precision
from .engine import Engine
from .mapper import Loads
from .scene import Scene
from .windows import Windows
from .work import Work

A_WORKER = 4  # blocks a worker: fewer wait for the slowest, more compute halos
WAIT = "20s"  # for a scheduler to answer
SCHEDULERS = ("none", "threads", "processes")


@dataclass(frozen=True)
class Job:
    """All that a worker must know to map bands of a scene; it can be pickled.

    Attributes:
        scene: What is read.
        windows: The grid.
        work: Where bands go; all workers see the folder.
        loads: Device -> network.
        classes: K.
        temperature: What logits are divided by.
        batch: Windows at once.
        readers: Threads that read, a worker.
        views: See :class:`.answer.Answer`.
        scales: See :class:`.answer.Answer`.
        precision: See :class:`.answer.Answer`.
        devices: A worker takes the one of its number.
    """

    scene: Scene
    windows: Windows
    work: Work
    loads: Loads
    classes: int
    temperature: float
    batch: int
    readers: int
    views: str
    scales: tuple[float, ...]
    precision: Precision
    devices: tuple[str, ...]

    def run(self, bands: Sequence[int], device: str, told: Callable[[int], None] = lambda band: None) -> int:
        """Map the bands that are not in yet.

        Returns:
            How many were asked for.
        """
        place = torch.device(device)
        engine = Engine(self.scene, self.windows, self.classes, self.batch, place, self.readers)
        answer = Answer(self.loads(place), self.temperature, self.views, self.scales, self.precision)
        engine.run(answer, self.work, bands, told)
        return len(bands)


def on_worker(job: Job, bands: Sequence[int]) -> int:
    """What a Dask worker runs."""
    from distributed import get_worker

    name = str(get_worker().name)
    number = int(name) if name.isdecimal() else sum(name.encode())
    return job.run(bands, job.devices[number % len(job.devices)])


def run_blocks(job: Job, scheduler: str, workers: int, told: Callable[[int], None]) -> None:
    """Map all bands that are not in yet with Dask.

    Args:
        job: The scene.
        scheduler: ``threads`` or ``processes`` of this machine, or the address of a scheduler (``tcp://...``), whose
            workers see the same files.
        workers: How many there are, of this machine.
        told: Called after each block with the number of its last band.

    Raises:
        RuntimeError: If a worker died again and again; finished bands are kept.
        ConnectionError: If the scheduler is not reachable.
        ImportError: If Dask is not installed; says how.
    """
    done = job.work.done()
    missing = [band for band in range(job.windows.bands) if not done[band]]
    with connected(scheduler, workers) as client:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        blocks = divided(missing, A_WORKER * max(workers, len(client.scheduler_info()["workers"])))
        ends: Mapping[Any, int] = {client.submit(on_worker, job, b, pure=False, retries=1): b[-1] for b in blocks}
        try:
            for future in as_completed(ends):
                future.result()
                told(ends[future])
        except KilledWorker as error:
            raise RuntimeError(
                "workers died while they mapped (out of memory?); finished bands are kept: run the same command again "
                "with fewer workers or a smaller batch"
            ) from error


def divided(numbers: Sequence[int], parts: int) -> list[list[int]]:
    """Consecutive numbers in up to ``parts`` blocks of nearly equal size."""
    count = max(1, min(parts, len(numbers)))
    ends = [round(i * len(numbers) / count) for i in range(count + 1)]
    return [list(numbers[a:b]) for a, b in pairwise(ends) if b > a]


@contextmanager
def connected(scheduler: str, workers: int) -> Iterator[Any]:
    """A Dask client; workers of this machine end with it."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise ImportError(
            f"scheduler={scheduler} needs Dask: pip install 'eo_adapt[scale]', or set scheduler=none"
        ) from error
    if scheduler in ("threads", "processes"):
        how = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        with LocalCluster(processes=scheduler == "processes", **how) as cluster, Client(cluster) as client:
            yield client
        return
    if "://" not in scheduler:
        raise ValueError(
            f"scheduler is one of {list(SCHEDULERS)} or an address such as tcp://host:8786; got {scheduler!r}"
        )
    try:
        client = Client(scheduler, timeout=WAIT)
    except (OSError, TimeoutError) as error:
        raise ConnectionError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one, or set scheduler="
        ) from error
    with client:
        yield client
