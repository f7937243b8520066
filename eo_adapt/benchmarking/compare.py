"""Scores of checkpoints -> what each method reaches, by whose choice, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..registry import build
from ..selection.base import SelectionError, best
from .collect import KEYS

RUN = KEYS[:3]  # shift, method, seed: what a choice is made within, over trials and epochs alike
SCORE = "closed_macro_f1"


class TooFewError(ValueError):
    """An interval was asked for of fewer than two numbers."""


def choose(candidates: pd.DataFrame, selectors: Sequence[str]) -> pd.DataFrame:
    """What every selector chooses in every run, and what that scores on the sealed test.

    An oracle method chooses by its own rule whatever the selector: ``target_only`` by its labelled validation parcels,
    ``few_shot`` takes the last epoch.

    Args:
        candidates: As :func:`.collect.collect` made it.
        selectors: Entries of configs/selection; ``oracle`` is the choice by labelled target-val.

    Returns:
        One row a (shift, method, seed, selector): refused ("" unless the selector gave no number: then the rest is
        missing), trial, epoch, score (mean over targets of the closed-set macro-F1),
        worst (lowest target), source (mean over sources), ece, a_distance, oracle (score of what the oracle chooses),
        regret = oracle - score, rank_correlation (Spearman, of the selector with the score, over candidates).
    """
    rows = []
    for (shift, method, seed), group in candidates.groupby(RUN, sort=False):
        table = _scores(group)
        own = own_selector(str(method))
        by_labels = best(table["val"].tolist(), "oracle")
        for selector in selectors:
            row: dict[str, Any] = {"shift": shift, "method": method, "seed": seed, "selector": selector, "refused": ""}
            row |= {"oracle": float(table["score"].iloc[by_labels])}
            try:
                scores = final_scores(group, own or selector, table["val"])
                i = best(scores, selector)
            except SelectionError as error:
                rows.append(row | {"refused": str(error)})
                continue
            row |= {"trial": int(group["trial"].iloc[i]), "epoch": int(group["epoch"].iloc[i])}
            row |= {str(name): float(table[name].iloc[i]) for name in table.columns.drop("val")}
            row |= {"regret": row["oracle"] - row["score"]}
            row |= {"rank_correlation": rank_correlation(scores, table["score"].tolist())}
            rows.append(row)
    return pd.DataFrame(rows)


@cache
def own_selector(method: str) -> str | None:
    """By what an oracle method is chosen; None for a method that the selector chooses for."""
    if "+" in method or not (alignment := build("method", method)).uses_target_labels:
        return None
    return "last" if alignment.shots else "source_val"


def final_scores(group: pd.DataFrame, selector: str, val: pd.Series) -> list[float]:
    """Score of every candidate of a run by one selector, over trials and epochs alike."""
    if selector == "oracle":
        return val.tolist()
    columns = [c for c in map(str, group.columns) if c.startswith("select/")]
    history = {c.removeprefix("select/"): group[c].tolist() for c in columns}
    criterion = build("selection", selector)
    if missing := [name for name in (criterion.members or (selector,)) if name not in history]:
        raise LookupError(
            f"the runs did not log {missing}, which selector {selector} needs; they logged {sorted(history)}"
        )
    scores: list[float] = criterion.over(history, selector)
    return scores


def _scores(group: pd.DataFrame) -> pd.DataFrame:
    """Candidates of one run -> val (what the oracle sees), score, worst, source, ece, a_distance."""
    here = group.dropna(axis=1, how="all")
    columns = list(map(str, here.columns))
    targets = [c.removeprefix("val/") for c in columns if c.startswith("val/")]
    sources = [c for c in columns if c.startswith(f"{SCORE}/") and c.removeprefix(f"{SCORE}/") not in targets]
    on = {name: here[[f"{name}/{t}" for t in targets]] for name in ("val", SCORE, "ece", "a_distance")}
    table = {
        "val": on["val"].mean(axis=1),
        "score": on[SCORE].mean(axis=1),
        "worst": on[SCORE].min(axis=1),
        "source": here[sources].mean(axis=1),
        "ece": on["ece"].mean(axis=1),
        "a_distance": on["a_distance"].mean(axis=1),
    }
    return pd.DataFrame(table)


def rank_correlation(scores: Sequence[float], truth: Sequence[float]) -> float:
    """Spearman's rho over candidates; nan where one of them does not vary or fewer than three are known."""
    a, b = np.asarray(scores, float), np.asarray(truth, float)
    known = np.isfinite(a) & np.isfinite(b)
    if known.sum() < 3 or np.ptp(a[known]) == 0 or np.ptp(b[known]) == 0:
        return float("nan")
    return float(stats.spearmanr(a[known], b[known]).statistic)


