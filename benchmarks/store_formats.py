"""Random batches a second from three candidate stores of ragged parcel series; prints a markdown table.

    python benchmarks/store_formats.py --parcels 100000 1000000 --batches 2000 --out table.md

A parcel has 10 to 60 dates of 10 bands uint16, a day int16 and a valid flag each. All candidates return the same padded
batch (asserted). Every measurement runs in a fresh process, on files just written (the page cache is warm).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import zarr

Batch = tuple[np.ndarray, ...]  # values (B, T, 10) uint16, days (B, T) int16, valid (B, T) bool; 0 where padded
Part = tuple[np.ndarray, ...]  # (n,) dates a parcel, then the rows of all of them
Reader = Callable[[np.ndarray], Batch]
BATCH, STEP, SHARD, CHUNK, WARM_UP = 128, 20_000, 1 << 20, 1024, 5
ARRAYS: dict[str, tuple[type, int]] = {"values": (np.uint16, 10), "days": (np.int16, 1), "valid": (np.uint8, 1)}


def draw_dates(parcels: int, start: int) -> tuple[np.random.Generator, np.ndarray]:
    """Dates a parcel of the STEP parcels from ``start``, and the generator that goes on from there."""
    rng = np.random.default_rng(start)
    return rng, rng.integers(10, 61, size=min(STEP, parcels - start))


def chunks(parcels: int, spent: list[float]) -> Iterator[Part]:
    """(n,) dates a parcel, then the rows of values, days and valid of at most STEP parcels; the same every time.

    ``spent`` receives the seconds that making them took.
    """
    for start in range(0, parcels, STEP):
        began = time.perf_counter()
        rng, dates = draw_dates(parcels, start)
        step = np.arange(dates.sum()) - np.repeat(dates.cumsum() - dates, dates)
        days = 365 * step // np.repeat(dates, dates)
        level = np.repeat(rng.uniform(300, 3000, size=(len(dates), 10)), dates, axis=0)
        values = level * (1 + 0.5 * np.sin(2 * np.pi * days / 365))[:, None] + rng.normal(0, 60, size=level.shape)
        part = dates, values.clip(1, 65535).astype(np.uint16), days.astype(np.int16), rng.random(len(days)) < 0.8
        spent.append(time.perf_counter() - began)
        yield part


def pad(dates: np.ndarray, *rows: np.ndarray) -> Batch:
    """Rows of B parcels, one after the other, to (B, longest, ...)."""
    real = np.arange(dates.max()) < dates[:, None]
    out = tuple(np.zeros((*real.shape, *array.shape[1:]), array.dtype) for array in rows)
    for padded, array in zip(out, rows, strict=True):
        padded[real] = array
    return (*out[:2], out[2].astype(bool))


def row_numbers(first: np.ndarray, dates: np.ndarray) -> np.ndarray:
    """Row numbers of B parcels, one after the other."""
    return np.asarray(np.arange(dates.sum()) + np.repeat(first - (dates.cumsum() - dates), dates))


def write_flat(folder: Path, parcels: int, parts: Iterator[Part]) -> None:
    """values.bin, days.bin, valid.bin and sizes.npy."""
    files = [(folder / f"{name}.bin").open("wb") for name in ARRAYS]
    dates = []
    for size, *rows in parts:
        dates.append(size)
        for file, array in zip(files, rows, strict=True):
            array.tofile(file)
    for file in files:
        file.close()
    np.save(folder / "sizes.npy", np.concatenate(dates))


def read_flat(folder: Path) -> Reader:
    """One vectorised gather from memory-mapped arrays."""
    dates, maps = np.load(folder / "sizes.npy"), []
    for name, (dtype, width) in ARRAYS.items():
        array = np.memmap(folder / f"{name}.bin", dtype, "r")
        maps.append(array.reshape(-1, width) if width > 1 else array)
    first = dates.cumsum() - dates

    def read(parcels: np.ndarray) -> Batch:
        at = row_numbers(first[parcels], dates[parcels])
        return pad(dates[parcels], *(np.asarray(array[at]) for array in maps))

    return read


def write_zarr(folder: Path, parcels: int, parts: Iterator[Part]) -> None:
    """The flat layout in zarr v3: zstd chunks of 1,024 rows in shards of 2**20, written whole.

    The fastest reads of 9 layouts (5 flat, 4 padded) tried once on the values of 100 k parcels.
    """
    dates = np.concatenate([draw_dates(parcels, start)[1] for start in range(0, parcels, STEP)])
    np.save(folder / "sizes.npy", dates)
    group, total, done = zarr.open_group(folder / "zarr", mode="w"), int(dates.sum()), 0
    waiting: list[np.ndarray] = [np.empty((0, width), dtype) for dtype, width in ARRAYS.values()]
    for name, (dtype, width) in ARRAYS.items():
        group.create_array(name, shape=(total, width), chunks=(CHUNK, width), shards=(SHARD, width), dtype=dtype)
    for _, *rows in parts:
        waiting = [np.concatenate([old, new.reshape(len(new), -1)]) for old, new in zip(waiting, rows, strict=True)]
        have = len(waiting[0])
        if take := have if done + have == total else have // SHARD * SHARD:
            for name, array in zip(ARRAYS, waiting, strict=True):
                group[name][done : done + take] = array[:take].astype(ARRAYS[name][0])  # type: ignore[index]
            done, waiting = done + take, [array[take:] for array in waiting]


def read_zarr(folder: Path) -> Reader:
    """One orthogonal selection an array, in file order."""
    dates = np.load(folder / "sizes.npy")
    first, arrays = dates.cumsum() - dates, [zarr.open_array(folder / "zarr" / name, mode="r") for name in ARRAYS]

    def read(parcels: np.ndarray) -> Batch:
        order = parcels.argsort()
        at = row_numbers(first[parcels[order]], dates[parcels[order]])
        batch = pad(dates[parcels[order]], *(np.asarray(array.oindex[at]) for array in arrays))
        back = order.argsort()
        return batch[0][back], batch[1][back, :, 0], batch[2][back, :, 0]

    return read


def write_arrow(folder: Path, parcels: int, parts: Iterator[Part]) -> None:
    """One IPC file of list columns, a record batch every STEP parcels."""
    schema = pa.schema([(name, pa.list_(pa.from_numpy_dtype(dtype))) for name, (dtype, _) in ARRAYS.items()])
    with pa.OSFile(str(folder / "table.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for size, *rows in parts:
            ends = np.concatenate([[0], size.cumsum()]).astype(np.int32)
            lists = [
                pa.ListArray.from_arrays(ends * width, row.astype(dtype).ravel())
                for row, (dtype, width) in zip(rows, ARRAYS.values(), strict=True)
            ]
            writer.write_batch(pa.record_batch(lists, schema=schema))


def read_arrow(folder: Path) -> Reader:
    """``Table.take`` on the memory-mapped file."""
    table = pa.ipc.open_file(pa.memory_map(str(folder / "table.arrow"))).read_all()

    def read(parcels: np.ndarray) -> Batch:
        taken = table.take(pa.array(parcels)).combine_chunks()
        flat = [taken.column(name).combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in ARRAYS]
        dates = taken.column("days").combine_chunks().value_lengths().to_numpy()
        return pad(dates, flat[0].reshape(-1, 10), flat[1], flat[2])

    return read


def read_arrow_views(folder: Path) -> Reader:
    """Slices of numpy views on the record batches, cut by hand (what ``take`` costs, avoided)."""
    table = pa.ipc.open_file(pa.memory_map(str(folder / "table.arrow"))).read_all()
    parts = [[(c.values.to_numpy(), c.offsets.to_numpy()) for c in table.column(name).chunks] for name in ARRAYS]

    def read(parcels: np.ndarray) -> Batch:
        at = [divmod(int(parcel), STEP) for parcel in parcels]
        cut = [[part[i][0][part[i][1][j] : part[i][1][j + 1]] for i, j in at] for part in parts]
        dates = np.array([len(days) for days in cut[1]])
        return pad(dates, np.concatenate(cut[0]).reshape(-1, 10), np.concatenate(cut[1]), np.concatenate(cut[2]))

    return read


WRITERS = {"flat": write_flat, "zarr": write_zarr, "arrow": write_arrow}
READERS: dict[str, tuple[str, Callable[[Path], Reader]]] = {
    "flat memory-mapped arrays + offsets": ("flat", read_flat),
    "Arrow IPC, memory-mapped, numpy views": ("arrow", read_arrow_views),
    "Arrow IPC, memory-mapped, Table.take": ("arrow", read_arrow),
    "zarr v3, sharded, zstd": ("zarr", read_zarr),
}


def resident() -> dict[str, float]:
    """MB of this process: its own pages, and pages of mapped files (the system may drop those at will)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {
        kind: int(line.split()[1]) / 1e3 for kind in ("Anon", "File") for line in lines if line.startswith("Rss" + kind)
    }


