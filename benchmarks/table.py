"""Methods x shifts x seeds through ``eo_adapt.train``, and a markdown table of the scores.

    python benchmarks/table.py --shifts embedded --methods source_only coral target_only --seeds 5 --out docs/results/x.md

Finished runs are not run again. Everything after ``--`` goes to every run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

SCORES = {"macro_f1": "macro-F1", "closed_macro_f1": "closed-set macro-F1", "overall_accuracy": "accuracy"}


def run(shift: str, method: str, seed: int, folder: Path, more: list[str], env: dict[str, str]) -> dict[str, Any]:
    """Report of one run, from disk when it is finished."""
    name = method.replace("[", "").replace("]", "").replace(",", "+").replace("=", "-").replace(" ", "_")
    place = folder / shift / name / str(seed)
    if not (place / "report.json").exists():
        words = [f"shift={shift}", *f"method={method}".split(" "), f"seed={seed}", *more, "figures=false"]
        words += ["logger=csv", "trainer.progress=none", "resume=auto", f"hydra.run.dir={place}"]
        done = subprocess.run([sys.executable, "-m", "eo_adapt.train", *words], capture_output=True, text=True, env=env)
        if done.returncode:
            return {"error": done.stderr.strip().splitlines()[-1:]}
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
            means = [np.mean([d[score] for d in r["domains"].values() if d["role"] == role]) for r in reports]
            failed = len(found[shift, method]) - len(reports)
            cells.append((interval(means) if means else "-") + (f" ({failed} failed)" if failed else ""))
        lines.append(f"| {shift} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", nargs="+", required=True)
    parser.add_argument("--methods", nargs="+", required=True, help="names, or 'coral method.weight=10' in quotes")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 2) // 1))
    parser.add_argument("--runs", type=Path, default=Path("outputs/table"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", help="overrides for every run, after --")
    asked = parser.parse_args()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    keys = [(s, m, i) for s in asked.shifts for m in asked.methods for i in range(asked.seeds)]
    with ThreadPoolExecutor(asked.jobs) as pool:
        reports = list(pool.map(lambda key: run(*key, asked.runs, asked.more, env), keys))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (shift, method, _), report in zip(keys, reports, strict=True):
        found.setdefault((shift, method), []).append(report)
        if "error" in report:
            print(shift, method, report["error"], file=sys.stderr)
    good = next(r for r in reports if "error" not in r)
    parts = [
        f"eo_adapt {good['version']}, {platform.machine()}, {os.cpu_count()} cores, {asked.seeds} seeds, checkpoint by "
        f"{good['selector']} (target_only: its own validation labels); mean and 95 % t interval over seeds, points."
    ]
    for role, score in (("target", "closed_macro_f1"), ("target", "macro_f1"), ("target", "overall_accuracy"), ("source", "closed_macro_f1")):
        parts += [f"\n### {role}: {SCORES[score]}\n", table(found, score, role)]
    text = "\n".join(parts) + "\n"
    print(text)
    if asked.out:
        asked.out.write_text(text)


if __name__ == "__main__":
    main()
