"""Compare methods honestly: ``python -m eo_adapt.benchmark suite=crops_embedded methods=[coral,dann] seeds=5``.

Every run is a job of Hydra's launcher: ``hydra/launcher=joblib`` runs them in parallel,
``hydra/launcher=submitit_slurm`` on a cluster. Words that are no option of the benchmark go to every run
(``data.root=...``, ``trainer.max_epochs=5``). Finished runs are not run again: the same command goes on after a kill,
and one that would give other results is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import FLAGS, launch  # first: sets the environment that torch reads when it is imported

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from .benchmarking.plan import Job
    from .benchmarking.suite import Suite


def plan(cfg: DictConfig) -> tuple[Suite, list[Job], Path]:
    """Suite, runs and folder of a benchmark.

    Args:
        cfg: As :func:`eo_adapt.registry.config` composes it with ``name="benchmark"``.

    Raises:
        ValueError: If the suite needs raw files and none are given.
    """
    from .benchmarking.plan import jobs
    from .registry import instantiate

    suite: Suite = instantiate(cfg.suite)
    if suite.root and not any(word.startswith(("data.root=", "data.store=")) for word in cfg.overrides):
        raise ValueError(f"suite={cfg.choices.suite} embeds no data: set data.root=<folder of the raw files>")
    folder = Path(cfg.out or f"outputs/benchmark_{cfg.choices.suite}")
    return suite, jobs(suite, list(cfg.methods), cfg.seeds, cfg.trials), folder


def pending(cfg: DictConfig) -> list[int]:
    """Numbers of the runs that are still to do; failed ones only with ``retry=true``."""
    from .benchmarking.job import is_settled, is_tidy

    _, all_jobs, folder = plan(cfg)
    places = [job.place(folder) for job in all_jobs]
    return [i for i, at in enumerate(places) if not (is_settled(at, cfg.retry) and is_tidy(at))]


def run_one(cfg: DictConfig) -> None:
    """Run the job whose number is ``cfg.job``; what a launcher calls."""
    from .benchmarking.job import run_job

    suite, all_jobs, folder = plan(cfg)
    job = all_jobs[cfg.job]
    print(f"{cfg.job + 1}/{len(all_jobs)}  {job.shift}  {job.method}  seed {job.seed}  trial {job.trial}", flush=True)
    run_job(told(cfg, suite, job), job.place(folder), cfg.threads)


def told(cfg: DictConfig, suite: Suite, job: Job) -> list[str]:
    """What the run of one job is told."""
    from .benchmarking.plan import overrides

    space: Any = OmegaConf.to_container(cfg.space)
    return overrides(job, suite, list(cfg.overrides), cfg.selector, space)


def compare(cfg: DictConfig, command: str = "") -> Mapping[str, Any]:
    """Collect what the runs left and write ``benchmark.parquet``, ``candidates.parquet``, json, markdown and the page.

    Args:
        cfg: The benchmark's config.
        command: How to repeat it.

    Returns:
        ``table`` (one row a method), ``results`` (one row a shift, method, seed and selector), ``selectors``, ``runs``.
    """
    from .benchmarking.collect import collect
    from .benchmarking.output import write_all

    suite, all_jobs, folder = plan(cfg)
    return write_all(collect(all_jobs, folder), suite, cfg.selector, folder, command)


def benchmark(*words: str) -> Mapping[str, Any]:
    """The whole benchmark from Python, one run after the other: ``benchmark("suite=crops_embedded", "seeds=2")``.

    Returns:
        As :func:`compare`.
    """
    from .registry import config

    cfg = config(*arranged(words), name="benchmark")
    check(cfg)
    for number in pending(cfg):
        run_one(OmegaConf.merge(cfg, {"job": number}))  # type: ignore[arg-type]
    return compare(cfg, repeat(words))


def arranged(words: Sequence[str]) -> list[str]:
    """Words for the benchmark, and those for its runs gathered in ``overrides=[...]``, spelt as hydra wants it."""
    from .registry import BenchmarkSchema

    own = set(BenchmarkSchema.__dataclass_fields__)
    mine: list[str] = []
    theirs: list[str] = []
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        is_own = word.startswith("-") or "=" not in word or key.split(".")[0].split("/")[0] in {*own, "hydra"}
        (mine if is_own else theirs).append(word)
    quoted = ",".join("'" + word.replace("\\", "\\\\").replace("'", "\\'") + "'" for word in theirs)
    return [*mine, f"overrides=[{quoted}]"] if theirs else mine


def check(cfg: DictConfig) -> None:
    """Before anything runs: a mistyped word is said once, not by every run, and results of two configs never mix.

    Raises:
        RunDirectoryError: If the folder holds runs that were made with another config; lists what differs.
    """
    from .benchmarking.agree import agree
    from .benchmarking.job import is_settled
    from .registry import config

    suite, all_jobs, folder = plan(cfg)
    for job in {job.shift: job for job in all_jobs}.values():
        config(*told(cfg, suite, job))
    settled = [job for job in all_jobs if is_settled(job.place(folder), cfg.retry)]
    agree(settled, folder, lambda job: told(cfg, suite, job))


def repeat(words: Sequence[str]) -> str:
    """The command line of some overrides."""
    import shlex

    return " ".join(["python -m eo_adapt.benchmark", *map(shlex.quote, words)])


def _work(cfg: DictConfig) -> None:
    """One job of a launcher; hydra does not tell it the names that were chosen."""
    from hydra.core.hydra_config import HydraConfig

    from .registry import GROUPS, with_choices

    choices = HydraConfig.get().runtime.choices
    run_one(with_choices(cfg, {k: v for k, v in choices.items() if k in GROUPS}))


def main() -> None:
    """Run what is to do through hydra's launcher, then write the tables."""
    from .benchmarking.output import show
    from .registry import config

    typed = sys.argv[1:]
    words = arranged(typed)
    cfg = config(*words, name="benchmark")
    check(cfg)
    _, all_jobs, folder = plan(cfg)
    todo = pending(cfg)
    print(f"{len(all_jobs)} runs, {len(all_jobs) - len(todo)} of them done before", flush=True)
    if todo:
        sys.argv[1:] = ["--multirun", *words, f"job={','.join(map(str, todo))}"]
        launch("benchmark", _work)
    show(compare(cfg, repeat(typed)), folder)


if __name__ == "__main__":
    if any(word in FLAGS for word in sys.argv[1:]):
        launch("benchmark", _work)
    else:
        from eo_adapt.cli import guard

        guard(main)
