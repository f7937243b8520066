"""Who chooses best? Regret of every selector over several benchmarks.

A folder is what ``python -m eo_adapt.benchmark`` left (its ``candidates.parquet`` and ``benchmark.json`` are read).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

from eo_adapt.benchmarking.compare import choose, selectors_table
from eo_adapt.benchmarking.output import as_markdown, machine, selectors_spelt
from eo_adapt.benchmarking.plan import label_free
from eo_adapt.rundir import write_text


def main() -> None:
    """Print the table; write it as json where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="output folders of benchmarks")
    parser.add_argument("--json", type=Path, default=None, help="write the numbers there, too")
    args = parser.parse_args()
    candidates = pd.concat([pd.read_parquet(folder / "candidates.parquet") for folder in args.folders])
    made_by = [json.loads((folder / "benchmark.json").read_text(encoding="utf-8")) for folder in args.folders]
    results = choose(candidates, [*label_free(), "oracle"])
    table = selectors_table(results)
    print(as_markdown(selectors_spelt(table)))
    about = {
        "suites": [one["suite"] for one in made_by],
        "versions": sorted({version for one in made_by for version in one["versions"]}),
        "machine": machine(),
        "shifts": sorted(results["shift"].unique()),
        "methods": sorted(results["method"].unique()),
    }
    print(json.dumps(about, indent=1))
    if args.json:
        write_text(args.json, json.dumps({**about, "selectors": json.loads(table.to_json(orient="records"))}, indent=1))


if __name__ == "__main__":
    main()