def interval(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """Mean and half width of its 95 % t interval, clustered by scenario.

    Runs of one scenario share its parcels and are no independent evidence: with two or more scenarios the unit is the
    scenario's mean, with one it is the seed. A bootstrap of a handful of clusters would be too narrow.

    Raises:
        TooFewError: If there are fewer than two units, or a value is not a number.
    """
    frame = pd.DataFrame({"value": np.asarray(values, float), "cluster": list(clusters)})
    if frame["value"].isna().any():
        raise TooFewError(
            f"{int(frame['value'].isna().sum())} of {len(frame)} values are not numbers; count them as failures"
        )
    units = frame.groupby("cluster")["value"].mean() if frame["cluster"].nunique() > 1 else frame["value"]
    if len(units) < 2:
        raise TooFewError(f"an interval needs at least two seeds or two scenarios; got {len(units)}: set seeds=5")
    half = stats.t.ppf(0.975, len(units) - 1) * units.std(ddof=1) / np.sqrt(len(units))
    return float(units.mean()), float(half)


def or_nan(values: Sequence[float], clusters: Sequence[str]) -> tuple[float, float]:
    """:func:`interval`, with nan for the half width where it is refused."""
    try:
        return interval(values, clusters)
    except TooFewError:
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan"), float("nan")


def summary(results: pd.DataFrame, runs: pd.DataFrame, selector: str) -> pd.DataFrame:
    """The benchmark's table, one row a method.

    Args:
        results: As :func:`choose` made it.
        runs: As :func:`.collect.collect` made it.
        selector: Whose choices are shown.

    Returns:
        Columns: method, score, score_ci, worst, difference, difference_ci, win_rate, selector, oracle, regret,
        gap_closed, rank_correlation, ece, source_retained, a_distance, seconds, peak_memory_mb, forwards_per_step,
        runs, failed. Scores are shares in [0, 1]; ``_ci`` is a half width, nan where refused.
    """
    chosen = results[results["selector"] == selector]
    base = _mean(chosen, "source_only", "score")
    top = _mean(chosen, "target_only", "score")
    rows = []
    for method in runs["method"].drop_duplicates():
        mine = chosen[chosen["method"] == method]
        mean, half = or_nan(mine["score"].tolist(), mine["shift"].tolist()) if len(mine) else (np.nan, np.nan)
        rows.append(
            {"method": method, "score": mean, "score_ci": half, **_against_source(chosen, method)}
            | {"worst": mine.groupby("shift")["worst"].mean().min()}
            | {"selector": own_selector(method) or selector, "oracle": _mean(chosen, method, "oracle")}
            | {"gap_closed": (mean - base) / (top - base) if top > base else np.nan}
            | {name: _mean(chosen, method, name) for name in ("regret", "rank_correlation", "ece", "a_distance")}
            | _costs(runs[runs["method"] == method], refused=int((mine["refused"] != "").sum()))
        )
    return pd.DataFrame(rows)


def _mean(chosen: pd.DataFrame, method: str, column: str) -> float:
    """Mean over scenarios of the mean over seeds."""
    return float(chosen[chosen["method"] == method].groupby("shift")[column].mean().mean())


def _against_source(chosen: pd.DataFrame, method: str) -> dict[str, float]:
    """Differences to source_only on the same shift and seed."""
    keys = ["shift", "seed"]
    base, mine = (chosen[chosen["method"] == name] for name in ("source_only", method))
    both = mine.merge(base, on=keys, suffixes=("", "_base"))
    if method == "source_only" or both.empty:
        return {"difference": np.nan, "difference_ci": np.nan, "win_rate": np.nan, "source_retained": np.nan}
    difference = both["score"] - both["score_base"]
    mean, half = or_nan(difference.tolist(), both["shift"].tolist())
    wins = (difference > 0) + 0.5 * (difference == 0)  # what could not be chosen is a loss
    kept = both.groupby("shift")[["source", "source_base"]].mean().mean()
    retained = float(kept["source"] / kept["source_base"]) if kept["source_base"] else np.nan
    return {"difference": mean, "difference_ci": half, "win_rate": float(wins.mean()), "source_retained": retained}


def _costs(runs: pd.DataFrame, refused: int) -> dict[str, float]:
    """Means over runs that were timed whole, and how many failed: by an error, or because nothing could be chosen."""
    whole = runs[(runs["error"] == "") & (runs["resumed"] == False)]  # noqa: E712  (the column has None, too)
    costs = {
        name: float(whole[name].astype(float).mean()) for name in ("seconds", "peak_memory_mb", "forwards_per_step")
    }
    return costs | {"runs": len(runs), "failed": int((runs["error"] != "").sum()) + refused}


def selectors_table(results: pd.DataFrame) -> pd.DataFrame:
    """How good each selector was: mean score, regret with interval, rank correlation; oracle methods left out.

    Those that refused least come first; means of the others are over what they did choose, and flatter them.
    """
    rows = []
    free = results[[own_selector(m) is None for m in results["method"]]]
    for selector, group in free.groupby("selector", sort=False):
        several = group["shift"].nunique() > 1  # with one scenario the unit is the seed: its methods share the parcels
        mean, half = or_nan(group["regret"].tolist(), group["shift" if several else "seed"].astype(str).tolist())
        rows.append(
            {"selector": selector, "score": group.groupby("shift")["score"].mean().mean(), "regret": mean}
            | {"regret_ci": half, "worst_regret": group["regret"].max()}
            | {"rank_correlation": group.groupby("shift")["rank_correlation"].mean().mean(), "choices": len(group)}
            | {"refused": int((group["refused"] != "").sum())}
        )
    return pd.DataFrame(rows).sort_values(["refused", "regret"], ignore_index=True)
