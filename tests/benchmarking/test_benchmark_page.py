"""What a reader is told: on the page, in markdown, on the screen."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_compare import ONE_TARGET, lost, runs_of, table

from eo_adapt.benchmarking.collect import Collected
from eo_adapt.benchmarking.output import LOSES, MISSING, by_shift, show, write_all
from eo_adapt.benchmarking.suite import Suite

SUITE = Suite("made up", "crops", ["embedded"])


def collected(change: Callable[[pd.DataFrame], None] = lambda c: None, **failed: Any) -> Collected:
    """What runs of two scenarios left; those that ``failed`` names ended in an error."""
    candidates = table()
    change(candidates)
    runs = runs_of(candidates).assign(version="1", data_version="d")
    if failed:
        runs.loc[lost(runs, **failed), "error"] = "ValueError: boom"
        candidates = candidates[~lost(candidates, **failed)]
    return Collected(runs, candidates, ONE_TARGET)


def page(folder: Path, found: Collected, selector: str = "infomax") -> str:
    write_all(found, SUITE, selector, folder, "python -m eo_adapt.benchmark")
    return unescape((folder / "report.html").read_text())


def test_a_complete_benchmark_warns_of_nothing_but_the_few_labels(tmp_path: Path) -> None:
    said = page(tmp_path, collected())
    assert "Highest mean without target labels: coral, 62.0 points; source_only 52.0." in said
    assert said.count("Warning:") == 1
    assert "(few_shot) reach 57.0 points, more than source_only" in said


def test_a_method_that_failed_everywhere_is_not_the_best(tmp_path: Path) -> None:
    said = page(tmp_path, collected(method="coral"))
    assert "nan" not in said.split("<main")[0]
    assert "Without target labels none has a higher mean than source_only: 52.0 points." in said
    assert "6 of 24 runs failed" in said
    assert "coral lacks scores in 2 of 2 scenarios" in said


def test_where_the_baseline_failed_the_page_says_so(tmp_path: Path) -> None:
    assert "coral, 62.0 points; source_only has no score." in page(tmp_path, collected(method="source_only"))


def test_incomplete_scenarios_are_flagged_on_the_page_and_in_markdown(tmp_path: Path) -> None:
    assert "coral lacks scores in 1 of 2 scenarios" in page(tmp_path, collected(method="coral", shift="b"))
    lines = (tmp_path / "table.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    head, coral = rows[0], next(row for row in rows if row[0] == "coral")
    assert head[:4] == ["method", "score", "failed", "incomplete"]
    assert coral[2:4] == ["3", "1"]
    assert "±" not in coral[1]
    start = next(i for i, row in enumerate(rows) if row[:3] == ["method", "a", "b"])
    coral = next(row for row in rows[start:] if row[0] == "coral")
    assert coral[2] == MISSING, "the scenario without a score"
    assert coral[1] != MISSING


def test_negative_transfer_is_marked_where_it_happens() -> None:
    """More than a point below source_only in the mean of pairs; not on the shift where it gains, nor for one point."""
    rest = {"selector": "infomax", "refused": "", "oracle": 1.0}
    scores = {"source_only": (0.5, 0.5), "coral": (0.48, 0.6), "dann": (0.495, 0.3), "csn": (np.nan, 0.5)}
    results = pd.DataFrame(
        [
            {"shift": shift, "method": method, "seed": seed, "score": pair[at] + 0.05 * seed, **rest}
            for method, pair in scores.items()
            for at, shift in enumerate("ab")
            for seed in range(2)
        ]
    )
    runs = results[["shift", "method", "seed"]].assign(error="")
    table = by_shift(results, runs, "infomax").set_index("method")
    marked = table.map(lambda cell: cell.endswith(LOSES))
    assert marked.loc["coral"].tolist() == [True, False]
    assert marked.loc["dann"].tolist() == [False, True]
    assert not marked.loc[["source_only", "csn"]].to_numpy().any()


def test_refused_choices_are_warned_of(tmp_path: Path) -> None:
    def refuse(candidates: pd.DataFrame) -> None:
        candidates.loc[lost(candidates, method="coral") & (candidates["seed"] > 0), "select/infomax"] = np.nan

    said = page(tmp_path, collected(refuse))
    assert "selector infomax refused 4 of 24 choices (coral 4 of 6): means are over the rest" in said
    assert "gave no number" in said


@pytest.mark.parametrize(
    ("losses", "said"),
    [
        # difference of coral to source_only on scenarios a and b, points
        ((-1.0, -1.02), "negative transfer: coral scores -1.0 ± 0.1 points against source_only"),
        (
            (-10.0, -17.0),
            "perhaps negative transfer: coral scores -13.5 ± 44.5 points against source_only and wins 0 %",
        ),
        ((-10.0, 17.0), None),
        ((-17.0, 10.0), None),  # negative, but it wins half of the pairs
    ],
)
def test_negative_transfer_is_named_and_how_sure_it_is(
    tmp_path: Path, losses: tuple[float, float], said: str | None
) -> None:
    def harm(candidates: pd.DataFrame) -> None:
        for shift, loss in zip("ab", losses, strict=True):
            candidates.loc[lost(candidates, method="coral", shift=shift), "closed_macro_f1/EE"] += loss / 100 - 0.1

    found = page(tmp_path, collected(harm))
    assert ("negative transfer" in found) is (said is not None)
    assert said is None or said in found
    assert ("perhaps" in found) is (said is not None and said.startswith("perhaps"))


def test_who_decides_for_auto_is_said_everywhere(tmp_path: Path) -> None:
    def also_auto(candidates: pd.DataFrame) -> None:
        candidates["select/auto"] = candidates["select/infomax"]

    assert "auto (infomax)" in page(tmp_path, collected(also_auto), "auto")
    assert (tmp_path / "table.md").read_text().count(
        "auto (infomax)"
    ) == 3  # the heading, two methods that it chose for


def test_runs_that_did_not_log_every_criterion_stay_readable(tmp_path: Path) -> None:
    page(tmp_path, collected())  # made up runs logged three; configs/selection has more
    assert set(pd.read_parquet(tmp_path / "benchmark.parquet")["selector"]) == {
        "infomax",
        "source_val",
        "last",
        "oracle",
    }


@pytest.mark.parametrize("width", [80, 120])
def test_names_are_whole_on_the_screen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    made = write_all(collected(), SUITE, "infomax", tmp_path, "")
    show(made, tmp_path)
    said = capsys.readouterr().out
    assert all(name in said for name in ("source_only", "target_only", "few_shot", "coral"))
    assert "…" not in said
    assert max(map(len, said.splitlines()[:-1])) <= width
    assert ("worst domain" in said) is (width > 90)
