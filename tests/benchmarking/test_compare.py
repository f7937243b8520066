"""Statistics of the table, each against another way to compute it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eo_adapt.benchmarking.compare import (
    TooFewError,
    choose,
    interval,
    or_nan,
    rank_correlation,
    selectors_table,
    summary,
)

METHODS = {"source_only": 0.4, "coral": 0.5, "target_only": 0.8, "few_shot": 0.45}


def candidate(shift: str, method: str, seed: int, epoch: int, **more: Any) -> dict[str, Any]:
    """One checkpoint; its test score is its val score, and source_val says the opposite unless told."""
    score = METHODS.get(method, 0.5) + 0.01 * seed + 0.02 * epoch + (0.1 if shift == "b" else 0)
    row = {"shift": shift, "method": method, "seed": seed, "trial": 0, "epoch": epoch}
    row |= {"select/source_val": -score, "select/last": float(epoch), "select/infomax": score}
    row |= {"val/EE": score, "closed_macro_f1/EE": score, "closed_macro_f1/FR": 0.9, "ece/EE": 0.1}
    return {**row, "a_distance/EE": 1.0, "ece/FR": 0.0, **more}


def table(shifts: str = "ab", seeds: int = 3, epochs: int = 4) -> pd.DataFrame:
    keys = itertools.product(shifts, METHODS, range(seeds), range(epochs))
    return pd.DataFrame([candidate(*key) for key in keys])


def runs_of(candidates: pd.DataFrame) -> pd.DataFrame:
    runs = candidates[["shift", "method", "seed", "trial"]].drop_duplicates()
    return runs.assign(error="", seconds=2.0, peak_memory_mb=5.0, forwards_per_step=2.0, resumed=False)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_interval_of_one_scenario_is_students(values: list[float]) -> None:
    mean, half = interval(values, ["a"] * len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values)) if half else (mean, mean)
    assert mean == pytest.approx(np.mean(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_scenarios_are_the_units_when_there_are_several() -> None:
    # Many seeds of two scenarios are two pieces of evidence.
    few = interval([0.1, 0.3, 0.5, 0.7], ["a", "a", "b", "b"])
    many = interval([0.1, 0.3] * 50 + [0.5, 0.7] * 50, ["a"] * 100 + ["b"] * 100)
    assert few == pytest.approx(many)
    assert few[1] == pytest.approx(stats.t.ppf(0.975, 1) * np.std([0.2, 0.6], ddof=1) / np.sqrt(2))


@pytest.mark.parametrize(("values", "clusters"), [([0.5], "a"), ([0.5, float("nan")], "aa"), ([], "")])
def test_no_interval_is_faked(values: list[float], clusters: str) -> None:
    with pytest.raises(TooFewError):
        interval(values, list(clusters))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    candidates = table("a", seeds=1)
    made = summary(choose(candidates, ["last"]), runs_of(candidates), "last").set_index("method")
    assert made.loc["coral", "score"] == pytest.approx(0.56)
    assert made.loc["coral"][["score_ci", "difference_ci"]].isna().all()


def test_a_choice_is_the_selectors_and_regret_is_what_it_costs() -> None:
    found = choose(table(), ["source_val", "infomax", "oracle"]).set_index(["shift", "method", "seed", "selector"])
    bad, good, oracle = (found.loc[("a", "coral", 1, name)] for name in ("source_val", "infomax", "oracle"))
    assert (bad["epoch"], good["epoch"], oracle["epoch"]) == (0, 3, 3)
    assert bad["regret"] == pytest.approx(0.06)
    assert good["regret"] == oracle["regret"] == 0
    assert bad["rank_correlation"] == pytest.approx(-1)
    assert good["rank_correlation"] == pytest.approx(1)


def test_a_choice_is_made_over_trials_and_epochs_alike() -> None:
    one, other = table("a"), table("a").assign(trial=1)
    for column in ("select/infomax", "val/EE", "closed_macro_f1/EE"):
        other[column] += 0.005  # better than the same epoch of trial 0, worse than its next
    found = choose(pd.concat([one, other]), ["infomax"]).query("method == 'coral'")
    assert set(found["trial"]) == {1}
    assert set(found["epoch"]) == {3}


def test_oracles_choose_by_their_own_rule() -> None:
    found = choose(table(), ["infomax"]).set_index(["shift", "method", "seed"])
    assert found.loc[("a", "few_shot", 0), "epoch"] == 3  # the last
    assert found.loc[("a", "target_only", 0), "epoch"] == 0  # its labelled validation, source_val in its log


def test_the_summary_against_plain_numpy() -> None:
    candidates = table()
    made = summary(choose(candidates, ["infomax"]), runs_of(candidates), "infomax").set_index("method")
    score = {m: [METHODS[m] + 0.06 + 0.01 * s + b for b in (0, 0.1) for s in range(3)] for m in METHODS}
    score["target_only"] = [x - 0.06 for x in score["target_only"]]
    coral, source, target = (np.mean(score[m]) for m in ("coral", "source_only", "target_only"))
    row = made.loc["coral"]
    assert row["score"] == pytest.approx(coral)
    assert row["difference"] == pytest.approx(0.1)
    assert row["difference_ci"] == pytest.approx(0, abs=1e-9)  # paired: the spread of shifts and seeds drops out
    assert row["score_ci"] > 0.1
    assert row["win_rate"] == 1
    assert row["worst"] == pytest.approx(np.mean(score["coral"][:3]))
    assert row["gap_closed"] == pytest.approx((coral - source) / (target - source))
    assert row["source_retained"] == pytest.approx(1)
    assert row["seconds"] == 2
    assert made.loc["source_only", ["difference", "win_rate"]].isna().all()


def test_failures_are_counted_and_what_was_resumed_is_not_timed() -> None:
    candidates = table()
    runs = runs_of(candidates)
    lost = (runs["method"] == "coral") & (runs["seed"] == 0)
    runs.loc[lost, "error"] = "NotFiniteError: loss"
    runs.loc[(runs["method"] == "coral") & (runs["seed"] == 1), ["seconds", "resumed"]] = [1000.0, True]
    kept = candidates[~((candidates["method"] == "coral") & (candidates["seed"] == 0))]
    row = summary(choose(kept, ["infomax"]), runs, "infomax").set_index("method").loc["coral"]
    assert row["failed"] == 2
    assert row["runs"] == 6
    assert row["seconds"] == 2


def test_a_selector_that_refuses_is_a_failure_not_a_gap() -> None:
    candidates = table()
    nothing = (candidates["method"] == "coral") & (candidates["seed"] == 0)
    candidates.loc[nothing, "select/infomax"] = float("nan")
    found = choose(candidates, ["infomax", "last"])
    assert found.query("refused != ''")["score"].isna().all()
    row = summary(found, runs_of(candidates), "infomax").set_index("method").loc["coral"]
    assert row["failed"] == 2
    assert np.isnan(row["score_ci"])
    assert row["win_rate"] == pytest.approx(4 / 6)
    ranking = selectors_table(found).set_index("selector")
    assert ranking.loc["infomax", "refused"] == 2
    assert ranking.index[0] == "last"


def test_a_method_that_failed_everywhere_has_a_row_of_nothing() -> None:
    candidates = table()
    runs = runs_of(candidates).assign(error=lambda f: np.where(f["method"] == "coral", "boom", ""))
    row = summary(choose(candidates[candidates["method"] != "coral"], ["last"]), runs, "last").set_index("method")
    assert row.loc["coral", "failed"] == 6
    assert np.isnan(row.loc["coral", "score"])


def test_targets_are_averaged_and_the_worst_is_named() -> None:
    candidates = table("a").assign(**{"val/LV": 0.1, "closed_macro_f1/LV": 0.1, "ece/LV": 0.3, "a_distance/LV": 2.0})
    made = summary(choose(candidates, ["infomax"]), runs_of(candidates), "infomax").set_index("method")
    assert made.loc["coral", "score"] == pytest.approx((0.57 + 0.1) / 2)
    assert made.loc["coral", "worst"] == pytest.approx(0.1)
    assert made.loc["coral", "ece"] == pytest.approx(0.2)


@pytest.mark.parametrize(("a", "b"), [([1, 1, 1], [1, 2, 3]), ([1, 2], [1, 2]), ([1, 2, float("nan")], [1, 2, 3])])
def test_no_rank_correlation_where_nothing_varies(a: list[float], b: list[float]) -> None:
    assert np.isnan(rank_correlation(a, b))


def test_a_selector_that_was_not_logged_is_named() -> None:
    with pytest.raises(LookupError, match=r"\['snd'\], which selector snd needs.*infomax"):
        choose(table(), ["snd"])


# -- what is missing ---------------------------------------------------------------------------------------------------

ROLES = {shift: {"EE": "target", "LV": "target", "FR": "source"} for shift in "ab"}
ONE_TARGET = {shift: {"EE": "target", "FR": "source"} for shift in "ab"}


def lost(made: pd.DataFrame, **keys: Any) -> pd.Series:
    """Which rows a method lost: ``shift="b"``, ``method="coral"``."""
    return (made[list(keys)] == pd.Series(keys)).all(axis=1)


def without(**keys: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Candidates and runs where some runs ended in an error."""
    candidates = table()
    runs = runs_of(candidates)
    runs.loc[lost(runs, **keys), "error"] = "boom"
    return candidates[~lost(candidates, **keys)], runs


