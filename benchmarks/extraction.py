"""Parcel-bands a second of the extraction on one tile, against masking parcel by parcel and exactextract band by band.

    python benchmarks/extraction.py                               # a full MGRS tile: 3 GB of disk, 15 minutes
    python benchmarks/extraction.py --size 2745 --parcels 4000    # a sixteenth of it

The tile is made up: a smooth surface with noise of 1 %, uint16, GeoTIFF in tiles of 1024 x 1024, one file a band;
parcels are rectangles of 0.5 to 8 ha in any direction. All rates include reading and unpacking the images. Masking
parcel by parcel is timed on some parcels and scaled up; so is exactextract, on some bands. Each row runs in a process
of its own; the page cache is warm for all. Weights are computed once a tile, so a date has a share of their time that
falls with the dates.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import rasterio
import shapely
from made_up_tile import grid_of, make_parcels, write_tile

from eo_adapt.data.extract.coverage import Coverage, build
from eo_adapt.data.extract.engine import Engine
from eo_adapt.data.extract.grid import Grid
from eo_adapt.data.extract.images import Acquisition, Image
from eo_adapt.data.extract.masks import Mask
from eo_adapt.data.extract.unit import Task, run_unit

DATES_A_YEAR = 73


def measure_weights(grid: Grid, shapes: Sequence[bytes], folder: Path) -> dict[str, Any]:
    """The sparse matrix."""
    clock = Clock()
    out = build(grid, shapes, folder)
    return {**clock.read(), "folder": str(out), "weights": Coverage(out).entries, "mb": peak()}


def task_of(grid: Grid, coverage: str, bands: int, memory: int, statistics: tuple[str, ...] = ("mean",)) -> Task:
    """What a worker is told."""
    names = {f"B{band:02d}": 0 for band in range(bands)}
    return Task((coverage,), names, (grid,), statistics, "", Mask("none"), "", False, memory)


def acquisition(paths: Sequence[Path], day: int = 1) -> Acquisition:
    """One date."""
    return Acquisition("s2", "T", f"2021-05-{day:02d}", {path.stem: Image(str(path), scale=1e-4) for path in paths})


def measure_unit(paths: Sequence[Path], task: Task, part: str) -> dict[str, Any]:
    """All bands of one date, by one process."""
    clock = Clock()
    run_unit(acquisition(paths), task, part)
    return {**clock.read(), "mb": peak()}


def measure_reading(paths: Sequence[Path], grid: Grid) -> dict[str, Any]:
    """What all of it is spent before the first sum: every block read and unpacked."""
    clock = Clock()
    for path in paths:
        with rasterio.open(path) as file:
            for block in grid.blocks():
                file.read(1, window=block.window)
    return {**clock.read(), "mb": peak()}


def measure_masking(paths: Sequence[Path], frame: geopandas.GeoDataFrame, sample: int) -> dict[str, Any]:
    """rasterio.mask for each parcel and band."""
    from rasterio.mask import mask

    some = frame.sample(min(sample, len(frame)), random_state=0).geometry
    unpacking, masking = {"wall": 0.0, "cpu": 0.0}, {"wall": 0.0, "cpu": 0.0}
    for path in paths:
        with rasterio.Env(GDAL_CACHEMAX=1 << 30), rasterio.open(path) as file:
            clock = Clock()
            file.read(1)  # unpacks every tile once, as masking all parcels would; GDAL then has them at hand
            unpacking = {k: unpacking[k] + v for k, v in clock.read().items()}
            clock = Clock()
            for shape in some:
                values, _ = mask(file, [shape], crop=True, filled=False)
                values.mean()
            masking = {k: masking[k] + v for k, v in clock.read(len(frame) / len(some)).items()}
    return {**{k: unpacking[k] + masking[k] for k in masking}, "mb": peak()}


def measure_exactextract(paths: Sequence[Path], frame: geopandas.GeoDataFrame, some: int) -> dict[str, Any]:
    """exactextract once a band, from the file."""
    from exactextract import exact_extract

    clock = Clock()
    for path in paths[:some]:
        means = exact_extract(str(path), frame, ["mean"], output="pandas")["mean"].to_numpy()
    return {**clock.read(len(paths) / len(paths[:some])), "means": means, "mb": peak()}


def measure_workers(paths: Sequence[Path], task: Task, folder: Path, workers: int, dates: int) -> dict[str, Any]:
    """Some dates by Dask workers; the cluster is up and has imported everything before the clock starts."""
    engine = Engine("processes", workers, task.memory)
    with engine.session() as run:
        list(
            run(
                {
                    i: (
                        run_unit,
                        (
                            acquisition(paths[:1]),
                            dataclasses.replace(task, grids={paths[0].stem: 0}),
                            f"{folder}/w{i}.npy",
                        ),
                    )
                    for i in range(workers)
                }
            )
        )
        jobs = {i: (run_unit, (acquisition(paths, i + 1), task, f"{folder}/{i}.npy")) for i in range(dates)}
        began = time.perf_counter()
        problems = [error for _, _, error, _ in run(jobs) if error is not None]
    if problems:
        raise problems[0]
    return {"wall": (time.perf_counter() - began) / dates, "mb": peak()}


def measure_processes(paths: Sequence[Path], task: Task, folder: Path, workers: int, dates: int) -> dict[str, Any]:
    """The same dates by plain processes, with no scheduler: what the machine itself gives to so many at once."""
    looks = [acquisition(paths, i + 1) for i in range(dates)]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = [f"{folder}/p{i}.npy" for i in range(dates)]
        few = dataclasses.replace(task, grids={paths[0].stem: 0})
        list(pool.map(run_unit, [acquisition(paths[:1])] * workers, [few] * workers, parts))
        began = time.perf_counter()
        list(pool.map(run_unit, looks, [task] * dates, parts))
        wall = time.perf_counter() - began
    return {"wall": wall / dates, "mb": peak()}


class Clock:
    """Wall and CPU seconds since it was made."""

    def __init__(self) -> None:
        self.wall, self.cpu = time.perf_counter(), time.process_time()

    def read(self, factor: float = 1.0) -> dict[str, float]:
        """Both, times a factor."""
        return {"wall": (time.perf_counter() - self.wall) * factor, "cpu": (time.process_time() - self.cpu) * factor}


def peak() -> float:
    """Most memory this process, or one of its children, has had; getrusage of itself would start at its parent's."""
    mine = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    return max(mine, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Run in a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10980, help="pixels along the tile")
    parser.add_argument("--parcels", type=int, default=60000)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--sample", type=int, default=300, help="parcels that are masked one by one")
    parser.add_argument("--exact-bands", type=int, default=2, help="bands that exactextract reads")
    parser.add_argument("--dates", type=int, default=4, help="for one and two workers; 0 = leave them out")
    parser.add_argument("--compress", choices=["deflate", "zstd", "none"], default="deflate")
    parser.add_argument("--memory", type=int, default=1000, help="MB a worker")
    parser.add_argument("--statistics", nargs="+", default=["mean"])
    parser.add_argument(
        "--folder", type=Path, default=None, help="for the tile; emptied afterwards unless it was there"
    )
    parser.add_argument("--json", type=Path, default=None)
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="extraction."))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = measure(args, folder)
    finally:
        if args.folder is None:
            shutil.rmtree(folder)
    if args.json:
        from eo_adapt.benchmarking.output import machine

        args.json.write_text(
            json.dumps({"rows": rows, "machine": machine(), "arguments": vars(args)}, indent=1, default=str)
        )


