"""A scene -> a map: files checked, windows mapped, bands kept, Cloud-Optimised GeoTIFFs written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.scenes.arrays import TileError
from ..rundir import version
from .blocks import Job, run_blocks
from .cog import Layer, publish, write_cog
from .engine import Engine
from .looks import entries
from .mapper import Loads, Mapper, colours_of, of_path
from .paint import NODATA, layers_of
from .scene import Scene, open_scene
from .settings import Settings as Settings
from .windows import Windows
from .work import PLAN, Work, held

TILE, SERIES_TILE = 512, 128  # pixels
BATCH = {"cuda": 16}  # windows at once; 4 elsewhere
CACHE = 256  # MB for decoded blocks, at least
SHARE = 8  # of a tile, one part overlaps


def map_scene(
    run: Mapper | Path | str,
    given: Any,
    output: Path | str,
    settings: Settings | None = None,
    domain: str | None = None,
    command: str = "",
    told: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Map one scene.

    Args:
        run: A run directory, an export, or what :func:`.mapper.of_path` made of one.
        given: A file, or sensor -> file, pattern with ``{date}``, or mapping (:class:`.looks.Entry`).
        output: The class map, ``<name>.tif``; probabilities and entropy get ``_probabilities`` and ``_entropy``.
        settings: How.
        domain: Whose network, of a run directory.
        command: What to write into the files as their origin.
        told: Called with lines on the progress.

    Returns:
        Facts: files, seconds, megapixels, pixels of each class, pixels seen.

    Raises:
        FileExistsError: If the map is there and may not be replaced.
        ValueError: If files, checkpoint and settings do not fit, or an output is one of the images; nothing is written.
        OSError: If the disk is full or nothing may be written there; no file gets its final name.
    """
    settings, output = settings or Settings(), Path(output)
    mapper = run if isinstance(run, Mapper) else of_path(run, domain)
    try:
        return _map(mapper, given, output, settings, command, told)
    except TileError as error:  # that images may be skipped is said to those who prepare a store
        raise TileError(str(error).partition(", or set data.on_corrupt")[0]) from error


def _map(
    mapper: Mapper, given: Any, output: Path, settings: Settings, command: str, told: Callable[[str], None]
) -> dict[str, Any]:
    files = _files(output, settings)
    folder = output.with_name(f".{output.name}.part")
    _refuse(files, folder, settings.overwrite)  # before any file is looked at, and again once nobody else can write
    sensors = _sensors(mapper)
    scene = open_scene(entries(given, sensors, settings.bands), mapper.card, settings.resample, settings.year)
    _refuse_own(files, scene)
    windows = _windows(scene, mapper, settings)
    bound_cache(scene, windows)
    layers = layers_of(len(mapper.legend), settings.probabilities, settings.entropy)
    work = Work(folder, *_size(scene), layers, windows.bands)
    began = time.monotonic()
    with held(work.folder):
        _refuse(files, work.folder, settings.overwrite)
        work.begin(_plan(mapper, scene, windows, settings), settings.overwrite)
        if settings.adapt != "none":
            mapper = replace(mapper, loads=_adapted(mapper, scene, windows, work, settings))
        job = _job(mapper, scene, windows, work, settings)
        before = int(work.done().sum())
        _compute(job, settings, told)
        computed = time.monotonic() - began
        counts = _counts(work, len(mapper.legend))
        _finish(mapper, scene, work, files, command)
        work.end()
    return {
        "files": [str(path) for path in files.values()],
        "seconds": time.monotonic() - began,
        "computing": computed,
        "megapixels": scene.ground.height * scene.ground.width / 1e6,
        "bands": windows.bands,
        "resumed": before,
        "pixels": dict(zip(mapper.legend.names, counts.tolist(), strict=False)),
        "seen": int(counts.sum()),
    }


def _size(scene: Scene) -> tuple[int, int]:
    return scene.ground.height, scene.ground.width


def _sensors(mapper: Mapper) -> Mapping[str, Any]:
    from ..data.scenes.store import imagery_of

    return {name: imagery_of(mapper.card["imagery"][name]) for name in mapper.card["bands"]}


def _files(output: Path, settings: Settings) -> dict[str, Path]:
    if output.suffix.lower() not in (".tif", ".tiff"):
        raise ValueError(f"the map of a scene is a GeoTIFF: output must end in .tif; got {output}")
    found = {"classes": output}
    if settings.probabilities:
        found["probabilities"] = output.with_name(f"{output.stem}_probabilities{output.suffix}")
    if settings.entropy:
        found["entropy"] = output.with_name(f"{output.stem}_entropy{output.suffix}")
    return found


def _refuse(files: Mapping[str, Path], folder: Path, overwrite: bool) -> None:
    """Keep what is there, but for files that an unfinished map has already named."""
    unfinished = (folder / PLAN).is_file()
    there = [path for name, path in files.items() if path.exists() and (name == "classes" or not unfinished)]
    if there and not overwrite:
        raise FileExistsError(f"{there[0]} is there already; overwrite=true replaces it once the new one is whole")


def _refuse_own(files: Mapping[str, Path], scene: Scene) -> None:
    """Keep the images themselves, whatever may be overwritten."""
    own = {Path(path).resolve() for path in scene.files}
    if lost := [path for path in files.values() if path.resolve() in own]:
        raise ValueError(f"{lost[0]} is an image of the scene; the map would replace it: set another output=")