def measure(name: str, folder: Path, parcels: int, batches: int, seconds: float) -> dict[str, Any]:
    """Batches a second and growth of resident memory, stopping at ``batches`` or after ``seconds``."""
    rng, before = np.random.default_rng(1), resident()
    draws = [rng.choice(parcels, BATCH, replace=False) for _ in range(batches + WARM_UP)]
    read = READERS[name][1](folder)
    for draw in draws[:WARM_UP]:
        read(draw)
    start, done = time.perf_counter(), 0
    while done < batches and time.perf_counter() - start < seconds:
        read(draws[WARM_UP + done])
        done += 1
    rate = done / (time.perf_counter() - start)
    return {"rate": rate, "done": done, **{kind: size - before[kind] for kind, size in resident().items()}}


def check_equal(folder: Path, parcels: int) -> None:
    """Every reader returns the same padded batch, bit for bit."""
    draw = np.random.default_rng(2).choice(parcels, BATCH, replace=False)
    batches = {name: reader(folder)(draw) for name, (_, reader) in READERS.items()}
    first = next(iter(batches.values()))
    for name, batch in batches.items():
        for array, other in zip(first, batch, strict=True):
            assert array.dtype == other.dtype, f"{name} returns another type"
            assert np.array_equal(array, other), f"{name} returns another batch"


