"""Results of another config are not taken for those that were asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_adapt.benchmark import arranged, check, pending, plan, told
from eo_adapt.benchmarking.agree import differing
from eo_adapt.registry import config
from eo_adapt.rundir import RunDirectoryError
from eo_adapt.train import as_plain

SMALL = ("methods=[coral]", "seeds=2", "trainer.max_epochs=1")


def benchmark_config(folder: Path, *words: str) -> Any:
    return config(*arranged([f"out={folder}", *SMALL, *words]), name="benchmark")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark whose runs are all finished but one, which failed; made up."""
    folder = tmp_path_factory.mktemp("done")
    cfg = benchmark_config(folder, "trials=2")
    suite, jobs, _ = plan(cfg)
    composed = {}
    for job in jobs:
        words = told(cfg, suite, job)
        key = (job.method, job.trial)
        composed.setdefault(key, as_plain(config(*words)))
        made = {**composed[key], "seed": job.seed}
        place = job.place(folder)
        (place / "checkpoints").mkdir(parents=True)
        if (job.method, job.seed, job.trial) == ("coral", 1, 0):
            (place / "failure.json").write_text(json.dumps({"error": "boom", "config": made}))
            continue
        (place / "config.yaml").write_text(yaml.safe_dump(made))
        for name in ("report.json", "candidates.parquet"):
            (place / name).touch()
    return folder


def test_the_same_command_goes_on(done: Path) -> None:
    check(benchmark_config(done))
    assert pending(benchmark_config(done)) == []
    assert len(pending(benchmark_config(done, "retry=true"))) == 1


def test_what_changes_no_result_may_change(done: Path) -> None:
    check(benchmark_config(done, "selector=dev", "data.store=/elsewhere", "data.workers=3", "methods=[coral,mmd]"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("trainer.max_epochs=30",), r"10 runs, e\.g\. .*: trainer\.max_epochs: 1 there, 30 now"),
        (("trials=2", "space.lr=[0.1,0.2]"), r"10 of 20 finished or failed runs .*optim\.lr: "),
        (
            ("selector=oracle", "data.join={cereals:[wheat,rye]}"),
            r"data\.join\.cereals: nothing there, \['wheat', 'rye'\] now; selection: 'label-free' there",
        ),
    ],
)
def test_what_changes_results_is_refused_with_the_way_out(done: Path, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(RunDirectoryError, match=f"(?s){said}.*out=<another folder>.*delete"):
        check(benchmark_config(done, *words))


def test_a_failed_run_counts_unless_it_is_run_again(tmp_path: Path, done: Path) -> None:
    failed = "runs/embedded/coral/seed1_trial0"
    (tmp_path / failed).mkdir(parents=True)
    (tmp_path / failed / "failure.json").write_text((done / failed / "failure.json").read_text())
    with pytest.raises(RunDirectoryError, match="1 of 1 finished or failed"):
        check(benchmark_config(tmp_path, "trainer.max_epochs=2"))
    check(benchmark_config(tmp_path, "trainer.max_epochs=2", "retry=true"))


def test_an_option_that_did_not_exist_then_is_no_difference_unless_it_is_set() -> None:
    now = as_plain(config("method=coral"))
    then = {**now, "trainer": {k: v for k, v in now["trainer"].items() if k != "patience"}}
    assert differing(then, now, ["method=coral", "trainer.max_epochs=20"]) == {}
    assert list(differing(then, now, ["method=coral", "trainer.patience=0"])) == ["trainer.patience"]
    assert list(differing(now, then, [])) == ["trainer.patience"]


def test_weights_that_a_kill_left_behind_are_cleared_away(done: Path) -> None:
    left = done / "runs/embedded/coral/seed0_trial0/checkpoints/epoch_0000.ckpt"
    left.touch()
    cfg = benchmark_config(done)
    (number,) = pending(cfg)
    from eo_adapt.benchmark import run_one

    cfg.job = number
    run_one(cfg)
    assert not left.exists()
    assert pending(cfg) == []
