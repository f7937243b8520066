"""Methods x shifts x seeds through ``eo_adapt.train``, and a markdown table of the scores.

    python benchmarks/table.py --shifts embedded --methods source_only coral target_only --seeds 5 --out x.md

Finished runs are not run again. Everything after ``--`` goes to every run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # one run a core; before numpy and torch are imported, here and in each process

import numpy as np
from scipy import stats

SCORES = {"macro_f1": "macro-F1", "closed_macro_f1": "closed-set macro-F1", "overall_accuracy": "accuracy"}


def run(key: tuple[str, str, int], folder: Path, more: list[str]) -> dict[str, Any]:
    """Report of one run, from disk when it is finished; a failure is a row of its own, not the end of the table."""
    from eo_adapt.registry import config
    from eo_adapt.train import run as train

    shift, method, seed = key
    name = method.replace("[", "").replace("]", "").replace(",", "+").replace("=", "-").replace(" ", "_")
    place = folder / shift / name / str(seed)
    if not (place / "report.json").exists():
        words = [f"shift={shift}", *f"method={method}".split(" "), f"seed={seed}", *more]
        words += ["figures=false", "logger=csv", "trainer.progress=none", "resume=auto"]
        try:
            train(config(*words), place)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}"}
    report: dict[str, Any] = json.loads((place / "report.json").read_text())
    return report


def interval(scores: list[float]) -> str:
    """Mean and half width of the 95 % t interval, in points."""
    x = 100 * np.array(scores)
    if len(x) < 2:
        return f"{x.mean():.1f}"
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return f"{x.mean():.1f} ± {half:.1f}"


def table(found: dict[tuple[str, str], list[dict[str, Any]]], score: str, role: str) -> str:
    """One row a shift, one column a method: mean over domains of a role, then over seeds."""
    shifts, methods = (list(dict.fromkeys(key[i] for key in found)) for i in (0, 1))
    lines = [f"| shift | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    for shift in shifts:
        cells = []
        for method in methods:
            reports = [r for r in found[shift, method] if "error" not in r]
            scores = [[d[score] for d in r["domains"].values() if d["role"] == role] for r in reports]
            means = [float(np.mean(s)) for s in scores if None not in s]
            failed = len(found[shift, method]) - len(means)
            cells.append((interval(means) if means else "-") + (f" ({failed} failed)" if failed else ""))
        lines.append(f"| {shift} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", required=True, help="names, or 'coral method.weight=10' in quotes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--runs", type=Path, default=Path("outputs/table"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", help="overrides for every run, after --")
    asked = parser.parse_args()
    keys = [(s, m, i) for s in asked.shifts for m in asked.methods for i in range(asked.seeds)]
    with ProcessPoolExecutor(asked.jobs, mp_context=get_context("spawn")) as pool:
        reports = list(pool.map(partial(run, folder=asked.runs, more=asked.more), keys))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (shift, method, _), report in zip(keys, reports, strict=True):
        found.setdefault((shift, method), []).append(report)
        if "error" in report:
            print(shift, method, report["error"], file=sys.stderr)
    good = [r for r in reports if "error" not in r]
    if not good:
        sys.exit("every run failed")
    versions = ", ".join(sorted({r["version"] for r in good}))
    parts = [
        f"eo_adapt {versions}, {platform.machine()}, {os.cpu_count()} cores, {asked.seeds} seeds, checkpoint by "
        f"{good[0]['selector']} (target_only: its own validation labels); mean and 95 % t interval over seeds, points."
    ]
    for role, score in (
        ("target", "closed_macro_f1"),
        ("target", "macro_f1"),
        ("target", "overall_accuracy"),
        ("source", "closed_macro_f1"),
    ):
        parts += [f"\n### {role}: {SCORES[score]}\n", table(found, score, role)]
    text = "\n".join(parts) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
