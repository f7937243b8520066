"""Who computes: every scheduler gives the same, workers that die are replaced, schedulers that are missing are said."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eo_adapt.data.extract.checks import memory_bytes
from eo_adapt.data.extract.engine import Engine, slurm_cluster
from eo_adapt.data.extract.errors import BadImageError, FatalError, UnreadableError

MEMORY = 10**9


def double(x: int) -> int:
    return 2 * x


def count_then_fail(folder: str, kind: str) -> None:
    """Leaves a file a call, and fails."""
    (Path(folder) / f"{time.monotonic_ns()}").touch()
    raise {"bad": BadImageError, "unreadable": UnreadableError, "stop": FatalError, "odd": RuntimeError}[kind](kind)


def die_once(folder: str) -> str:
    """Kills its process at the first call."""
    mark = Path(folder) / "died"
    if not mark.exists():
        mark.touch()
        os._exit(9)
    return "done"


def die() -> None:
    os._exit(9)


def run(engine: Engine, jobs: dict[Any, Any]) -> dict[Any, tuple[Any, Exception | None, int]]:
    with engine.session() as work:
        return {key: (result, error, tries) for key, result, error, tries in work(jobs)}


@pytest.fixture(scope="module")
def processes() -> Any:
    """Two workers that the tests of this module share."""
    with Engine("processes", 2, MEMORY, retries=1).session() as work:
        yield work


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_schedulers(scheduler: str, tmp_path: Path) -> None:
    jobs = {i: (double, (i,)) for i in range(10)} | {"bad": (count_then_fail, (str(tmp_path), "odd"))}
    found = run(Engine(scheduler, 2, MEMORY, retries=1), jobs)
    assert {key: x for key, (x, _, _) in found.items() if key != "bad"} == {i: 2 * i for i in range(10)}
    assert (str(found["bad"][1]), found["bad"][2]) == ("odd", 2)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(("kind", "tries"), [("bad", 1), ("unreadable", 4), ("odd", 4)])
def test_what_will_not_change_is_not_tried_again(kind: str, tries: int, tmp_path: Path) -> None:
    found = run(Engine("synchronous", retries=3), {0: (count_then_fail, (str(tmp_path), kind))})
    assert found[0][2] == tries == len(list(tmp_path.iterdir()))


def test_processes_survive_a_worker_that_dies(processes: Any, tmp_path: Path) -> None:
    jobs = {"dies": (die_once, (str(tmp_path),)), "fails": (count_then_fail, (str(tmp_path), "unreadable"))}
    jobs |= {i: (double, (i,)) for i in range(4)}
    found = {key: (result, error) for key, result, error, _ in processes(jobs)}
    assert found["dies"] == ("done", None)
    assert isinstance(found["fails"][1], UnreadableError)
    assert [found[i][0] for i in range(4)] == [0, 2, 4, 6]


def test_a_unit_that_kills_every_worker_is_given_up(processes: Any) -> None:
    found = {key: (result, error) for key, result, error, _ in processes({"killer": (die, ()), 1: (double, (1,))})}
    assert found[1] == (2, None)
    assert "every worker that tried this unit died, most likely for lack of memory: raise memory=" in str(
        found["killer"][1]
    )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_what_stops_one_stops_all(scheduler: str, tmp_path: Path) -> None:
    jobs = {i: (count_then_fail, (str(tmp_path), "stop")) for i in range(50)}
    with pytest.raises(FatalError, match="stop"):
        run(Engine(scheduler, 1, MEMORY), jobs)
    assert len(list(tmp_path.iterdir())) < 20


def test_an_address_where_nobody_is() -> None:
    with pytest.raises(
        ConnectionError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 .*scheduler=processes"
    ):
        run(Engine("tcp://127.0.0.1:9", patience=1.0), {0: (double, (1,))})


def test_a_scheduler_of_ones_own_and_one_without_workers() -> None:
    import distributed

    with distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster:
        engine = Engine(cluster.scheduler_address, 1, MEMORY, patience=1.0)
        with pytest.raises(ConnectionError, match=r"has had no worker for 1 s: start some .*Finished units are kept"):
            run(engine, {0: (double, (1,))})
        cluster.scale(1)
        assert run(engine, {0: (double, (4,))})[0][0] == 8


def test_no_job_starts_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_client", lambda _: pytest.fail("a cluster was started"))
    assert run(Engine("processes"), {}) == {}


def test_jobs_of_slurm_are_what_was_asked_for() -> None:
    pytest.importorskip("dask_jobqueue")
    cluster = slurm_cluster(
        Engine("slurm", 0 + 1, 3 * 10**9, slurm={"queue": "short", "account": "maps", "walltime": "01:30:00"}),
        start=False,
    )
    script = cluster.job_script()
    for line in (
        "#SBATCH -p short",
        "#SBATCH -A maps",
        "#SBATCH -t 01:30:00",
        "#SBATCH --mem=3G",
        "#SBATCH --cpus-per-task=1",
    ):
        assert line in script
    assert "--nthreads 1" in script
    assert "2.79GiB" in script  # 3 GB
    cluster.close()


def test_options_of_slurm_are_checked() -> None:
    pytest.importorskip("dask_jobqueue")
    with pytest.raises(ValueError, match=r"slurm=.* cannot be used .*quue"):
        slurm_cluster(Engine("slurm", slurm={"quue": "short"}), start=False)


@pytest.mark.parametrize("missing", ["distributed", "dask_jobqueue"])
def test_what_is_not_installed_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    engine = Engine("slurm" if missing == "dask_jobqueue" else "threads")
    with pytest.raises(ImportError, match=r"is not installed: pip install 'eo_adapt\[scale\]'"):
        run(engine, {0: (double, (1,))})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheduler": "dusk"}, "scheduler='dusk' is none of: synchronous, threads, processes, slurm"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"memory": 10**7}, "memory=10 MB a worker is too little"),
    ],
)
def test_engines_that_cannot_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Engine(**arguments)


@pytest.mark.parametrize(
    ("text", "size"), [("2GB", 2 * 10**9), ("512MiB", 2**29), ("1.5 GB", 1.5e9), ("1000000000", 10**9)]
)
def test_sizes(text: str, size: int) -> None:
    assert memory_bytes(text) == size
