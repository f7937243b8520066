"""An installed wheel does what a checkout does, from an empty directory."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from quick import QUICK, ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without isolation (no network) and unpacked as an installer would, away from the checkout."""
    place = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(place), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = place.glob("*.whl")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            str(place / "site"),
            str(wheel),
        ],
        check=True,
    )
    return place


def test_the_wheel_carries_configs_recipes_and_licence(installed: Path) -> None:
    (wheel,) = installed.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "eo_adapt/configs/train.yaml",
        "eo_adapt/report/page.css",
        "eo_adapt/report/page.js",
        "eo_adapt/citations.bib",
        "eo_adapt/data_recipes/cawa.yaml",
        "eo_adapt/data_recipes/legends/hcat3.csv",
    ):
        assert name in names
    assert any(name.endswith("LICENSE") for name in names)
    assert not any(name.startswith(("tests/", "benchmarks/")) for name in names)


def test_it_trains_from_an_empty_directory(installed: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed / "site")}

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = call("eo_adapt.doctor").split("configs: ")[1].split(";")[0]
    assert Path(where).is_relative_to(installed / "site")
    assert "Deep CORAL" in call("eo_adapt.list", "method")
    assert "method: " in call("eo_adapt.train", "--help")
    out = call("eo_adapt.train", "task=crops", "method=coral", *QUICK)
    run = tmp_path / out.splitlines()[-1].removeprefix("outputs: ")
    assert (run / "report.json").exists()
    assert "macro-F1" in call("eo_adapt.evaluate", f"run={run}")
