"""report.html of a benchmark."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..report.citations import CITED, data_entries, library
from ..report.page import Page
from .compare import sees_labels
from .suite import Suite

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCORES = (
    "method", "score", "failed", "incomplete", "worst", "difference", "win_rate", "gap_closed", "ece",
    "source_retained",
)  # fmt: skip
CHOICE = (
    "method", "selector", "oracle", "regret", "rank_correlation", "a_distance", "seconds", "peak_memory_mb",
    "forwards_per_step",
)  # fmt: skip
REGRET = ("score", "regret", "regret_ci", "worst_regret")
SELECTORS = {"regret_ci": "± regret", "worst_regret": "worst regret", "rank_correlation": "rank corr."}
TENTHS = {"score": ".1f", "regret": ".1f", "± regret": ".1f", "worst regret": ".1f", "rank corr.": ".2f"}
SELDOM = 0.2  # share of pairs won at which a negative mean is named though it is not certain
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#767676"  # Okabe and Ito; told apart by all


def write_page(path: Path, made: Mapping[str, pd.DataFrame], suite: Suite, about: Mapping[str, Any]) -> None:
    """Write the page.

    Args:
        path: Where to.
        made: ``table``, ``results``, ``selectors``, ``runs``.
        suite: What ran.
        about: Command, versions, machine, counts.
    """
    from .output import explained, numbers

    table, results, runs, selector = made["table"], made["results"], made["runs"], about["selector"]
    page = Page(f"Benchmark: {suite.title}", lead(table, about))
    for warning in warnings(made, about):
        page.warn(warning)
    page.section("Methods")
    page.table(*_args(numbers(table, SCORES), "What every method reaches, points"), note=explained(about))
    page.figure(
        differences(results, selector),
        "Dots: difference of each method to source_only on each shift and seed; bars: mean over each shift.",
        "Paired differences to source_only, points; each dot is one shift and seed",
    )
    page.table(*_args(numbers(table, CHOICE), "Who chose, and what it cost"))
    page.section("By shift")
    chosen = results[results["selector"] == selector].assign(points=lambda r: 100 * r["score"].astype(float))
    means = chosen.pivot_table(index="shift", columns="method", values="points", sort=False).reset_index()
    page.table(means, "Score, mean over seeds, points", dict.fromkeys(map(str, means.columns[1:]), ".1f"))
    page.section("Selectors", "Which criterion would have chosen best, over all methods that see no target labels.")
    judged = made["selectors"].assign(**{c: 100 * made["selectors"][c].astype(float) for c in REGRET})
    page.table(
        judged.rename(columns=SELECTORS), "Regret: score of the oracle's choice - the selector's, points", TENTHS
    )
    if suite.published:
        page.section("Published numbers", "Measured by others under other protocols; not comparable digit by digit.")
        page.table(pd.DataFrame([vars(p) for p in suite.published]), "Numbers of others", {"value": ".1f"})
    failed = runs.loc[runs["error"] != "", ["shift", "method", "seed", "trial", "error"]]
    if len(failed):
        page.section("Failed runs", "They count as failures in the table; run them again with retry=true.")
        page.table(failed, "Failed runs and why")
    page.section("How to repeat it")
    page.command(about["command"])
    words = {"every run": suite.overrides, **suite.options}
    told = {f"told to {who}": " ".join(said) for who, said in words.items() if said}
    page.facts({"versions": ", ".join(about["versions"]), "machine": about["machine"], **told})
    page.bibtex(cited(table["method"].tolist(), selector, suite))
    page.write(path)


def cited(methods: Sequence[str], selector: str, suite: Suite) -> list[str]:
    """BibTeX of the suite's data, of the methods and of the selector, each once."""
    from ..data.recipe import Recipe
    from ..registry import config

    recipes = dict.fromkeys(str(config(f"shift={shift}").data.recipe) for shift in suite.shifts)
    data = [e for r in recipes for e in data_entries({"recipe": r, "citation": Recipe.load(r).citation})]
    wanted = [CITED["method"].get(part, ()) for method in methods for part in method.split("+")]
    keys = dict.fromkeys(key for found in (*wanted, CITED["selection"].get(selector, ())) for key in found)
    return [*data, *(library()[key] for key in keys)]


def _args(made: tuple[pd.DataFrame, dict[str, str]], caption: str) -> tuple[pd.DataFrame, str, dict[str, str]]:
    return made[0], caption, made[1]


