"""Scores of checkpoints -> what each method reaches, by whose choice, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from ..registry import build
from ..selection.base import SelectionError, best
from .collect import KEYS, PARCELS

RUN = KEYS[:3]  # shift, method, seed: what a choice is made within, over trials and epochs alike


class TooFewError(ValueError):
    """An interval was asked for of fewer than two numbers."""


def choose(
    candidates: pd.DataFrame,
    selectors: Sequence[str],
    roles: Mapping[str, Mapping[str, str]] | None = None,
    score: str = PARCELS,
) -> pd.DataFrame:
    """What every selector chooses in every run, and what that scores on the sealed test.

    An oracle method chooses by its own rule whatever the selector: ``target_only`` by its labelled validation parcels,
    ``few_shot`` takes the last epoch.

    Args:
        candidates: As :func:`.collect.collect` made it.
        selectors: Entries of configs/selection; ``oracle`` is the choice by labelled target-val.
        roles: Shift -> domain -> ``source`` or ``target``; None = as :func:`roles_by_columns` guesses.
        score: What is compared: ``closed_macro_f1``, or of maps ``closed_miou``.

    Returns:
        One row a (shift, method, seed, selector): refused ("" unless the selector gave no number: then the rest is
        missing), trial, epoch, score (mean over targets of what is compared),
        worst (lowest target), source (mean over sources), ece, a_distance, oracle (score of what the oracle chooses;
        missing where no target has labelled validation parcels), regret = oracle - score, rank_correlation (Spearman,
        of the selector with the score, over candidates).
    """
    rows = []
    roles = roles_by_columns(candidates, score) if roles is None else roles
    for (shift, method, seed), group in candidates.groupby(RUN, sort=False):
        table = _scores(group, roles[str(shift)], score)
        own = own_selector(str(method))
        oracle = _oracle(table)
        for selector in selectors:
            row: dict[str, Any] = {"shift": shift, "method": method, "seed": seed, "selector": selector, "refused": ""}
            row |= {"oracle": oracle}
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


def roles_by_columns(candidates: pd.DataFrame, score: str = PARCELS) -> dict[str, dict[str, str]]:
    """Roles of domains where no report tells them: one with a labelled validation or an A-distance is a target."""
    found = {}
    for shift, group in candidates.groupby("shift"):
        known = group.dropna(axis=1, how="all").columns
        domains = [str(c).partition("/")[2] for c in known if str(c).startswith(f"{score}/")]
        targets = {d for d in domains if f"val/{d}" in known or f"a_distance/{d}" in known}
        found[str(shift)] = {d: "target" if d in targets else "source" for d in domains}
    return found


@cache
def own_selector(method: str) -> str | None:
    """By what an oracle method is chosen; None for a method that the selector chooses for."""
    if "+" in method or not (alignment := build("method", method)).uses_target_labels:
        return None
    return "last" if alignment.shots else "source_val"


@cache
def sees_labels(method: str) -> bool:
    """Whether a method, or a part of a stack, learns from target labels: all of them, or a few."""
    parts = [build("method", part) for part in method.split("+")]
    return any(part.uses_target_labels or part.tunes for part in parts)


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


def _scores(group: pd.DataFrame, roles: Mapping[str, str], score: str) -> pd.DataFrame:
    """Candidates of one run -> val (what the oracle sees), score, worst, source, ece, a_distance.

    Means are over the domains that have the number; nan where none has.
    """

    def on(name: str, role: str = "target") -> pd.DataFrame:
        return group.reindex(columns=[f"{name}/{domain}" for domain, is_a in roles.items() if is_a == role])

    table = {
        "val": on("val").mean(axis=1),
        "score": on(score).mean(axis=1),
        "worst": on(score).min(axis=1),
        "source": on(score, "source").mean(axis=1),
        "ece": on("ece").mean(axis=1),
        "a_distance": on("a_distance").mean(axis=1),
    }
    return pd.DataFrame(table)


def _oracle(table: pd.DataFrame) -> float:
    """Score of the choice by labelled target-val; nan where there is none."""
    try:
        return float(table["score"].iloc[best(table["val"].tolist(), "oracle")])
    except SelectionError:
        return float("nan")


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
    """:func:`interval`, with nan for the half width where it is refused.

    The mean is of the same kind then: of the scenarios' means, over the values that are known.
    """
    try:
        return interval(values, clusters)
    except TooFewError:
        known = pd.Series(list(values), dtype=float).groupby(list(clusters)).mean()
        return float(known.mean()), float("nan")


def summary(results: pd.DataFrame, runs: pd.DataFrame, selector: str) -> pd.DataFrame:
    """The benchmark's table, one row a method.

    Args:
        results: As :func:`choose` made it.
        runs: As :func:`.collect.collect` made it.
        selector: Whose choices are shown.

    Returns:
        Columns: method, score, score_ci, failed, incomplete, difference, difference_ci, win_rate, source_retained,
        worst, selector, oracle, gap_closed, regret, rank_correlation, ece, a_distance, seconds, peak_memory_mb,
        forwards_per_step, runs. Scores are shares in [0, 1]; ``_ci`` is a half width, nan where refused. ``incomplete``
        counts scenarios in which not every seed has a score: means are over the rest, and intervals are refused.
    """
    chosen = planned(results[results["selector"] == selector], runs)
    rows = []
    for method in runs["method"].drop_duplicates():
        mine = chosen[chosen["method"] == method]
        mean, half = or_nan(mine["score"].tolist(), mine["shift"].tolist())
        rows.append(
            {"method": method, "score": mean, "score_ci": half}
            | _failures(mine, runs[runs["method"] == method])
            | _against_source(chosen, method)
            | {"worst": mine.groupby("shift")["worst"].mean().min()}
            | {"selector": own_selector(method) or chosen_by(selector), "oracle": _mean(mine, "oracle")}
            | {"gap_closed": _gap_closed(chosen, method)}
            | {name: _mean(mine, name) for name in ("regret", "rank_correlation", "ece", "a_distance")}
            | _costs(runs[runs["method"] == method])
        )
    return pd.DataFrame(rows)


def planned(chosen: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Choices of one selector, with a row of missing numbers for every run that has none: it failed."""
    everything = runs[RUN].drop_duplicates().merge(chosen, on=RUN, how="left")
    everything["refused"] = everything["refused"].fillna("")
    # Beside a score there is the oracle's over the same choices, so that regret is their difference.
    return everything.assign(oracle=everything["oracle"].where(everything["score"].notna()))


