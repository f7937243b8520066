"""The run directory: nothing lost, nothing half-written, whatever goes wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO

import pandas as pd
import pytest
import torch
from quick import QUICK

from eo_adapt.assemble import build_task
from eo_adapt.registry import config
from eo_adapt.rundir import RunDirectoryError, occupy
from eo_adapt.task import AdaptationTask, NotFiniteError
from eo_adapt.train import as_plain, run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run."""
    folder = tmp_path_factory.mktemp("run")
    run(config("method=coral", *QUICK), folder)
    return folder


def test_a_directory_with_another_config_is_left_alone(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(RunDirectoryError, match=r"another config.*seed: 0 there, 1 now"):
        run(config("method=coral", *QUICK, "seed=1"), finished)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def test_a_directory_with_the_same_config_needs_resume(finished: Path) -> None:
    with pytest.raises(RunDirectoryError, match="resume=auto continues it"):
        run(config("method=coral", *QUICK), finished)


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    with occupy(tmp_path), pytest.raises(RunDirectoryError, match="another run is writing"):
        run(config(*QUICK), tmp_path)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"cannot write to the run directory.*hydra\.run\.dir"):
        run(config(*QUICK), tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, saves = torch.save, []

    def full(state: object, file: IO[bytes]) -> None:
        saves.append(file)
        if len(saves) > 3:  # best and last of the first epoch are there, the disk fills up during the second
            file.write(b"half")
            raise OSError(28, "No space left on device")
        real(state, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run(config(*QUICK, "selection=last"), tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")]


def test_nan_stops_with_the_terms_name_and_the_parcels(tmp_path: Path) -> None:
    task, data = build_task(as_plain(config("method=coral", *QUICK)))
    batch = data.steps()[0, 0]
    batch.sources[0].inputs["s2"].values[0] = math.inf
    trainer = type("T", (), {"estimated_stepping_batches": 1, "global_step": 0, "current_epoch": 2})()
    task._trainer = trainer
    key = data.store.index["parcel_id"].iloc[int(batch.sources[0].rows[0])]
    with pytest.raises(NotFiniteError, match=rf"loss term \['task'\] .*epoch 2, batch 7.*{key}"):
        task.training_step(batch, 7)


def test_a_finished_run_is_not_trained_again(finished: Path) -> None:
    before = pd.read_csv(finished / "metrics.csv")
    report = json.loads((finished / "report.json").read_text())
    again = run(config("method=coral", *QUICK, "resume=auto"), finished)
    assert pd.read_csv(finished / "metrics.csv").equals(before)
    assert [p.name for p in finished.glob("*.csv")] == ["metrics.csv"]
    assert (again["seconds"], again["domains"]) == (report["seconds"], report["domains"])


def test_a_run_that_cannot_start_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"data\.root"):
        run(config("shift=cawa_fergana_to_samarkand"), tmp_path / "run")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_strangers_config_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine: true")
    with pytest.raises(RunDirectoryError, match="no run's"):
        run(config(*QUICK), tmp_path)
    assert (tmp_path / "config.yaml").read_text() == "mine: true"


def test_nan_during_training_keeps_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = AdaptationTask.training_step

    def poisoned(task: AdaptationTask, batch: object, batch_idx: int) -> torch.Tensor:
        if task.current_epoch == 1:
            with torch.no_grad():
                next(task.model.parameters()).fill_(math.nan)
        return real(task, batch, batch_idx)

    monkeypatch.setattr(AdaptationTask, "training_step", poisoned)
    with pytest.raises(NotFiniteError, match="epoch 1, batch 0"):
        run(config("method=coral", *QUICK), tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.isfinite(v).all() for v in state.values() if v.is_floating_point())
    assert not (tmp_path / "report.json").exists()