def row_of(candidates: pd.DataFrame, runs: pd.DataFrame, method: str = "coral") -> pd.Series:
    made: pd.Series = (
        summary(choose(candidates, ["infomax"], ONE_TARGET), runs, "infomax").set_index("method").loc[method]
    )
    return made


@pytest.mark.parametrize("column", ["a_distance/EE", "ece/EE"])
def test_a_column_without_any_number_is_missing_and_no_error(column: str) -> None:
    candidates = table().assign(**{column: np.nan})
    row = row_of(candidates, runs_of(candidates))
    assert np.isnan(row[column.partition("/")[0]])
    assert row["score"] == row_of(table(), runs_of(table()))["score"]


def test_without_labelled_target_val_there_is_no_oracle_and_no_regret() -> None:
    candidates = table().assign(**{"val/EE": np.nan})
    found = choose(candidates, ["infomax", "oracle"], ONE_TARGET)
    assert found[["oracle", "regret"]].isna().all(axis=None)
    assert found.query("selector == 'infomax'")["score"].notna().all()
    assert (found.query("selector == 'oracle' and method == 'coral'")["refused"] != "").all()
    row = row_of(candidates, runs_of(candidates))
    assert row["score"] == row_of(table(), runs_of(table()))["score"]
    assert row[["oracle", "regret"]].isna().all()


