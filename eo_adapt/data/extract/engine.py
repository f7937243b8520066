"""Who computes the units: this process, threads, processes of this machine, a Dask cluster, or SLURM.

Units are handed out a few at a time. One that fails is tried again, unless its error will stay the same; a worker
that dies is replaced, and units that died with it run once more at the end, one by one, so that a unit that kills
workers takes no other with it. Workers write parts themselves: with a cluster, the
folder must be one that all of them see.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import LostWorkerError, UnreadableError, missing_extra
from .unit import fatal

SCHEDULERS = "synchronous, threads, processes, slurm, or the address of a scheduler such as tcp://10.0.0.1:8786"
CONNECT = 30.0  # seconds to wait for a scheduler
KEPT = (
    1 << 28
)  # bytes that a worker keeps for its next array; Dask has it give them back, half of its time is then lost
AHEAD = 3  # units a worker has waiting, so that none is idle
Job = tuple[Callable[..., Any], tuple[Any, ...]]
Ended = tuple[Any, Any, Exception | None, int]
Run = Callable[[Mapping[Any, Job]], Iterator[Ended]]


@dataclass(frozen=True)
class Engine:
    """Where units run.

    Attributes:
        scheduler: ``synchronous``, ``threads``, ``processes``, ``slurm`` or an address.
        workers: Threads, processes or SLURM jobs.
        memory: Bytes a worker; a process of Dask that takes more is stopped, and replaced.
        retries: How often a unit that failed is tried again.
        slurm: Options of dask-jobqueue's SLURMCluster, such as queue, account, walltime.
        patience: Seconds without any worker until the work is given up; on a busy machine one takes a while to start.
    """

    scheduler: str = "processes"
    workers: int = 2
    memory: int = 2_000_000_000
    retries: int = 2
    slurm: Mapping[str, Any] = field(default_factory=dict)
    patience: float = 120.0

    def __post_init__(self) -> None:
        known = self.scheduler in ("synchronous", "threads", "processes", "slurm")
        if not known and "://" not in self.scheduler:
            raise ValueError(f"scheduler={self.scheduler!r} is none of: {SCHEDULERS}")
        if self.workers < 1 or self.retries < 0:
            raise ValueError(
                f"workers must be at least 1 and retries at least 0; got {self.workers} and {self.retries}"
            )
        if self.memory < 256_000_000:
            raise ValueError(
                f"memory={self.memory / 1e6:.0f} MB a worker is too little for a block of images; at least 256 MB"
            )

    @contextmanager
    def session(self) -> Iterator[Run]:
        """A function that runs jobs; the cluster starts with the first of them and ends with the session.

        The function yields, in any order, of each job that has come to its end: its key, what it returned, its last
        error, and how often it was tried. It raises what :func:`.unit.fatal` calls fatal, and ConnectionError if there
        is no scheduler or no worker.
        """
        with ExitStack() as stack:
            clients: list[Any] = []

            def run(jobs: Mapping[Any, Job]) -> Iterator[Ended]:
                if self.scheduler == "synchronous" or not jobs:
                    yield from self._here(jobs)
                    return
                if not clients:
                    clients.append(stack.enter_context(self._client()))
                yield from self._there(clients[0], jobs)

            yield run

    def _here(self, jobs: Mapping[Any, Job]) -> Iterator[Ended]:
        for key, (work, arguments) in jobs.items():
            for attempt in range(1, self.retries + 2):
                try:
                    result, problem = work(*arguments), None
                except Exception as error:  # whatever one image brings up: noted in the manifest, the others go on
                    if fatal(error):
                        raise
                    result, problem = None, error
                if problem is None or not self._again(problem, attempt):
                    yield key, result, problem, attempt
                    break

    def _there(self, client: Any, jobs: Mapping[Any, Job]) -> Iterator[Ended]:
        waiting: deque[tuple[Any, int, bool]] = deque((key, 1, False) for key in jobs)
        suspects: deque[tuple[Any, int, bool]] = deque()
        running: dict[Any, tuple[Any, int, bool]] = {}
        while waiting or running or suspects:
            if not waiting and not running:
                waiting.append(suspects.popleft())
            while waiting and len(running) < AHEAD * self.workers:
                key, attempt, alone = waiting.popleft()
                work, arguments = jobs[key]
                running[client.submit(work, *arguments, pure=False)] = (key, attempt, alone)
            for future in self._ended(client, list(running)):
                key, attempt, alone = running.pop(future)
                problem = _problem(future)
                if problem is not None and fatal(problem):
                    client.cancel(list(running))
                    raise problem
                if isinstance(problem, LostWorkerError) and not alone:  # it may have died of another unit beside it
                    suspects.append((key, attempt + 1, True))
                elif problem is not None and not alone and self._again(problem, attempt):
                    waiting.append((key, attempt + 1, False))
                else:
                    yield key, None if problem else future.result(), problem, attempt

    def _again(self, error: Exception, attempt: int) -> bool:
        lasting = isinstance(error, ValueError) and not isinstance(error, UnreadableError)
        return attempt <= self.retries and not lasting

    def _ended(self, client: Any, futures: Sequence[Any]) -> list[Any]:
        """Futures that have come to an end; waits for at least one."""
        import distributed

        alone = time.monotonic()
        while True:
            try:
                with client.as_current():
                    done = distributed.wait(futures, timeout=2, return_when="FIRST_COMPLETED").done
                return sorted(done, key=lambda future: future.key)
            except (TimeoutError, distributed.comm.CommClosedError):
                pass
            except distributed.CancelledError as error:
                raise self._lost() from error
            if client.status != "running":
                raise self._lost()
            if client.scheduler_info(n_workers=-1)["workers"]:
                alone = time.monotonic()
            elif time.monotonic() - alone > self.patience:
                raise ConnectionError(f"{self._alone()}. Finished units are kept")

    def _alone(self) -> str:
        if self.scheduler in ("processes", "slurm"):
            return f"no worker has been there for {self.patience:.0f} s; they die while they start: raise memory="
        return (
            f"the scheduler {self.scheduler} has had no worker for {self.patience:.0f} s: start some (dask worker "
            "<address>), or take scheduler=processes"
        )

    def _lost(self) -> ConnectionError:
        return ConnectionError(
            f"the connection to the scheduler {self.scheduler} was lost. Finished units are kept: start it again and "
            "run the same command"
        )

    @contextmanager
    def _client(self) -> Iterator[Any]:
        """A client of the cluster asked for; a cluster of our own is closed afterwards."""
        try:
            import dask
            import distributed
        except ImportError as error:
            raise missing_extra(
                "dask with distributed", f"scheduler={self.scheduler} (synchronous needs none)"
            ) from error
        settings = {
            "distributed.scheduler.allowed-failures": self.retries,
            "distributed.comm.timeouts.connect": f"{min(self.patience, CONNECT)}s",
            "distributed.worker.daemon": False,
            "distributed.nanny.pre-spawn-environ": {
                **dask.config.get("distributed.nanny.pre-spawn-environ"),
                **dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), KEPT),
            },
            # a worker that is slow to come back (15 s on a busy machine) would be given up, and with it what it runs
            "distributed.deploy.lost-worker-timeout": f"{self.patience}s",
        }
        _hush()
        with dask.config.set(settings):
            cluster = self._cluster(distributed)
            try:
                client = distributed.Client(
                    cluster or self.scheduler, timeout=min(self.patience, CONNECT), set_as_default=False
                )
            except (OSError, TimeoutError) as error:
                raise ConnectionError(
                    f"no Dask scheduler answers at {self.scheduler} ({error}). Start one (dask scheduler), check "
                    "address and port, or take scheduler=processes"
                ) from error
            try:
                yield client
            finally:
                client.close()
                if cluster is not None:
                    cluster.close()

    def _cluster(self, distributed: Any) -> Any:
        if "://" in self.scheduler:
            return None
        if self.scheduler == "slurm":
            return slurm_cluster(self)
        threads = self.scheduler == "threads"
        return distributed.LocalCluster(
            n_workers=1 if threads else self.workers,
            threads_per_worker=self.workers if threads else 1,
            processes=not threads,
            memory_limit=0 if threads else self.memory,  # threads share this process, which nobody may stop
            dashboard_address=":0",
            silence_logs=50,
        )


def slurm_cluster(engine: Engine, start: bool = True) -> Any:
    """A cluster whose workers are SLURM jobs of one core each.

    Args:
        engine: Workers, memory of each, options of dask-jobqueue.
        start: Whether to submit the jobs.

    Raises:
        ValueError: If dask-jobqueue does not take these options.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise missing_extra("dask-jobqueue", "scheduler=slurm") from error
    options = {"cores": 1, "processes": 1, "memory": f"{engine.memory}B", "walltime": "04:00:00", **engine.slurm}
    try:
        cluster = SLURMCluster(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"slurm={dict(engine.slurm)} cannot be used by dask-jobqueue: {error}") from error
    if start:
        cluster.scale(jobs=engine.workers)
    return cluster


def _hush() -> None:
    """Dask tells of every worker that comes and goes; what matters is said by this package."""
    for name in [name for name in logging.root.manager.loggerDict if name.split(".")[0] in ("distributed", "tornado")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _problem(future: Any) -> Exception | None:
    """Why a future failed, in words for people."""
    import distributed

    if future.status == "cancelled":
        return RuntimeError("the scheduler dropped the unit")
    error = future.exception() if future.status == "error" else None
    if isinstance(error, distributed.KilledWorker):
        return LostWorkerError(
            "every worker that tried this unit died, most likely for lack of memory: raise memory= or lower workers="
        )
    return error if error is None or isinstance(error, Exception) else RuntimeError(str(error))