def rows_of(parcels: int, batches: int, seconds: float, fresh: multiprocessing.context.SpawnContext) -> Iterator[str]:
    """Lines of the table for one size; files live in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="store_formats_") as root:
        folder, took, size = Path(root), {}, {}
        for name, write in WRITERS.items():
            before, start, spent = disk(folder), time.perf_counter(), list[float]()
            write(folder, parcels, chunks(parcels, spent))
            took[name], size[name] = time.perf_counter() - start - sum(spent), disk(folder) - before
        check_equal(folder, parcels)
        for name, (kind, _) in READERS.items():
            with ProcessPoolExecutor(1, mp_context=fresh) as pool:
                got = pool.submit(measure, name, folder, parcels, batches, seconds).result()
            yield (
                f"| {parcels:,} | {name} | {got['rate']:,.1f} | {got['rate'] * BATCH:,.0f} | {got['done']} | "
                f"{took[kind]:.1f} | {size[kind] / 1e6:,.0f} | {got['Anon']:,.0f} | {got['File']:,.0f} |"
            )


def disk(folder: Path) -> int:
    """Bytes of all files under ``folder``."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Measure, print and save the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--parcels", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--batches", type=int, default=2000, help="batches a measurement, at most")
    parser.add_argument("--seconds", type=float, default=30.0, help="a slower candidate stops after this time")
    parser.add_argument("--out", type=Path, help="markdown file for the table")
    args = parser.parse_args()
    cores, busy = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    lines = [
        "# Store formats: random batches a second\n",
        "Made by `benchmarks/store_formats.py`.",
        f"Machine: {cores} cores ({platform.machine()}), load {busy:.1f} at the start (other work beside it); python",
        f"{platform.python_version()}, numpy {np.__version__}, zarr {zarr.__version__}, pyarrow {pa.__version__}.",
        f"A batch is {BATCH} random parcels (10 to 60 dates, 10 bands), padded; all candidates return the same arrays.",
        f"Rates after {WARM_UP} warm-up batches, page cache warm, one process; a candidate stops at {args.batches}",
        f"batches or after {args.seconds:g} s (column batches). Write time leaves out making the data "
        "and waits for no disk.",
        "Each number was measured once: differences below a factor of two mean nothing here.",
        "Memory is the growth of the reading process: own pages, and mapped file pages, which the system can drop.\n",
        "| parcels | store | batches/s | parcels/s | batches | write s | MB on disk | own MB | mapped MB |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    for parcels in args.parcels:
        for line in rows_of(parcels, args.batches, args.seconds, multiprocessing.get_context("spawn")):
            print(line, flush=True)
            lines.append(line)
    if args.out:
        args.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
