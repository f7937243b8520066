"""Benchmarks of one suite with different networks, side by side; and what is left of each with a sensor removed.

    python -m eo_adapt.benchmark suite=fusion_embedded methods=[coral] seeds=3 encoder.modalities=[s2] head=dense out=outputs/fusion/s2
    python -m eo_adapt.benchmark suite=fusion_embedded methods=[coral] seeds=3 out=outputs/fusion/late
    python benchmarks/networks.py outputs/fusion/s2 outputs/fusion/late

A folder is what a benchmark left; its name stands for the network. Intervals are those of each benchmark.
"""  # noqa: E501 - commands stay on one line

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from eo_adapt.benchmarking.output import MISSING, as_markdown, spell

NAN = float("nan")


def scores(made: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """One row a network: score of every method and the gap."""
    rows = []
    for network, about in made.items():
        cells = {row["method"]: spell(row["score"], "points", row["score_ci"] or NAN) for row in about["table"]}
        by = {row["method"]: row["score"] for row in about["table"]}
        gap = by["target_only"] - by["source_only"]
        rows.append({"network": network, **cells, "target_only - source_only": spell(gap, "points")})
    return pd.DataFrame(rows).fillna(MISSING)


def shifts_of(made: Mapping[str, Mapping[str, Any]], method: str) -> pd.DataFrame:
    """One row a network: score of a method on every shift, mean over seeds."""
    rows = []
    for network, about in made.items():
        found = pd.DataFrame(about["results"])
        chosen = {row["method"]: row["selector"] for row in about["table"]}
        mine = found[(found["method"] == method) & (found["selector"] == chosen[method])]
        means = mine.groupby("shift", sort=False)["score"].mean()
        rows.append({"network": network, **{str(k): spell(v, "points") for k, v in means.items()}})
    return pd.DataFrame(rows).fillna(MISSING)


def without(folders: Sequence[Path], score: str, methods: Sequence[str]) -> pd.DataFrame:
    """One row a network and method: target score with all sensors, and with each of them removed.

    Means over shifts, seeds and targets, of the checkpoint that the run's own report is about.
    """
    rows = []
    for folder in folders:
        for method in methods:
            found = [removed(path, score) for path in sorted(folder.glob(f"runs/*/{method}/*_trial0/report.json"))]
            if found := [one for one in found if len(one) > 1]:
                means = pd.DataFrame(found).mean()
                cells = {name: spell(value, "points") for name, value in means.items()}
                rows.append({"network": folder.name, "method": method, "runs": str(len(found)), **cells})
    return pd.DataFrame(rows).fillna(MISSING)


def removed(path: Path, score: str) -> dict[str, float]:
    """Mean target score of one run: with all sensors, and with each of them gone."""
    report = json.loads(path.read_text(encoding="utf-8"))
    targets = [name for name, domain in report["domains"].items() if domain["role"] == "target"]
    every = {"all": {name: report["domains"][name] for name in targets}, **report.get("without", {})}
    named = {"all sensors" if sensor == "all" else f"without {sensor}": x for sensor, x in every.items()}
    return {name: sum(x[target][score] for target in targets) / len(targets) for name, x in named.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of benchmarks")
    parser.add_argument("--methods", nargs="+", default=["source_only"], help="for tables by shift and without sensors")
    args = parser.parse_args()
    made = {x.name: json.loads((x / "benchmark.json").read_text(encoding="utf-8")) for x in args.folders}
    print(f"{as_markdown(scores(made))}\n")
    if any(len(about["roles"]) > 1 for about in made.values()):
        for method in args.methods:
            print(f"{method}, by shift\n\n{as_markdown(shifts_of(made, method))}\n")
    score = next(iter(made.values()))["score"]
    table = without(args.folders, score, args.methods)
    if len(table):
        print(as_markdown(table))
    for network, about in made.items():
        print(f"\n{network}: {', '.join(about['versions'])}; {about['machine']}; {about['command']}")


if __name__ == "__main__":
    main()
