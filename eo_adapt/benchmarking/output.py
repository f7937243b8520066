"""What a benchmark leaves behind: parquet, json, markdown, the page, the lines on the screen."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..rundir import write_text
from ..tables import write_frame
from .collect import Collected
from .compare import choose, chosen_by, or_nan, planned, sees_labels, selectors_table, summary
from .page import write_page
from .plan import label_free
from .suite import Suite

# Column of the table -> heading, and how a number is spelt; "points" are percent without the sign.
COLUMNS = {
    "method": ("method", ""),
    "score": ("score", "points"),
    "failed": ("failed", "count"),
    "incomplete": ("incomplete", "count"),
    "worst": ("worst domain", "points"),
    "difference": ("to source_only", "signed"),
    "win_rate": ("wins", "percent"),
    "selector": ("chosen by", ""),
    "oracle": ("oracle", "points"),
    "regret": ("regret", "points"),
    "gap_closed": ("gap closed", "percent"),
    "rank_correlation": ("rank corr.", "number"),
    "ece": ("ECE", "points"),
    "source_retained": ("source kept", "percent"),
    "a_distance": ("A-distance", "number"),
    "seconds": ("seconds", "whole"),
    "peak_memory_mb": ("peak MB", "whole"),
    "forwards_per_step": ("forwards a step", "number"),
}
SPELT = {"closed_macro_f1": "macro-F1", "closed_miou": "mIoU"}  # what runs say they are compared by
EXPLAINED = (
    "score: {score} of the classes that source and target share, on the sealed target test, in points; mean over "
    "targets, seeds and scenarios, ± half width of the 95 % t interval (over scenarios; with one over seeds). failed: "
    "runs with an error and choices that the selector refused; incomplete: scenarios that lack the score of a seed, so "
    "that means are over the rest and there is no interval. worst domain: lowest target. to source_only: paired "
    "difference on a scenario and seed; wins: share of pairs above, one without a score loses. oracle: what the choice "
    "by labelled target-val scores; regret: oracle - score. gap closed: (score - source_only) / (target_only - "
    "source_only), where all three have a score. rank corr.: Spearman of the selector with the score over checkpoints. "
    "ECE: of probabilities calibrated on source-val. source kept: source score over that of source_only. A-distance: "
    "linear probe on features, 0 = not to be told apart, 2 = always. few_shot and target_only see target labels and "
    "choose by their own rule."
)
WIDE = ("method", "score", "failed", "worst domain", "to source_only", "wins", "regret")  # on the screen
NARROW = ("method", "score", "failed", "to source_only", "wins")
MISSING = "\N{EN DASH}"
LOSES, LOSS = "\N{BLACK DOWN-POINTING TRIANGLE}", 0.01  # negative transfer, and from what loss on


def write_all(found: Collected, suite: Suite, selector: str, folder: Path, command: str) -> dict[str, Any]:
    """Choose, compare, write everything.

    Args:
        found: What the runs left.
        suite: What they ran on.
        selector: Whose choices the table shows.
        folder: Where to.
        command: How to repeat it.

    Returns:
        ``table``, ``results``, ``selectors`` and ``runs``, data frames.
    """
    logged = [name for name in label_free() if f"select/{name}" in found.candidates]  # older runs know fewer
    results = choose(found.candidates, list(dict.fromkeys([selector, *logged, "oracle"])), found.roles, found.score)
    made = {
        "table": summary(results, found.runs, selector),
        "results": results,
        "selectors": selectors_table(results),
        "runs": found.runs,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_frame(results, folder / "benchmark.parquet")
    write_frame(found.candidates, folder / "candidates.parquet")
    about = {
        "suite": suite.title,
        "score": found.score,
        "command": command,
        "selector": selector,
        "chosen_by": chosen_by(selector),
        "roles": found.roles,
        "versions": sorted(set(found.runs["version"].dropna())),
        "data_versions": {str(k): v for k, v in found.runs.groupby("shift")["data_version"].first().items()},
        "machine": machine(),
        "seeds": int(found.runs["seed"].nunique()),
        "trials": int(found.runs["trial"].nunique()),
    }
    short = {**made, "results": results[results["selector"] == selector]}  # the parquet has those of all selectors
    tables = {name: json.loads(short[name].to_json(orient="records")) for name in ("table", "selectors", "results")}
    failures = json.loads(found.runs[found.runs["error"] != ""].to_json(orient="records"))
    write_text(folder / "benchmark.json", json.dumps({**about, **tables, "failures": failures}, indent=1))
    write_text(folder / "table.md", markdown(made, about))
    write_page(folder / "report.html", made, suite, about)
    return made


def machine() -> str:
    """Processor kind and cores, and the accelerator where there is one."""
    import torch

    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {os.cpu_count()} cores{device}"


def spelt(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, headings and all."""
    out = {}
    for column, (heading, kind) in COLUMNS.items():
        ci = table.get(f"{column}_ci", pd.Series(np.nan, table.index))
        out[heading] = [spell(value, kind, half) for value, half in zip(table[column], ci, strict=True)]
    return pd.DataFrame(out)