def lead(table: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """What came out, in two sentences."""
    free = table[[not sees_labels(m) for m in table["method"]]]
    scored = free.dropna(subset=["score"]).sort_values("score")
    text = f"{len(table)} methods, {about['seeds']} seeds. "
    if scored.empty:
        return f"{text}No method without target labels has a score."
    first, base = scored.iloc[-1], scored.loc[scored["method"] == "source_only", "score"]
    if first["method"] == "source_only":
        score = f"{100 * first['score']:.1f} points"
        return f"{text}Without target labels none has a higher mean than source_only: {score}."
    text += f"Highest mean without target labels: {first['method']}, {100 * first['score']:.1f} points"
    return text + (f"; source_only {100 * base.iloc[0]:.1f}." if len(base) else "; source_only has no score.")


def warnings(made: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before believing the table."""
    table, runs = made["table"], made["runs"]
    if about["seeds"] < 2:
        yield "one seed: no interval can be given over seeds; set seeds=5"
    if failed := int((runs["error"] != "").sum()):
        yield f"{failed} of {len(runs)} runs failed; methods with failures are means over the rest"
    if len(about["versions"]) > 1:
        yield f"runs of different versions stand in one table: {', '.join(about['versions'])}"
    yield from gaps(made, about)
    free = table[[not sees_labels(m) for m in table["method"]]]
    yield from negative_transfer(free)
    few = table.loc[table["method"] == "few_shot", "score"].astype(float).max()
    if below := free.loc[free["score"] < few, "method"].tolist():
        yield f"a few target labels a class alone (few_shot) reach {100 * few:.1f} points, more than {', '.join(below)}"
    others = made["selectors"].query("selector != 'oracle' and refused == 0")
    mine = others.loc[others["selector"] == about["selector"], "regret"].astype(float).max()
    if len(others) and mine - float(others["regret"].min()) > 0.02:
        first = others.sort_values("regret").iloc[0]
        yield (
            f"selector {about['chosen_by']} has a regret of {100 * mine:.1f} points; {first['selector']} would have "
            f"had {100 * first['regret']:.1f}"
        )


def gaps(made: Mapping[str, pd.DataFrame], about: Mapping[str, Any]) -> Iterator[str]:
    """Choices that were refused, and means that are not over everything that was planned."""
    results, table = made["results"], made["table"]
    mine = results[results["selector"] == about["selector"]]
    refused = mine[mine["refused"] != ""]
    if len(refused):
        counts = refused["method"].value_counts()
        listed = ", ".join(f"{method} {n} of {(mine['method'] == method).sum()}" for method, n in counts.items())
        yield (
            f"selector {about['chosen_by']} refused {len(refused)} of {len(mine)} choices ({listed}): means are over "
            f"the rest. Its reason, e.g.: {refused['refused'].iloc[0]}"
        )
    scenarios = made["runs"]["shift"].nunique()
    for row in table[table["incomplete"] > 0].to_dict("records"):
        yield (
            f"{row['method']} lacks scores in {row['incomplete']} of {scenarios} scenarios: its means are over the "
            "rest, have no interval, and do not compare with those of complete methods"
        )


def negative_transfer(free: pd.DataFrame) -> Iterator[str]:
    """Methods that lose to source_only, surely or seldom winning."""
    for row in free[free["difference"] < 0].to_dict("records"):
        half = row["difference_ci"]
        by = f"{100 * row['difference']:.1f}{f' ± {100 * half:.1f}' if half == half else ''} points against source_only"
        if row["difference"] + half < 0:
            yield f"negative transfer: {row['method']} scores {by}"
        elif row["win_rate"] <= SELDOM:
            why = "the interval holds 0" if half == half else "there is no interval"
            yield (
                f"perhaps negative transfer: {row['method']} scores {by} and wins {100 * row['win_rate']:.0f} % of the "
                f"pairs; it is not certain, {why}"
            )


def differences(results: pd.DataFrame, selector: str) -> Figure:
    """Paired differences to source_only: a dot a shift and seed, a bar a shift's mean."""
    from matplotlib.figure import Figure

    chosen = results[results["selector"] == selector]
    table = chosen.pivot_table(index=["shift", "seed"], columns="method", values="score", sort=False)
    base = table.get("source_only", pd.Series(np.nan, table.index))
    methods = [m for m in table.columns if m != "source_only"]
    figure = Figure(figsize=(8, 0.6 + 0.45 * max(1, len(methods))), layout="constrained")
    axes = figure.subplots()
    for y, method in enumerate(methods):
        points = 100 * (table[method] - base)
        colour = ORANGE if sees_labels(str(method)) else BLUE
        axes.scatter(points, np.full(len(points), y), s=14, color=colour, alpha=0.5, lw=0)
        means = points.groupby("shift").mean()
        axes.scatter(means, np.full(len(means), y), s=140, marker="|", color=colour, lw=2)
    axes.axvline(0, color=GREY, lw=1)
    axes.set_yticks(range(len(methods)), methods)
    axes.invert_yaxis()
    axes.set_xlabel("points above source_only (orange: sees target labels)")
    return figure
