"""Kills, full disks and several workers: the map is the same pixel by pixel, and nothing half-written has its name."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import echo
import numpy as np
import pytest

from eo_adapt.mapping import blocks, cog, maps, work
from eo_adapt.mapping.maps import Settings, map_scene

HOW = Settings(tile=32, overlap=12, batch=2, probabilities=True, readers=1)
FORK = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scene")
    image = echo.classes(150, 90)
    image[:, 60:70, 20:50] = 9
    return echo.write(folder / "in.tif", image, nodata=9)


@pytest.fixture(scope="module")
def whole(scene: Path) -> list[np.ndarray]:
    """The map of a call that nobody disturbed."""
    out = scene.with_name("whole.tif")
    return [echo.read(path) for path in map_scene(echo.mapper(echo.blurring), scene, out, HOW)["files"]]


def found(out: Path) -> list[np.ndarray]:
    return [echo.read(out), echo.read(out.with_name(f"{out.stem}_probabilities.tif"))]


def in_a_process(*arguments: Any) -> int | None:
    """Exit code of ``map_scene`` in a process of its own."""
    process = FORK.Process(target=map_scene, args=arguments)
    process.start()
    process.join(20)
    process.kill()
    return process.exitcode


def test_killed_again_and_again_it_comes_to_the_same_map(scene: Path, whole: list[np.ndarray], tmp_path: Path) -> None:
    out, rng, bands = tmp_path / "map.tif", np.random.default_rng(0), []
    for kill in range(5):
        flag = tmp_path / f"killed{kill}"
        mapper = echo.mapper(partial(echo.dying, flag=str(flag), after=int(rng.integers(2, 8))))
        assert in_a_process(mapper, scene, out, HOW) == -signal.SIGKILL
        assert not out.exists()
        ledger = tmp_path / ".map.tif.part" / work.LEDGER
        bands.append(int(np.fromfile(ledger, np.uint8).sum()))
    assert bands == sorted(bands)  # nothing that was finished is lost
    assert 0 < bands[-1] < 8
    looks: list[int] = []
    facts = map_scene(echo.mapper(partial(_counting, looks=looks)), scene, out, HOW)
    assert facts["resumed"] == bands[-1]
    assert len(looks) <= 2 * (8 - bands[-1]) + 2  # two batches a row, and one row that reaches into the first band
    for one, other in zip(found(out), whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not (tmp_path / ".map.tif.part").exists()


def _counting(device: Any, looks: list[int]) -> Any:
    network = echo.blurring(device)

    def said(inputs: Any) -> Any:
        looks.append(1)
        return network(inputs)

    return said


@pytest.mark.parametrize("moment", ["first file", "before names", "between names"])
def test_stopped_at_the_end(
    moment: str, scene: Path, whole: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was forked cannot write COGs, which GDAL does with threads: stopped, not killed."""
    out, replace = tmp_path / "map.tif", os.replace

    def stop(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "between names":
            patch.setattr(cog.os, "replace", lambda a, b: stop() if Path(b) == out else replace(a, b))
        else:
            patch.setattr(maps, "write_cog" if moment == "first file" else "publish", stop)
        with pytest.raises(KeyboardInterrupt):
            map_scene(echo.mapper(echo.blurring), scene, out, HOW)
    assert not out.exists()
    facts = map_scene(echo.mapper(echo.blurring), scene, out, HOW)
    assert facts["resumed"] == facts["bands"]
    for one, other in zip(found(out), whole, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_blocks_come_to_the_same_bytes(
    parts: int, scene: Path, whole: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However bands are dealt out, and in whatever order."""

    def deal(job: blocks.Job, scheduler: str, workers: int, told: Any) -> None:
        for block in reversed(blocks.divided(range(job.windows.bands), parts)):
            job.run(block, "cpu")

    monkeypatch.setattr(maps, "run_blocks", deal)
    how = Settings(tile=32, overlap=12, batch=2, probabilities=True, scheduler="threads")
    map_scene(echo.mapper(echo.blurring), scene, tmp_path / "map.tif", how)
    for one, other in zip(found(tmp_path / "map.tif"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_dask_worker_that_dies_is_replaced(scene: Path, whole: list[np.ndarray], tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    how = Settings(tile=32, overlap=12, batch=2, probabilities=True, scheduler="processes", workers=1)
    mapper = echo.mapper(partial(echo.dying, flag=str(tmp_path / "dead"), after=1))
    map_scene(mapper, scene, tmp_path / "map.tif", how)
    assert (tmp_path / "dead").exists()
    for one, other in zip(found(tmp_path / "map.tif"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_scheduler_and_no_dask_are_said(scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = Settings(tile=32, scheduler="tcp://127.0.0.1:1")
    monkeypatch.setattr(blocks, "WAIT", "0.5s")
    with pytest.raises(ConnectionError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1"):
        map_scene(echo.mapper(), scene, tmp_path / "map.tif", how)
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(ImportError, match=r"needs Dask: pip install 'eo_adapt\[scale\]'"):
        map_scene(echo.mapper(), scene, tmp_path / "map.tif", how)
    with pytest.raises(ValueError, match=r"scheduler is one of \['none', 'threads', 'processes'\] or an address"):
        Settings(scheduler="slurm")


def test_a_full_disk_is_found_before_anything_is_computed(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(work.os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"No space left on device\); it takes 0.00 GB"):
        map_scene(echo.mapper(), scene, tmp_path / "map.tif", HOW)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_loses_no_finished_band(
    scene: Path, whole: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, left = os.pwrite, iter([True] * 30)

    def filling(*arguments: Any) -> int:
        if not next(left, False):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(work.os, "pwrite", filling)
        with pytest.raises(OSError, match="No space left"):
            map_scene(echo.mapper(echo.blurring), scene, tmp_path / "map.tif", HOW)
    assert not list(tmp_path.glob("map*"))
    facts = map_scene(echo.mapper(echo.blurring), scene, tmp_path / "map.tif", HOW)
    assert 0 < facts["resumed"] < facts["bands"]
    for one, other in zip(found(tmp_path / "map.tif"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_is_there_is_kept_unless_told_otherwise(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "map.tif"
    out.write_text("mine")
    with pytest.raises(FileExistsError, match=r"map.tif is there already; overwrite=true"):
        map_scene(echo.mapper(), scene, out, HOW)
    assert out.read_text() == "mine"
    flag = tmp_path / "killed"
    more = Settings(tile=32, overlap=12, batch=2, overwrite=True)
    mapper = echo.mapper(partial(echo.dying, flag=str(flag), after=9))  # of 14: some bands are written by then
    assert in_a_process(mapper, scene, out, more) == -signal.SIGKILL
    assert out.read_text() == "mine"  # until the new one is whole
    out.unlink()
    other = Settings(tile=32, overlap=8, batch=2)
    with pytest.raises(ValueError, match=r"unfinished map of other settings; different: windows.overlap: 12 there, 8"):
        map_scene(echo.mapper(echo.blurring), scene, out, other)
    map_scene(echo.mapper(), scene, out, Settings(tile=32, overlap=8, batch=2, overwrite=True))
    np.testing.assert_array_equal(echo.read(out), np.where(echo.read(scene) == 9, 255, echo.read(scene)))


def test_two_do_not_write_one_map(scene: Path, tmp_path: Path) -> None:
    with (
        work.held(tmp_path / ".map.tif.part"),
        pytest.raises(ValueError, match="another process is writing this map"),
    ):
        map_scene(echo.mapper(), scene, tmp_path / "map.tif", HOW)


def test_no_permission_is_said(scene: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write to /proc"):
        map_scene(echo.mapper(), scene, Path("/proc/nowhere/map.tif"), HOW)


def test_what_failed_before_its_first_band_keeps_no_other_settings_away(scene: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="too large"):
        map_scene(echo.mapper(_refusing), scene, tmp_path / "map.tif", Settings(tile=64))
    assert (tmp_path / ".map.tif.part").exists()
    facts = map_scene(echo.mapper(echo.blurring), scene, tmp_path / "map.tif", HOW)
    assert facts["resumed"] == 0
    assert not (tmp_path / ".map.tif.part").exists()


def _refusing(device: Any) -> Any:
    def said(inputs: Any) -> Any:
        raise RuntimeError("too large")

    return said
