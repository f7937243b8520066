"""Is a map that is killed again and again the same, pixel by pixel, as one that nobody disturbed?

A scene is mapped once, undisturbed, and timed. Then it is mapped to another file by processes that are killed (SIGKILL)
at random moments, the same command after each kill; should a map be finished before all kills are done, another one is
begun. Moments are drawn from 0.15 to 1 of the time that the undisturbed process took: some fall into the start, most
into bands, some into the end. Classes, probabilities and entropy are compared, and whether anything lay under a final
name before the map was whole.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from predict import mapper_of, write_scene

from eo_adapt.benchmarking.output import as_markdown, machine
from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.work import LEDGER

WAIT = (0.15, 1.0)  # of the undisturbed process's time, until a kill
NAMES = ("map{0}.tif", "map{0}_probabilities.tif", "map{0}_entropy.tif")


def start(scene: Path, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "--child", str(scene), str(out)])


def child(scene: Path, out: Path) -> None:
    how = Settings(tile=256, probabilities=True, entropy=True, device="cpu", batch=2)
    map_scene(mapper_of("resnet18", 1.0), scene, out, how)


def files(folder: Path, name: str) -> list[np.ndarray]:
    found = []
    for pattern in NAMES:
        with rasterio.open(folder / pattern.format(name)) as file:
            found.append(file.read())
    return found


def bands(out: Path) -> str:
    ledger = out.with_name(f".{out.name}.part") / LEDGER
    if not ledger.exists():
        return "-"
    done = np.fromfile(ledger, np.uint8)
    return f"{int(done.sum())} of {len(done)}"


def main() -> int:
    """Print the kills and what came of them; 1 if a map differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--size", type=int, default=2000, help="rows and columns of the scene")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", type=Path, nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return 0
    rng, rows = np.random.default_rng(args.seed), []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_scene(folder / "scene.tif", args.size, args.size, 1.0)
        began = time.monotonic()
        if start(folder / "scene.tif", folder / "map.tif").wait():
            raise RuntimeError("the undisturbed process failed")
        seconds, expected, number, wrong = time.monotonic() - began, files(folder, ""), 1, []
        while len(rows) < args.kills or not (folder / f"map{number}.tif").exists():
            out = folder / f"map{number}.tif"
            process = start(folder / "scene.tif", out)
            wait = float(rng.uniform(*WAIT) * seconds) if len(rows) < args.kills else 100 * seconds
            try:
                if process.wait(wait):
                    raise RuntimeError("a process failed that nobody had killed")
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                rows.append({"kill": len(rows) + 1, "seconds": f"{wait:.1f}", "map": number, "bands": bands(out)})
                if not out.exists():  # else it was killed after the map had got its name
                    continue
            same = all(np.array_equal(a, b) for a, b in zip(files(folder, str(number)), expected, strict=True))
            wrong += [] if same else [number]
            number += len(rows) < args.kills
    print(
        f"`python benchmarks/kill_predict.py {' '.join(sys.argv[1:])}`: {seconds:.0f} s without a kill; {machine()}\n"
    )
    print(as_markdown(pd.DataFrame(rows)))
    print(f"\n{len(rows)} kills of {number} maps: " + (f"{wrong} differ" if wrong else "all identical") + ".")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
