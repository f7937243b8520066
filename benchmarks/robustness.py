"""Score against the share of one sensor's dates that are missing, for one or more runs: a json and a figure.

python benchmarks/robustness.py outputs/run_a outputs/run_b --sensor s2 --out outputs/missing_s2
python benchmarks/robustness.py outputs/run_a --sensor s2 --shares 0 0.5 0.9 --seeds 5 --root <folder of the raw files>

Opens target labels; each run's audit.jsonl says so.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from eo_adapt.report.look import LINES, spoken, style
from eo_adapt.report.run import no_nan
from eo_adapt.robustness import SHARES, missing_dates_of_run
from eo_adapt.rundir import write_text

SCORE = "closed_macro_f1"


def draw(path: Path, curves: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """One panel a domain, one line a run: mean over the seeds, and from the worst to the best of them."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    domains = list(curves[0]["domains"])
    with style():
        figure, axes = plt.subplots(1, len(domains), figsize=(3.6 * len(domains), 3), sharey=True, squeeze=False)
        for axis, domain in zip(axes[0], domains, strict=True):
            for i, (curve, name) in enumerate(zip(curves, names, strict=True)):
                share = 100 * np.array(curve["shares"])
                scores = np.array(curve["domains"][domain][SCORE], float)
                colour = LINES[i % len(LINES)]
                axis.plot(share, scores.mean(1), color=colour, marker="o", markersize=3, label=name)
                axis.fill_between(share, scores.min(1), scores.max(1), color=colour, alpha=0.2, linewidth=0)
            axis.set(title=spoken(domain), xlabel=f"missing dates of {curves[0]['sensor']} (%)", ylim=(0, 1))
        axes[0][0].set_ylabel("macro-F1 of shared classes")
        axes[0][-1].legend(fontsize=8)
        figure.tight_layout()
        figure.savefig(path, dpi=150)
        plt.close(figure)


def spelt(runs: Sequence[Path], curves: Sequence[dict[str, Any]]) -> list[str]:
    """A name for each run: what tells it from the others, its folder's name where nothing else does."""
    names = [" ".join(x for x in (c["scheme"] or c["encoder"], c["method"]) if x) for c in curves]
    return [name if names.count(name) == 1 else f"{name} ({run.name})" for name, run in zip(names, runs, strict=True)]


def main(words: Sequence[str] | None = None) -> None:
    """Write <out>.json and <out>.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories of one shift")
    parser.add_argument("--sensor", required=True, help="whose dates go")
    parser.add_argument("--shares", nargs="+", type=float, default=list(SHARES), help="of the dates, from 0 to below 1")
    parser.add_argument("--seeds", type=int, default=3, help="draws a share")
    parser.add_argument("--root", default="", help="where the raw files lie now, if not where the run found them")
    parser.add_argument("--out", type=Path, default=Path("outputs/missing_dates"), help="name without ending")
    args = parser.parse_args(words)
    changes = {"root": args.root} if args.root else {}
    seeds = range(args.seeds)
    curves = [missing_dates_of_run(run, args.sensor, args.shares, seeds, changes) for run in args.runs]
    if len({tuple(curve["domains"]) for curve in curves}) > 1:
        parser.error(f"the runs are of different domains: {[list(curve['domains']) for curve in curves]}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    names = spelt(args.runs, curves)
    text = json.dumps(
        no_nan([{"run": str(r), "name": n, **c} for r, n, c in zip(args.runs, names, curves, strict=True)])
    )
    write_text(args.out.with_suffix(".json"), text)
    draw(args.out.with_suffix(".png"), curves, names)
    print(f"written: {args.out.with_suffix('.json')} and {args.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
