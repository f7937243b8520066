"""kill -9 at random moments of fetching, unpacking and preparing: in the end the files are those of a quiet run."""

from __future__ import annotations

import contextlib
import hashlib
import io
import multiprocessing
import multiprocessing.process
import os
import signal
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests  # noqa: F401  # the same
from killed import prepare, serve

from eo_adapt.data.fetch.making import make_result
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.timesen2crop import TimeSen2CropWorld

FORK = multiprocessing.get_context("fork")  # libraries are imported once, so that a child works at once
KILLS = 20


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    found = Recipe.load("timesen2crop")
    with tempfile.TemporaryDirectory() as folder:  # once in this process, so that children need not import
        TimeSen2CropWorld(tiles=("33UVP",), pixels=1).write(Path(folder) / "raw")
        make_result(found, Path(folder) / "raw", Path(folder) / "out")
    return found


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    raw, out = tmp_path_factory.mktemp("world"), io.BytesIO()
    TimeSen2CropWorld(pixels=1).write(raw)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(p for p in raw.rglob("*") if p.is_file()):
            packed.writestr(f"TimeSen2Crop/{path.relative_to(raw).as_posix()}", path.read_bytes())
    return out.getvalue()


@contextlib.contextmanager
def serving(content: bytes, slow: float) -> Iterator[str]:
    here, there = FORK.Pipe()
    process = FORK.Process(target=serve, args=(content, slow, there), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()


def contents(folder: Path) -> dict[str, bytes]:
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "PROVENANCE.json"}


def stage(raw: Path, out: Path) -> str:
    """How far a run had come."""
    if out.exists() or (out.parent / f".{out.name}.making").exists():
        return "preparing"
    if next((raw / ".eo_adapt").glob("*unpack*"), None) or (raw / "33UVP").exists():
        return "unpacking"
    return "fetching" if (raw / "TimeSen2Crop.zip.part").exists() else "between"


def test_killed_at_twenty_random_moments(recipe: Recipe, archive: bytes, tmp_path: Path) -> None:
    rng, sha256 = np.random.default_rng(7), hashlib.sha256(archive).hexdigest()

    def begin(place: Path) -> multiprocessing.process.BaseProcess:
        process = FORK.Process(target=prepare, args=(recipe, link, sha256, place / "raw", place / "out"))
        process.start()
        return process

    with serving(archive, 0.02) as link:
        started, quiet = time.monotonic(), begin(tmp_path / "quiet")
        quiet.join(60)
        whole = time.monotonic() - started
        assert quiet.exitcode == 0
        stages: Counter[str] = Counter()
        rounds = 0
        while stages.total() < KILLS:
            place = tmp_path / f"noisy{rounds}"
            rounds += 1
            finished = False
            while not finished:
                process = begin(place)
                process.join(float(rng.uniform(0.02, whole)) if stages.total() < KILLS else 60)
                if not (finished := not process.is_alive()):
                    os.kill(process.pid or 0, signal.SIGKILL)
                    process.join()
                    stages[stage(place / "raw", place / "out")] += 1
            assert process.exitcode == 0
    assert len(stages) >= 3, stages
    for place in (tmp_path / f"noisy{number}" for number in range(rounds)):
        assert contents(place / "out") == contents(tmp_path / "quiet" / "out")
        raw, still = contents(place / "raw"), contents(tmp_path / "quiet" / "raw")
        assert {n: d for n, d in raw.items() if n[0] != "."} == {n: d for n, d in still.items() if n[0] != "."}
        assert {p.name for p in place.iterdir()} == {"raw", "out", ".out.lock"}
        assert not list((place / "raw" / ".eo_adapt").glob("*unpack*"))