def _windows(scene: Scene, mapper: Mapper, settings: Settings) -> Windows:
    tile = settings.tile or (SERIES_TILE if mapper.series else TILE)
    overlap = tile // SHARE if settings.overlap is None else settings.overlap
    return Windows(*_size(scene), tile, overlap, scene.unit)


def bound_cache(scene: Scene, windows: Windows) -> None:
    """Give GDAL memory for two rows of windows; else it takes a share of the machine's, and more with each row.

    It looks once in a process, when it first reads; a setting of the user's own stays.
    """
    pixels = sum(len(look.frames) * len(look.wanted) for look in scene.looks.values()) * 2
    os.environ.setdefault("GDAL_CACHEMAX", str(max(CACHE, 2 * windows.tile * windows.width * pixels // 2**20)))


def _batch(settings: Settings) -> int:
    return settings.batch or BATCH.get(torch.device(settings.devices[0]).type, 4)


def _plan(mapper: Mapper, scene: Scene, windows: Windows, settings: Settings) -> dict[str, Any]:
    """All that the bytes of a map depend on."""
    free = ("readers", "scheduler", "workers", "overwrite", "device", "batch", "bands", "tile", "overlap")
    files = {path: [Path(path).stat().st_size, Path(path).stat().st_mtime_ns] for path in scene.files}
    bands = {name: [[f.path, f.date, list(f.numbers)] for f in look.frames] for name, look in scene.looks.items()}
    return {
        "checkpoint": mapper.digest,
        "domain": mapper.domain,
        "temperature": mapper.temperature,
        "files": files,
        "bands": bands,
        "windows": asdict(windows),
        "batch": _batch(settings),
        "device": torch.device(settings.devices[0]).type,
        "settings": {k: v for k, v in asdict(settings).items() if k not in free},
        "version": version(),
    }


def _adapted(mapper: Mapper, scene: Scene, windows: Windows, work: Work, settings: Settings) -> Loads:
    """The network, once it has learnt from windows spread over the scene: the same ones however the work is divided."""
    if mapper.adapts is None:
        raise ValueError(f"adapt={settings.adapt} needs a run directory; an exported network stays as it is")
    device = torch.device(settings.devices[0])
    engine = Engine(scene, windows, len(mapper.legend), _batch(settings), device, settings.readers)
    every = [(row, group) for row in range(windows.bands) for group in windows.groups(engine.batch)]
    number = min(len(every), -(-settings.adapt_windows // engine.batch))
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, number).round().astype(int))]
    samples = sum(len(columns) for _, columns in chosen)
    return mapper.adapts(settings.adapt, lambda: engine.shown(chosen), samples, work.folder / "adapted.pt", device)


def _job(mapper: Mapper, scene: Scene, windows: Windows, work: Work, settings: Settings) -> Job:
    how = (settings.tta, tuple(settings.scales), settings.precision, settings.devices)
    numbers = (len(mapper.legend), mapper.temperature, _batch(settings), settings.readers)
    return Job(scene, windows, work, mapper.loads, *numbers, *how)


def _compute(job: Job, settings: Settings, told: Callable[[str], None]) -> None:
    began, before = time.monotonic(), int(job.work.done().sum())

    def say(band: int) -> None:
        done = int(job.work.done().sum())
        rate = (done - before) / len(job.work.done()) * job.work.height * job.work.width / 1e6
        told(f"band {done}/{job.windows.bands}, {rate / (time.monotonic() - began):.2f} megapixels/s")

    if settings.scheduler == "none":
        missing = [band for band, done in enumerate(job.work.done()) if not done]
        if missing:
            job.run(missing, job.devices[0], say)
    else:
        run_blocks(job, settings.scheduler, settings.workers, say)


def _counts(work: Work, classes: int) -> np.ndarray:
    """(K,) pixels of each class."""
    counts = np.zeros(256, np.int64)
    with work.raw("classes").open("rb") as file:
        while len(part := np.fromfile(file, np.uint8, 1 << 24)):
            counts += np.bincount(part, minlength=256)
    return counts[: min(classes, NODATA)]


def _finish(mapper: Mapper, scene: Scene, work: Work, files: Mapping[str, Path], command: str) -> None:
    names, colours = mapper.legend.names, colours_of(mapper.card)
    tags = {
        "EO_ADAPT_CHECKPOINT_SHA256": mapper.digest,
        "EO_ADAPT_VERSION": version(),
        "EO_ADAPT_RUN": mapper.origin,
        "EO_ADAPT_DOMAIN": mapper.domain,
        "EO_ADAPT_COMMAND": command,
        "EO_ADAPT_INPUT": json.dumps(scene.files[:20]),
        "EO_ADAPT_TEMPERATURE": repr(mapper.temperature),
        "EO_ADAPT_LEGEND": json.dumps({i: [n, c] for i, (n, c) in enumerate(zip(names, colours, strict=True))}),
    }
    about = {
        "classes": Layer("classes", ["class"], colours, names, tags),
        "probabilities": Layer("probabilities", names, tags=tags),
        "entropy": Layer("entropy", ["entropy as a share of the logarithm of the number of classes"], tags=tags),
    }
    made = {name: work.folder / f"{name}.tif" for name in files}
    for name, path in made.items():
        write_cog(work.raw(name), path, scene.ground, about[name])
    publish(made, files)