def measure(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Make the tile, run everything and print."""
    paths = write_tile(folder, args.size, args.bands, args.compress)
    frame, grid = make_parcels(args.size, args.parcels), grid_of(args.size)
    shapes = [bytes(x) for x in shapely.to_wkb(frame.geometry.to_numpy())]
    load = os.getloadavg()[0]
    weights = alone(measure_weights, grid, shapes, folder / "coverage")
    memory = args.memory * 10**6
    task = task_of(grid, weights["folder"], args.bands, memory, tuple(args.statistics))
    ours = alone(measure_unit, paths, task, f"{folder}/part.npy")
    reading = alone(measure_reading, paths, grid)
    exact = alone(measure_exactextract, paths, frame, args.exact_bands)
    masking = alone(measure_masking, paths, frame, args.sample)
    found = np.load(folder / "part.npy")[:, min(args.exact_bands, args.bands) - 1]
    apart = float(np.nanmax(np.abs(found - exact["means"] * 1e-4) / np.abs(exact["means"] * 1e-4)))
    table = rows_of(args, weights, ours, reading, exact, masking)
    for how, work in (("Dask workers", measure_workers), ("plain processes", measure_processes)) if args.dates else ():
        first = 0.0
        for workers in (1, 2):
            made = alone(work, paths, task, folder / f"w{workers}", workers, args.dates)
            first = first or made["wall"]
            name = f"{how}: {workers}, of {args.dates} dates, {first / made['wall']:.2f} x one"
            table.append(row(args, name, made["wall"], None, made["mb"], exact, masking))
    import pandas as pd

    from eo_adapt.benchmarking.output import as_markdown, machine  # imports torch, which no worker should hold

    names = ("exactextract", "rasterio", "scipy", "numpy", "distributed")
    versions = ", ".join(f"{name} {version(name)}" for name in names)
    print(
        f"{args.size} x {args.size} pixels, {args.parcels} parcels, {args.bands} bands, {'+'.join(args.statistics)}, "
        f"{args.compress}; {machine()}, load {load:.1f} at the start; {versions}, GDAL {rasterio.__gdal_version__}\n"
        f"{weights['weights']:,} weights in {weights['wall']:.1f} s, {weights['mb']:.0f} MB at most; largest relative "
        f"difference to exactextract {apart:.1e}\n"
    )
    print(as_markdown(pd.DataFrame(table)))
    return table


def rows_of(
    args: argparse.Namespace,
    weights: dict[str, Any],
    ours: dict[str, Any],
    reading: dict[str, Any],
    exact: dict[str, Any],
    masking: dict[str, Any],
) -> list[dict[str, str]]:
    """The table of one core."""
    both = {k: weights[k] + ours[k] for k in ("wall", "cpu")}
    year = {k: weights[k] / DATES_A_YEAR + ours[k] for k in ("wall", "cpu")}
    mb = max(ours["mb"], weights["mb"])
    made = {
        "one date, weights at hand": ours,
        f"one date, weights shared by {DATES_A_YEAR}": {**year, "mb": mb},
        "one date alone, weights included": {**both, "mb": mb},
        "of which reading and unpacking": reading,
        f"exactextract per band ({args.exact_bands} bands, scaled up)": exact,
        f"rasterio.mask per parcel ({args.sample} parcels, scaled up)": masking,
    }
    return [row(args, name, x["wall"], x["cpu"], x["mb"], exact, masking) for name, x in made.items()]


def row(
    args: argparse.Namespace,
    name: str,
    wall: float,
    cpu: float | None,
    mb: float,
    exact: dict[str, Any],
    masking: dict[str, Any],
) -> dict[str, str]:
    """One line; ratios are of CPU seconds where one core is compared with one core."""
    return {
        "what": name,
        "wall s a date": f"{wall:.2f}",
        "CPU s a date": "" if cpu is None else f"{cpu:.2f}",
        "parcel-bands/s (wall)": f"{args.parcels * args.bands / wall:,.0f}",
        "x exactextract": "" if cpu is None else f"{exact['cpu'] / cpu:.1f}",
        "x rasterio.mask": "" if cpu is None else f"{masking['cpu'] / cpu:.0f}",
        "peak MB": f"{mb:.0f}",
    }


if __name__ == "__main__":
    main()
