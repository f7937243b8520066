"""Does an extraction that is killed come to the same store? One is left alone, one is killed again and again.

    python benchmarks/kill_extract.py --kills 20

A small world of Sentinel-2 products is made. The first run is the reference, and is timed. Then the same command is
killed (SIGKILL to all its processes) at moments drawn from 0.2 to 1.0 of the reference's time, and started again;
each start goes on where the last one was. Should it come to its end, the store is compared, file by file and byte by
byte, and it begins anew in a further folder.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from eo_adapt.benchmarking.output import as_markdown, machine
from eo_adapt.data.synthetic.sentinel2_safe import SafeWorld

ROOT = Path(__file__).parents[1]
WAIT = (0.2, 1.0)  # of the reference's duration, until a kill


def start(world: Path, out: Path, scheduler: str) -> subprocess.Popen[str]:
    """The command, in a process group of its own."""
    words = [
        "recipe=sentinel2_parcels", f"parcels={world / 'parcels.gpkg'}", f"images={world / 'images'}", f"out={out}",
        "year=2022", f"scheduler={scheduler}", "workers=2", "force=true",
    ]  # fmt: skip
    with out.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "eo_adapt.prepare", *words], cwd=out.parent, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def finish(process: subprocess.Popen[str], out: Path) -> None:
    """Wait for the end.

    Raises:
        RuntimeError: If it failed.
    """
    if process.wait():
        raise RuntimeError(f"the extraction to {out} failed: {out.with_suffix('.log').read_text()[-2000:]}")


def different(one: Path, other: Path) -> list[str]:
    """Files of two stores that are not the same byte for byte; PROVENANCE.json holds the time and the folder."""
    files = {str(p.relative_to(x)) for x in (one, other) for p in x.rglob("*") if p.is_file()} - {"PROVENANCE.json"}
    _, wrong, errors = filecmp.cmpfiles(one, other, sorted(files), shallow=False)
    return wrong + errors


def main() -> int:
    """Print the kills and what came of them; 1 if a store differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--dates", type=int, default=24)
    parser.add_argument("--scheduler", default="processes")
    parser.add_argument("--out", type=Path, default=Path("outputs/kill_extract"), help="is emptied first")
    args = parser.parse_args()
    out = args.out.resolve()
    if out.exists() and not (out / "reference.log").exists() and any(out.iterdir()):
        parser.error(f"--out {out} holds something else; give an empty folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    SafeWorld(parcels=100, dates=args.dates).write(out)
    began = time.monotonic()
    finish(start(out, out / "reference", args.scheduler), out / "reference")
    seconds, rng = time.monotonic() - began, np.random.default_rng(args.seed)
    rows, wrong, number = [], {}, 1
    while len(rows) < args.kills:
        store = out / f"killed_{number}"
        process, wait = start(out, store, args.scheduler), float(rng.uniform(*WAIT) * seconds)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done = len(list((out / f"{store.name}.work" / "parts").glob("*.npy")))
            rows.append(
                {
                    "kill": len(rows) + 1,
                    "folder": store.name,
                    "seconds after its start": f"{wait:.1f}",
                    "units done": done,
                }
            )
            continue
        number += 1
    for name in sorted({str(row["folder"]) for row in rows}):
        finish(start(out, out / name, args.scheduler), out / name)
        if files := different(out / "reference", out / name):
            wrong[name] = files
    print(f"{args.dates} products, scheduler={args.scheduler}, {seconds:.0f} s without a kill; {machine()}\n")
    print(as_markdown(pd.DataFrame(rows)))
    many = len({row["folder"] for row in rows})
    verdict = (
        f"stores differ: {wrong}" if wrong else f"{many} killed stores, each the same as the reference byte for byte"
    )
    print(f"\n{len(rows)} kills: {verdict}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
