"""Does a benchmark that is killed come to the same table? One is left alone, one is killed again and again.

The first run of the benchmark is the reference, and is timed. Then the same benchmark is started in another folder and
killed (SIGKILL to all its processes), started again and killed again; each start goes on where the last one was. The
time until each kill is drawn from 0.2 to 0.9 of the reference's: some fall into the start, most into runs. Should the
benchmark end before all kills are done, it begins anew in a further folder. All tables are then compared, digit by
digit; times and memory are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from eo_adapt.benchmarking.job import is_finished
from eo_adapt.benchmarking.output import as_markdown, machine
from eo_adapt.report.warn import count
from eo_adapt.rundir import version, write_text

ROOT = Path(__file__).parents[1]
WAIT = (0.2, 0.9)  # of the reference's duration, until a kill
CLOCK = ["seconds", "peak_memory_mb", "forwards_per_step"]  # measured where a run was not resumed


def start(folder: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    """The benchmark, in a process group of its own; what it says goes to a file beside the folder."""
    with folder.with_suffix(".log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "eo_adapt.benchmark", f"out={folder}", *words],
            cwd=folder.parent, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, start_new_session=True,
            stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip


def finish(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait for the end.

    Raises:
        RuntimeError: If it failed.
    """
    if process.wait():
        raise RuntimeError(f"the benchmark in {folder} failed: {folder.with_suffix('.log').read_text()[-2000:]}")


def finished(folder: Path) -> int:
    """How many runs have their scores."""
    return sum(is_finished(place) for place in folder.glob("runs/*/*/*"))


def kill_all(out: Path, words: Sequence[str], kills: int, seconds: float, seed: int) -> tuple[pd.DataFrame, list[Path]]:
    """Kill the benchmark until it was killed so often, and let every one that was begun come to its end.

    Args:
        out: Its folders are made in there.
        words: What the benchmark is told.
        kills: How often.
        seconds: Duration of the reference.
        seed: Of the moments.

    Returns:
        One row a kill, and the folders.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    folders = [out / "killed_1"]
    while len(rows) < kills:
        process = start(folders[-1], words)
        wait = float(rng.uniform(*WAIT) * seconds)
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            rows.append({"seconds after its start": wait, "folder": folders[-1].name, "done": finished(folders[-1])})
            continue
        finish(process, folders[-1])
        folders.append(out / f"killed_{len(folders) + 1}")
    folders = [folder for folder in folders if any(row["folder"] == folder.name for row in rows)]
    for folder in folders:
        finish(start(folder, words), folder)
    return pd.DataFrame(rows), folders


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """What a benchmark found, less what depends on the clock."""
    table = pd.DataFrame(json.loads((folder / "benchmark.json").read_text())["table"])
    return {
        "table": table.drop(columns=CLOCK),
        "results": pd.read_parquet(folder / "benchmark.parquet"),
        "candidates": pd.read_parquet(folder / "candidates.parquet"),
    }


def different(reference: Path, folder: Path) -> list[str]:
    """Names of the tables that are not the same to the last digit."""
    one, other = tables(reference), tables(folder)
    return [name for name in one if not one[name].equals(other[name])]


def main() -> int:
    """Print the kills and what came of them; 1 if a table differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", default=[], help="for the benchmark, e.g. methods=[coral] seeds=2")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path("outputs/kill"), help="is emptied first")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there, too")
    args = parser.parse_args()
    if args.kills < 1:
        parser.error(f"--kills must be at least 1; got {args.kills}")
    words = args.words or ["methods=[coral]", "seeds=2"]
    out = args.out.resolve()
    if out.exists() and not (out / "reference.log").exists() and any(out.iterdir()):
        parser.error(f"--out {out} holds something else; give an empty folder")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    reference = out / "reference"
    began = time.monotonic()
    finish(start(reference, words), reference)
    seconds, total = time.monotonic() - began, finished(reference)
    kills, folders = kill_all(out, words, args.kills, seconds, args.seed)
    wrong = {folder.name: names for folder in folders if (names := different(reference, folder))}
    verdict = f"tables differ: {wrong}" if wrong else f"the same table from {count(len(folders), 'killed benchmark')}"
    print(f"`{' '.join(words)}`: {total} runs, {seconds:.0f} s without a kill; eo_adapt {version()}; {machine()}\n")
    shown = kills.assign(**{"seconds after its start": kills["seconds after its start"].map("{:.1f}".format)})
    shown["done"] = [f"{n} of {total}" for n in kills["done"]]
    shown.insert(0, "kill", range(1, len(shown) + 1))
    print(as_markdown(shown.rename(columns={"done": "runs finished"})))
    print(f"\n{len(kills)} kills: {verdict}.")
    if args.json:
        about = {"words": words, "runs": total, "seconds": seconds, "different": wrong, "version": version()}
        write_text(args.json, json.dumps({**about, "machine": machine(), "kills": kills.to_dict("records")}, indent=1))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