def chosen_by(selector: str) -> str:
    """How a selector is spelt: ``auto`` with the criterion that it hands on to where there is a target."""
    return str(build("selection", selector).spelt(selector, targets=1))


def _mean(rows: pd.DataFrame, column: str) -> float:
    """Mean over scenarios of the mean over seeds."""
    return float(rows.groupby("shift")[column].mean().mean())


def _beside(chosen: pd.DataFrame, method: str, *others: str) -> pd.DataFrame:
    """Scores of a method and of others on every planned shift and seed of the method, a column ``<method>`` each."""
    table = chosen[chosen["method"] == method][["shift", "seed"]]
    for name in dict.fromkeys((method, *others)):
        scores = chosen.loc[chosen["method"] == name, ["shift", "seed", "score", "source"]]
        table = table.merge(
            scores.rename(columns={"score": name, "source": f"source {name}"}), on=["shift", "seed"], how="left"
        )
    return table


def _gap_closed(chosen: pd.DataFrame, method: str) -> float:
    """(method - source_only) / (target_only - source_only), over the shifts and seeds where all three have a score."""
    three = ["source_only", method, "target_only"]
    known = _beside(chosen, method, *three).dropna(subset=list(dict.fromkeys(three)))
    base, mine, top = (_mean(known, name) for name in three)
    return (mine - base) / (top - base) if top > base else float("nan")


def _against_source(chosen: pd.DataFrame, method: str) -> dict[str, float]:
    """Differences to source_only on the same shift and seed; a method without a score there loses."""
    both = _beside(chosen, method, "source_only")
    fair = both[both["source_only"].notna()]
    if method == "source_only" or fair.empty:
        return {"difference": np.nan, "difference_ci": np.nan, "win_rate": np.nan, "source_retained": np.nan}
    difference = both[method] - both["source_only"]
    mean, half = or_nan(difference.tolist(), both["shift"].tolist())
    wins = (fair[method] > fair["source_only"]) + 0.5 * (fair[method] == fair["source_only"])
    paired = both.dropna(subset=[f"source {method}", "source source_only"])
    kept, before = _mean(paired, f"source {method}"), _mean(paired, "source source_only")
    retained = kept / before if before else np.nan
    return {"difference": mean, "difference_ci": half, "win_rate": float(wins.mean()), "source_retained": retained}


def _failures(mine: pd.DataFrame, runs: pd.DataFrame) -> dict[str, int]:
    """Runs that failed: by an error, or because nothing could be chosen; scenarios that lack a score."""
    refused = int((mine["refused"] != "").sum())
    incomplete = int(mine.loc[mine["score"].isna(), "shift"].nunique())
    return {"runs": len(runs), "failed": int((runs["error"] != "").sum()) + refused, "incomplete": incomplete}


def _costs(runs: pd.DataFrame) -> dict[str, float]:
    """Means over runs that were timed whole."""
    whole = runs[(runs["error"] == "") & (runs["resumed"] == False)]  # noqa: E712  (the column has None, too)
    names = ("seconds", "peak_memory_mb", "forwards_per_step")
    return {name: float(whole[name].astype(float).mean()) for name in names}


def selectors_table(results: pd.DataFrame) -> pd.DataFrame:
    """How good each selector was: mean score, regret with interval, rank correlation; oracle methods left out.

    Those that refused least come first; means of the others are over what they did choose, and flatter them.
    """
    rows = []
    free = results[[not sees_labels(m) for m in results["method"]]]
    for selector, group in free.groupby("selector", sort=False):
        several = group["shift"].nunique() > 1  # with one scenario the unit is the seed: its methods share the parcels
        _, half = or_nan(group["regret"].tolist(), group["shift" if several else "seed"].astype(str).tolist())
        rows.append(
            {"selector": selector, "score": _mean(group, "score"), "regret": _mean(group, "regret")}
            | {"regret_ci": half, "worst_regret": group["regret"].max()}
            | {"rank_correlation": _mean(group, "rank_correlation"), "choices": len(group)}
            | {"refused": int((group["refused"] != "").sum())}
        )
    return pd.DataFrame(rows).sort_values(["refused", "regret"], ignore_index=True)
