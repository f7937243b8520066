"""The verbs as a user types them, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from quick import QUICK, ROOT

from eo_adapt.cli import compose, options_of


def call(verb: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"eo_adapt.{verb}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def test_train_then_evaluate(tmp_path: Path) -> None:
    done = call("train", "task=crops", "method=coral", *QUICK, f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"outputs: {tmp_path}"
    assert "macro-F1" in done.stdout
    before = json.loads((tmp_path / "report.json").read_text())
    again = call("evaluate", f"run={tmp_path}", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "report.json").read_text())["domains"] == before["domains"]


def test_multirun_makes_a_folder_each(tmp_path: Path) -> None:
    done = call("train", "-m", "method=source_only,coral", *QUICK, f"hydra.sweep.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    methods = [json.loads((tmp_path / str(i) / "report.json").read_text())["method"] for i in range(2)]
    assert methods == ["source_only", "coral"]


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job"), ("method=[csn,coral]", "--cfg", "job")])
def test_train_explains_itself(arguments: tuple[str, ...]) -> None:
    done = call("train", *arguments)
    assert done.returncode == 0, done.stderr
    assert "seed: 0" in done.stdout


def test_list_names_everything() -> None:
    everything = call("list")
    assert everything.returncode == 0
    for word in ("crops", "pse_ltae", "coral", "embedded", "eurocropsml"):
        assert word in everything.stdout
    methods = call("list", "methods").stdout
    assert "Deep CORAL" in methods
    assert "pse_ltae" not in methods
    wrong = call("list", "metods")
    assert wrong.returncode == 1
    assert "did you mean 'method'" in wrong.stderr


def test_doctor_speaks() -> None:
    done = call("doctor")
    assert "torch" in done.stdout
    assert "writable" in done.stdout
    assert done.returncode == (0 if "BAD" not in done.stdout else 1)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("method=corral", "no method called 'corral'; did you mean 'coral'? there are: ['adabn', 'adda',"),
        ("task=corps", "did you mean 'crops'"),
        ("encoder=pse_ltea", "did you mean 'pse_ltae'"),
    ],
)
def test_unknown_names_fail_with_one_line(override: str, message: str, tmp_path: Path) -> None:
    done = call("train", override, f"hydra.run.dir={tmp_path / 'run'}", cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["method=coral", "method.wieght=2"], "no option 'method.wieght'; did you mean 'weight'"),
        (["trainer.max_epoch=3"], "did you mean 'max_epochs'"),
        (["sed=3"], "did you mean 'seed'"),
        (["seed=abc"], "'abc' of type 'str' could not be converted to Integer"),
        (["label_set=clsed"], r"expected one of \[closed, open, partial\]"),
    ],
)
def test_mistyped_options_are_said(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose("train", overrides)


def test_errors_of_a_run_are_one_line(tmp_path: Path) -> None:
    done = call("train", "shift=cawa_fergana_to_samarkand", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
    assert done.returncode == 1
    assert "data.root=<folder" in done.stderr
    assert "python -m eo_adapt.prepare recipe=cawa" in done.stderr
    assert "Traceback" not in done.stderr


def test_prepare_makes_a_store_that_training_takes(tmp_path: Path) -> None:
    from eo_adapt.data.synthetic.parcel_table import CawaWorld

    (tmp_path / "raw").mkdir()
    CawaWorld(parcels=300).write(tmp_path / "raw")
    words = ["recipe=cawa", f"raw={tmp_path / 'raw'}", f"out={tmp_path / 'store'}"]
    first = call("prepare", *words)
    assert first.returncode == 0
    assert "the recipe says" in first.stdout  # made up, so not what was published
    again = call("prepare", *words)
    assert again.returncode == 0
    assert "nothing to do: made before, of the same inputs" in again.stdout


# -- signals and resuming ----------------------------------------------------------------------------------------------

LONG = [*(o for o in QUICK if "steps_per_epoch" not in o), "method=[csn,dann]", "trainer.progress=lines"]
LONG += ["data.steps_per_epoch=12", "trainer.max_epochs=4", "trainer.accumulate=2"]


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", "-m", "eo_adapt.train", *LONG, "resume=auto", f"hydra.run.dir={folder}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder.parent)


def stopped_by(number: int, folder: Path) -> tuple[int, str]:
    """Starts a run, sends it a signal in the middle of its third epoch; exit status and last words."""
    process = start(folder)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/"):
            time.sleep(0.05)
            os.kill(process.pid, number)
            break
    rest = process.stdout.read()
    return process.wait(60), rest


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    code, rest = stopped_by(signal.SIGINT, tmp_path / "run")
    assert code == 130, rest
    assert "continue with the same command and resume=auto" in rest


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow), (signal.SIGKILL, -9)]
)
def test_a_killed_run_continues_bit_equal(number: int, code: int, tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / "run"
    found, rest = stopped_by(number, folder)
    assert found == code, rest
    if number != signal.SIGKILL:
        assert "continue with the same command and resume=auto" in rest
    assert not (folder / "report.json").exists()
    stopped = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    again = start(folder)
    out, _ = again.communicate(timeout=120)
    assert again.returncode == 0, out
    a, b = (torch.load(f / "checkpoints" / "last.ckpt", weights_only=True) for f in (uninterrupted, folder))
    assert stopped < b["global_step"] == a["global_step"]
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
    reports = [json.loads((f / "report.json").read_text())["domains"] for f in (uninterrupted, folder)]
    assert reports[0] == reports[1]
    columns = ["epoch", "select/chosen"]
    tables = [pd.read_csv(f / "metrics.csv").dropna(subset="select/chosen")[columns] for f in (uninterrupted, folder)]
    assert tables[0].to_numpy().tolist() == tables[1].to_numpy().tolist()


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, left in peace."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start(folder)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0, out
    return folder


def test_help_shows_every_option_with_its_comment() -> None:
    done = call("predict", "--help")
    assert done.returncode == 0, done.stderr
    config = (ROOT / "configs" / "predict.yaml").read_text()
    options = [line for line in config.splitlines() if re.match(r"[a-z_]+: .*#", line)]
    assert len(options) > 20
    assert set(options) <= set(done.stdout.splitlines())
    assert done.stdout.startswith("Maps of scenes, tables of parcels: python -m eo_adapt.predict run=<run directory>")
    assert "hydra" not in done.stdout.lower()
    assert "encoder: " in options_of("train") + call("train", "--help").stdout  # groups: hydra's own help
    assert options_of("train") == options_of("benchmark") == ""