def spell(value: Any, kind: str, half: float = float("nan")) -> str:
    """One cell."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return MISSING
    unit = SCALE.get(kind, 1)
    text = f"{unit * value:{FORMAT[kind]}}" + (" %" if kind == "percent" else "")
    return text + (f" ± {unit * half:.1f}" if half == half else "")


SCALE = {"points": 100, "signed": 100, "percent": 100}
FORMAT = {"points": ".1f", "signed": "+.1f", "percent": ".0f", "number": ".2f", "whole": ",.0f", "count": ".0f"}


def numbers(table: pd.DataFrame, columns: Sequence[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Some columns of the table as numbers, so that a page can sort them, and how each is spelt."""
    out: dict[str, Any] = {}
    formats = {}
    for column in columns:
        heading, kind = COLUMNS[column]
        unit = SCALE.get(kind, 1)
        heading += ", %" if kind == "percent" else ""
        out[heading] = table[column] if not kind else unit * table[column].astype(float)
        formats[heading] = FORMAT.get(kind, "")
        if f"{column}_ci" in table:
            out[f"± {heading}"], formats[f"± {heading}"] = unit * table[f"{column}_ci"].astype(float), ".1f"
    return pd.DataFrame(out), formats


def as_markdown(frame: pd.DataFrame) -> str:
    """A frame of texts as a markdown table."""
    lines = [" | ".join(map(str, row)) for row in [frame.columns, ["---"] * frame.shape[1], *frame.to_numpy()]]
    return "\n".join(f"| {line} |" for line in lines)


def selectors_spelt(table: pd.DataFrame) -> pd.DataFrame:
    """The selectors' table as text."""
    halves = table["regret_ci"]
    return pd.DataFrame(
        {
            "selector": table["selector"],
            "score": [spell(v, "points") for v in table["score"]],
            "regret": [spell(v, "points", h) for v, h in zip(table["regret"], halves, strict=True)],
            "worst regret": [spell(v, "points") for v in table["worst_regret"]],
            "rank corr.": [spell(v, "number") for v in table["rank_correlation"]],
            "choices": table["choices"].astype(str),
            "refused": table["refused"].astype(str),
        }
    )


def by_shift(results: pd.DataFrame, runs: pd.DataFrame, selector: str) -> pd.DataFrame:
    """Score of every method (row) on every shift, as text: mean and interval over seeds, none where one has no score.

    A mean of paired differences below -1 point is marked: negative transfer.
    """
    chosen = planned(results[results["selector"] == selector], runs)
    scores = chosen.pivot_table(index="seed", columns=["shift", "method"], values="score", dropna=False)
    rows: dict[str, dict[str, str]] = {}
    for (shift, method), mine in chosen.groupby(["shift", "method"], sort=False):
        cell = spell(*_cell(or_nan(mine["score"].tolist(), ["seeds"] * len(mine))))
        if (shift, "source_only") in scores and (scores[shift, method] - scores[shift, "source_only"]).mean() < -LOSS:
            cell += f" {LOSES}"
        rows.setdefault(str(method), {"method": str(method)})[str(shift)] = cell
    return pd.DataFrame(list(rows.values())).fillna(MISSING)


def _cell(pair: tuple[float, float]) -> tuple[float, str, float]:
    return pair[0], "points", pair[1]


def explained(about: Mapping[str, Any]) -> str:
    """What the columns of the table mean."""
    return EXPLAINED.format(score=SPELT[about["score"]])


def markdown(made: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> str:
    """table.md: the tables, and what made them."""
    runs = made["runs"]
    failed = runs[runs["error"] != ""]
    parts = [
        f"## {about['suite']}",
        f"eo_adapt {', '.join(about['versions'])}; {about['machine']}; {about['seeds']} seeds, {about['trials']} "
        f"trials a method; checkpoint and trial chosen by {about['chosen_by']}.",
        f"```bash\n{about['command']}\n```",
        as_markdown(spelt(made["table"])),
        explained(about),
        f"### By shift\n\n{LOSES}: more than {100 * LOSS:.0f} point below source_only, mean of paired differences.\n\n"
        + as_markdown(by_shift(made["results"], runs, about["selector"])),
        "### Selectors, over all methods that see no target labels\n\n"
        + as_markdown(selectors_spelt(made["selectors"])),
    ]
    if len(failed):
        lines = [f"- {r.shift}, {r.method}, seed {r.seed}, trial {r.trial}: {r.error}" for r in failed.itertuples()]
        parts.append("### Failed runs\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def show(made: Mapping[str, pd.DataFrame], folder: Path) -> None:
    """The last lines on the screen."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    score = SPELT[json.loads((folder / "benchmark.json").read_text())["score"]]
    text = spelt(made["table"])[list(WIDE if console.width > 90 else NARROW)]
    table = Table(title=f"target {score} of shared classes, points", title_justify="left")
    for column in text:
        is_name = column == "method"
        table.add_column(str(column), justify="left" if is_name else "right", no_wrap=is_name)
    for row in text.to_numpy():
        labelled = sees_labels(str(row[0]))
        table.add_row(*map(str, row), style="dim" if labelled else None)
    console.print(table)
    console.print("dim: sees target labels", highlight=False)
    print(f"outputs: {folder}")