def test_a_target_without_labelled_validation_is_still_a_target() -> None:
    candidates = table("a").assign(
        **{"val/LV": np.nan, "closed_macro_f1/LV": 0.1, "ece/LV": 0.3, "a_distance/LV": np.nan}
    )
    found = choose(candidates, ["infomax"], ROLES)
    row = found.query("method == 'coral' and seed == 0").iloc[0]
    assert row["score"] == pytest.approx((0.56 + 0.1) / 2)
    assert row["worst"] == pytest.approx(0.1)
    assert row["source"] == pytest.approx(0.9)
    assert row["a_distance"] == 1
    assert row["regret"] == 0


def test_a_method_that_lost_a_scenario_is_compared_where_it_has_scores() -> None:
    row, whole = row_of(*without(method="coral", shift="b")), row_of(table(), runs_of(table()))
    assert row["incomplete"] == 1
    assert whole["incomplete"] == 0
    # On scenario a alone: source_only 0.47, coral 0.57; target_only chooses its first epoch, 0.81.
    assert row["gap_closed"] == pytest.approx((0.57 - 0.47) / (0.81 - 0.47))
    assert row["difference"] == pytest.approx(0.1)
    assert row[["score_ci", "difference_ci"]].isna().all(), "seeds of one scenario stood in for two scenarios"
    assert whole[["score_ci", "difference_ci"]].notna().all()


def test_a_crash_and_a_refusal_count_alike() -> None:
    crashed = row_of(*without(method="coral", seed=0))
    candidates = table()
    candidates.loc[lost(candidates, method="coral", seed=0), "select/infomax"] = np.nan
    refused = row_of(candidates, runs_of(candidates))
    assert crashed["win_rate"] == pytest.approx(4 / 6)
    assert crashed["failed"] == refused["failed"] == 2
    assert crashed["incomplete"] == 2
    for name in ("score", "score_ci", "difference", "win_rate", "oracle", "regret", "gap_closed", "source_retained"):
        assert crashed[name] == pytest.approx(refused[name], nan_ok=True), name


def test_where_the_baseline_failed_nothing_is_won_or_lost() -> None:
    row = row_of(*without(method="source_only", seed=0))
    assert row["win_rate"] == 1
    assert row["difference"] == pytest.approx(0.1)
    assert np.isnan(row["difference_ci"])
    gone = row_of(*without(method="source_only"))
    assert gone[["difference", "win_rate", "gap_closed", "source_retained"]].isna().all()


def test_with_something_missing_means_are_still_of_scenario_means_and_over_the_same_choices() -> None:
    assert or_nan([0.0, 0.0, 0.3, float("nan")], list("aabb")) == pytest.approx((0.15, np.nan), nan_ok=True)
    candidates = table()
    candidates.loc[lost(candidates, method="coral", shift="b", seed=2), "select/infomax"] = np.nan
    candidates.loc[lost(candidates, method="coral", shift="b", seed=1), "select/infomax"] = np.nan
    candidates["select/infomax"] *= -1  # the worst epoch, so that there is a regret
    row = row_of(candidates, runs_of(candidates))
    assert row["score"] == pytest.approx((np.mean([0.5, 0.51, 0.52]) + 0.6) / 2)
    assert row["regret"] == pytest.approx(row["oracle"] - row["score"])
    assert row["regret"] == pytest.approx(0.06)


def test_what_auto_means_is_said() -> None:
    candidates = table("a").assign(**{"select/auto": 0.5})
    made = summary(choose(candidates, ["auto"], ONE_TARGET), runs_of(candidates), "auto").set_index("method")
    assert made.loc["coral", "selector"] == "auto (infomax)"
    assert made.loc["few_shot", "selector"] == "last"
