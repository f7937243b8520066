"""The benchmark as people run it: killed and gone on with, by every launcher, from Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from quick import ROOT

from eo_adapt.benchmark import benchmark
from eo_adapt.rundir import RunDirectoryError

# Cheaper than quick.QUICK: what is tested here is the running, not the learning.
TINY = (
    "data.generator.countries=[FR,AT,EE]", "data.generator.parcels_per_country=300", "data.split.block_size=5000",
    "trainer.max_epochs=2", "data.steps_per_epoch=2", "trainer.accelerator=cpu",
)  # fmt: skip
ALONE = ("methods=[source_only]",)  # nothing but what is always in
TIMED = ["seconds", "peak_memory_mb", "forwards_per_step"]  # measured where a run was not resumed


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "eo_adapt.benchmark", f"out={folder}", *TINY, *words]
    return subprocess.Popen(
        command, cwd=folder.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    return said


def left(folder: Path) -> Mapping[str, pd.DataFrame]:
    """What does not depend on the clock."""
    table = pd.DataFrame(json.loads((folder / "benchmark.json").read_text())["table"])
    return {
        "table": table.drop(columns=TIMED),
        "results": pd.read_parquet(folder / "benchmark.parquet"),
        "candidates": pd.read_parquet(folder / "candidates.parquet"),
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    began = time.monotonic()
    said = finish(start(folder, *ALONE, "seeds=2"))
    (folder.parent / "seconds").write_text(str(time.monotonic() - began))
    assert "8 runs, 0 of them done before" in said
    assert "target macro-F1 of shared classes" in said
    lines = said.split("done before\n")[1].split("target macro-F1")[0].splitlines()
    assert [line.split()[0] for line in lines] == [f"{i}/8" for i in range(1, 9)], "one line a run"
    return folder


def test_everything_is_there(whole: Path) -> None:
    assert {p.name for p in whole.iterdir()} == {
        "runs", "benchmark.parquet", "candidates.parquet", "benchmark.json", "table.md", "report.html",
    }  # fmt: skip
    about = json.loads((whole / "benchmark.json").read_text())
    assert about["seeds"] == 2
    assert about["command"].startswith("python -m eo_adapt.benchmark")
    assert not about["failures"]
    methods = [row["method"] for row in about["table"]]
    assert methods == ["source_only", "adabn", "few_shot", "target_only"]
    forwards = {row["method"]: row["forwards_per_step"] for row in about["table"]}
    assert forwards == {"source_only": 2, "adabn": 2, "few_shot": 1, "target_only": 1}
    results = pd.read_parquet(whole / "benchmark.parquet")
    assert len(results) == 8 * results["selector"].nunique()
    assert np.allclose(results["regret"], results["oracle"] - results["score"], equal_nan=True)
    page = (whole / "report.html").read_text()
    assert all(word in page for word in ("few_shot", "Regret", "Paired differences", about["command"].split()[0]))
    for run in whole.glob("runs/*/*/*"):  # weights of every epoch were scored and are gone
        assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_killed_at_any_moment_it_comes_to_the_same_table(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = (*ALONE, "seeds=2")
    seconds = float((whole.parent / "seconds").read_text())
    kills = 0
    for share in np.random.default_rng(0).uniform(0.1, 0.4, 2):
        process = start(folder, *words)
        time.sleep(share * seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills, "it was over before anything could be killed"
    said = finish(start(folder, *words))
    assert "8 runs" in said
    one, other = left(whole), left(folder)
    for name in one:
        pd.testing.assert_frame_equal(one[name], other[name], check_exact=True, obj=name)


@pytest.mark.slow
def test_by_joblib_and_by_submitit(whole: Path, tmp_path: Path) -> None:
    by = {
        "joblib": ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2"),
        "submitit": ("hydra/launcher=submitit_local", "hydra.launcher.timeout_min=10"),
    }
    for name, launcher in by.items():
        folder = tmp_path / name
        said = finish(start(folder, *ALONE, "seeds=1", *launcher))
        assert "overrides=[" not in said, "one line a run is enough"
        mine, theirs = left(folder)["candidates"], left(whole)["candidates"]
        theirs = theirs[theirs["seed"] < mine["seed"].nunique()].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, theirs, check_exact=True, obj=name)


def test_from_python_with_failures_and_trials(tmp_path: Path) -> None:
    words = (f"out={tmp_path}", "methods=[coral]", "seeds=1", "trials=2", *TINY, "trainer.max_epochs=1")
    made = benchmark(*words)
    table = made["table"].set_index("method")
    assert (table["runs"] == 2).all()
    assert table["score_ci"].isna().all(), "one seed, one shift: there is no interval"
    assert "one seed" in (tmp_path / "report.html").read_text()
    trials = made["runs"].query("method == 'coral'")["trial"].tolist()
    assert trials == [0, 1]
    lost = tmp_path / "runs/embedded/coral/seed0_trial1"
    (lost / "report.json").unlink()
    (lost / "candidates.parquet").unlink()
    (lost / "failure.json").write_text('{"error": "made up"}')
    again = benchmark(*words)
    assert again["table"].set_index("method").loc["coral", "failed"] == 1
    assert "made up" in (tmp_path / "report.html").read_text()
    assert benchmark(*words, "retry=true")["table"]["failed"].sum() == 0
    with pytest.raises(RunDirectoryError, match=r"trainer\.max_epochs: 1 there, 2 now"):
        benchmark(*words, "trainer.max_epochs=2")


@pytest.mark.slow
def test_optuna_searches_without_target_labels(tmp_path: Path) -> None:
    words = ("-m", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=2", "hydra.sweeper.direction=maximize")
    words += ("method=coral", "method.weight=choice(0,10)", f"hydra.sweep.dir={tmp_path}/sweep", "figures=false", *TINY)
    command = [sys.executable, "-m", "eo_adapt.train", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = (tmp_path / "sweep" / "optimization_results.yaml").read_text()
    assert "method.weight" in found
    reports = [json.loads(p.read_text()) for p in (tmp_path / "sweep").glob("*/report.json")]
    assert len(reports) == 2
    assert any(f"{r['selection_score']:.6f}"[:6] in found for r in reports)
