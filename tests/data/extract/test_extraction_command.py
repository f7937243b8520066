"""The command as people type it, and killed at any moment."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from small_tiles import PATTERN, boxes, extract, small_grid, write_dates
from stores import same

from eo_adapt.data.extract.errors import FatalError
from eo_adapt.data.extract.making import make_store
from eo_adapt.data.recipe import Recipe

ROOT = Path(__file__).parents[3]
DATES = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    frame = boxes(*[(x, y, x + 45, y + 35) for x in range(5, 540, 50) for y in range(5, 440, 50)])
    days = range(1, 1 + DATES)
    images = {f"A_202105{day:02d}_B04": rng.integers(1, 6000, (50, 60)).astype(np.uint16) for day in days}
    write_dates(root, frame, images, small_grid())
    return root


def test_the_command(world: Path, tmp_path: Path) -> None:
    words = [
        "recipe=sentinel2_parcels", f"parcels={world / 'parcels.gpkg'}", f"images={world / 'images'}",
        f"out={tmp_path / 'store'}", f"pattern='{PATTERN}'", "bands=[B04]", "mask=none", "offset=0", "label=''",
        "scheduler=synchronous",
    ]  # fmt: skip
    command = [sys.executable, "-m", "eo_adapt.prepare", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "99 parcels (0 left out, 0 repaired) on 1 tiles, 12 acquisitions" in done.stdout
    assert "12 units, 0 of them done before" in done.stdout
    assert done.stdout.splitlines()[-1] == f"99 parcels: {tmp_path / 'store'}"
    assert len(list((tmp_path / "store.work" / "parts").iterdir())) == DATES
    again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert (again.returncode, again.stderr.count("\n")) == (1, 1)
    assert "there is a store at" in again.stderr
    assert "force=true replaces it" in again.stderr


def test_killed_again_and_again_the_store_is_the_same(world: Path, tmp_path: Path) -> None:
    """SIGKILL as soon as there is one part more than at the last kill, each start going on where the last one was."""
    store = extract(world, tmp_path / "reference").path
    left, parts = [0], tmp_path / "killed.work" / "parts"
    fork = multiprocessing.get_context("fork")  # nothing must be imported anew
    while left[-1] < DATES - 1:
        process = fork.Process(target=extract, args=(world, tmp_path / "killed"))
        process.start()
        while process.is_alive() and len(list(parts.glob("*.npy"))) <= left[-1]:
            time.sleep(0.001)
        process.kill()
        process.join()
        left.append(len(list(parts.glob("*.npy"))))
        assert left[-1] > left[-2], "a start that was not killed came to its end without a new part"
    assert same(store, extract(world, tmp_path / "killed").path)


def test_killed_while_the_store_is_written(world: Path, tmp_path: Path) -> None:
    """The moment that matters most: parts are whole, the store is half there."""
    store = extract(world, tmp_path / "reference").path

    def die_at_the_end() -> None:
        from eo_adapt.data import writer

        writer.replace_folder = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        extract(world, tmp_path / "killed")

    process = multiprocessing.get_context("fork").Process(target=die_at_the_end)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    assert same(store, extract(world, tmp_path / "killed").path)


def test_a_store_is_made_beside_its_place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed run left is cleared away; a store that is there stays until the new one is whole."""
    monkeypatch.chdir(world)
    recipe, out = Recipe.load("sentinel2_parcels"), tmp_path / "store"
    options = {"parcels": "parcels.gpkg", "images": "images", "pattern": PATTERN, "bands": ["B04"], "mask": "none"}
    options |= {"offset": 0, "label": "", "scheduler": "synchronous"}
    left = tmp_path / ".store.making" / "result"
    left.mkdir(parents=True)
    first = make_store(recipe, Path(), out, options)
    assert sorted(p.name for p in tmp_path.iterdir()) == [".store.lock", "store", "store.work"]
    told = json.loads((out / "PROVENANCE.json").read_text())
    assert told["options"]["bands"] == ["B04"]
    assert told["recipe"]["name"] == "sentinel2_parcels"
    with pytest.raises(FileExistsError, match=r"there is a store at .*; force=true replaces it .*not computed again"):
        make_store(recipe, Path(), out, options)
    with pytest.raises(ValueError, match="none of 12 images can be used"):
        make_store(recipe, Path(), out, {**options, "bands": ["B99"]}, force=True)
    assert len(first) == len(make_store(recipe, Path(), out, options, force=True)) == 99
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="mine exists and is no store; it would be lost"):
        make_store(recipe, Path(), tmp_path / "mine", options)
    with FileLock(tmp_path / ".store.lock"), pytest.raises(FatalError, match=r"another run is making .*store; wait"):
        make_store(recipe, Path(), out, options, force=True)
