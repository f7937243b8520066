"""Does the diagnosis name the cause? The real `diagnose` on simulated shifts whose one cause is known.

python -m benchmarks.diagnosis --seeds 0 1 2 --parcels 600

Prints a confusion table and writes docs/results/diagnosis.md and .json. Stores are made in a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from eo_adapt.diagnose import build_data, open_labels
from eo_adapt.diagnosis import diagnose
from eo_adapt.registry import config
from eo_adapt.rundir import version
from eo_adapt.train import as_plain

ROOT = Path(__file__).parents[1]
CAUSES = {  # end of configs/shift/embedded_<...>.yaml -> what the diagnosis should call it
    "none": "none",
    "phenology": "phenology",
    "radiometry": "radiometry",
    "priors": "priors",
    "gaps": "gaps",
    "private": "private_class",
}
BEYOND = "unexplained"  # may be said, and is always wrong


def once(name: str, seed: int, parcels: int) -> dict[str, Any]:
    """One diagnosis of a world of its own: what it calls the cause, and how far the estimates are from the truth."""
    start = time.perf_counter()
    words = (f"data.generator.seed={seed}", f"data.generator.parcels_per_country={parcels}", f"seed={seed}")
    plain = as_plain(config(f"shift=embedded_{name}", *words, name="diagnose"))
    data = build_data(plain)
    found = diagnose(data, seed, parcels)
    with tempfile.TemporaryDirectory() as folder:  # the diagnosis is done: it has not seen these labels
        (truth,) = open_labels(data, plain, Path(folder)).values()
    (target,) = found.targets
    causes = target.measures["explanation"]["causes"]
    steps = sorted((c for c in causes if causes[c]["step"]), key=lambda c: causes[c]["step"])
    return {
        "shift": f"embedded_{name}",
        "truth": CAUSES[name],
        "seed": seed,
        "dominant": target.dominant,
        "chosen": steps,
        "days": target.measures["calendar"]["days"],
        **covered(truth[truth != ""], target.measures["shares"]),
        "seconds": round(time.perf_counter() - start, 1),
    }


def covered(labels: np.ndarray, shares: dict[str, Any]) -> dict[str, int]:
    """In how many classes the bars of the estimated shares hold the true share of the target's parcels (N,)."""
    truth = np.array([(labels == name).mean() for name in shares["classes"]])
    counts = {"classes": len(shares["classes"])}
    for key in ("bbse", "em"):
        bounds = np.array(shares[f"{key}_interval"], float)
        counts[f"{key}_without_interval"] = int(np.isnan(bounds[:, 0]).sum())
        counts[f"{key}_covered"] = int(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).sum())
    return counts


def confusion(rows: list[dict[str, Any]]) -> str:
    """Markdown: rows = the cause that was simulated, columns = the dominant one that was found."""
    said = [*CAUSES.values(), BEYOND]
    lines = [f"| simulated | {' | '.join(said)} | right |", "|---|" + "---|" * (len(said) + 1)]
    for cause in CAUSES.values():
        mine = [r["dominant"] for r in rows if r["truth"] == cause]
        cells = [str(mine.count(other)) if other in mine else "" for other in said]
        lines.append(f"| {cause} | {' | '.join(cells)} | {mine.count(cause)} of {len(mine)} |")
    return "\n".join(lines)


def details(rows: list[dict[str, Any]]) -> str:
    """Markdown: what else was said of each kind of world."""
    lines = [
        "| simulated | causes chosen in all | days later, by seed | true share in the bar, BBSE | EM | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for cause in CAUSES.values():
        mine = [r for r in rows if r["truth"] == cause]
        if not mine:
            continue
        chosen = sorted({c for r in mine for c in r["chosen"]})
        often = ", ".join(f"{c} {sum(c in r['chosen'] for r in mine)}" for c in chosen) or "none"
        days = ", ".join(str(round(r["days"])) for r in mine)
        bars = [
            f"{sum(r[f'{key}_covered'] for r in mine)} of "
            f"{sum(r['classes'] - r[f'{key}_without_interval'] for r in mine)}"
            for key in ("bbse", "em")
        ]
        seconds = np.median([r["seconds"] for r in mine])
        lines.append(f"| {cause} | {often} | {days} | {' | '.join(bars)} | {seconds:.0f} |")
    return "\n".join(lines)


def write(rows: list[dict[str, Any]], about: dict[str, Any], out: Path) -> None:
    """Both files."""
    wrong = [f"`{r['shift']}` seed {r['seed']}: {r['dominant']}" for r in rows if r["dominant"] != r["truth"]]
    right = len(rows) - len(wrong)
    misses = f" Misses: {'; '.join(wrong)}." if wrong else ""
    seeds = ", ".join(map(str, about["seeds"]))
    text = f"""# Does the diagnosis name the cause?

`python -m eo_adapt.diagnose` on the simulated shifts FR + AT -> EE, each with one cause ([data](../data.md), "One cause
at a time"), no target label. Every seed is a world of its own, and the same seed draws the diagnosis. Measures and
thresholds: [diagnosis](../diagnosis.md).

```bash
{about["command"]}
```

eo_adapt {about["version"]}; {about["machine"]}; {about["parcels"]} parcels a country, of which train and val are read;
seeds {seeds}.

**Right: {right} of {len(rows)}.**{misses}

{confusion(rows)}

Rows: what was simulated. Columns: the dominant cause that was found.

{details(rows)}

*Causes chosen in all*: in how many worlds each cause counted, the dominant one among them. *Days later*: estimated move
of the calendar, used only where `phenology` is chosen. *True share in the bar*: classes whose true share lies within
the bar of the estimate, of those that have one; bars are sampling error only. Seconds are medians on a machine that was
busy with other work. Numbers by world: [diagnosis.json](diagnosis.json).
"""
    out.mkdir(parents=True, exist_ok=True)
    (out / "diagnosis.md").write_text(text)
    (out / "diagnosis.json").write_text(json.dumps({**about, "right": right, "worlds": rows}, indent=1) + "\n")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parcels", type=int, default=600, help="a country")
    parser.add_argument("--causes", nargs="+", choices=list(CAUSES), default=list(CAUSES))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    asked = parser.parse_args()
    words = ["python -m benchmarks.diagnosis --seeds", *map(str, asked.seeds), f"--parcels {asked.parcels}"]
    words += [] if asked.causes == list(CAUSES) else ["--causes", *asked.causes]
    rows = []
    with tempfile.TemporaryDirectory() as cache:
        os.environ["EO_ADAPT_CACHE"] = cache
        for seed in asked.seeds:
            for name in asked.causes:
                rows.append(once(name, seed, asked.parcels))
                print({k: rows[-1][k] for k in ("shift", "seed", "dominant", "chosen", "seconds")}, flush=True)
    about = {
        "command": " ".join(words),
        "version": version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "parcels": asked.parcels,
        "seeds": asked.seeds,
    }
    write(rows, about, asked.out)
    print(confusion(rows))


if __name__ == "__main__":
    main()
