"""Runs that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest
from quick import QUICK_OF

from eo_adapt.registry import config
from eo_adapt.train import run


def trained(task: str, folder: Path, *words: str) -> Path:
    run(config(f"task={task}", *QUICK_OF[task], *words), folder)
    return folder


@pytest.fixture(scope="session")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("crops", tmp_path_factory.mktemp("crops") / "run")


@pytest.fixture(scope="session")
def aerial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained("aerial", tmp_path_factory.mktemp("aerial") / "run")
