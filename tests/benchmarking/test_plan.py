"""Which runs there are, what they are told, and what is made of what they leave."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from quick import QUICK

from eo_adapt.benchmark import arranged, check, plan
from eo_adapt.benchmarking.collect import MixedDataError, collect
from eo_adapt.benchmarking.compare import sees_labels
from eo_adapt.benchmarking.job import run_job
from eo_adapt.benchmarking.plan import FIXED, Job, draw, every_method, jobs, label_free, overrides, weights
from eo_adapt.benchmarking.suite import ALWAYS, Suite
from eo_adapt.evaluate import evaluate_run
from eo_adapt.registry import build, config, names

SUITE = Suite("made up", "crops", ["embedded"], ["trainer.max_epochs=7"])
SPACE = {"lr": [0.3, 3.0], "weight": [0.1, 10.0]}


def test_every_method_is_seen_beside_the_baselines() -> None:
    planned = jobs(SUITE, ["coral"], seeds=2, trials=3)
    assert {job.method for job in planned} == {*ALWAYS, "coral"}
    assert len(planned) == len(set(planned)) == 5 * 2 * 3
    assert {job.method for job in jobs(SUITE, [], 1, 1)} == set(names("method")) - {
        "stack",
        "fine_tune",
        "fomaml",
        "maml",
        "anil",
    }


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(LookupError, match="coral"):
        jobs(SUITE, ["korral"], 1, 1)
    with pytest.raises(LookupError, match="dann"):
        jobs(SUITE, ["csn+dan"], 1, 1)
    with pytest.raises(ValueError, match="at least 1"):
        jobs(SUITE, [], 0, 1)
    with pytest.raises(ValueError, match="at least one shift"):
        Suite("empty", "crops", [])
    with pytest.raises(ValueError, match=r"data\.root"):
        plan(config("suite=cawa", name="benchmark"))


def test_a_run_hears_the_suite_then_the_user_then_what_the_comparison_needs() -> None:
    told = overrides(Job("embedded", "csn+coral", 3, 0), SUITE, ["trainer.max_epochs=2"], "infomax", SPACE)
    cfg = config(*told)
    assert cfg.trainer.max_epochs == 2
    assert cfg.trainer.keep == "all"
    assert cfg.seed == 3
    assert list(cfg.method.parts) == ["csn", "coral"]
    assert set(cfg.watch) == set(label_free())
    assert "oracle" not in cfg.watch
    assert cfg.choices.selection == "infomax"
    assert told.index("trainer.max_epochs=7") < told.index("trainer.max_epochs=2") < told.index(FIXED[0])


def test_options_of_a_method_go_to_its_runs_alone_and_the_user_still_wins() -> None:
    suite = replace(SUITE, options={"fda": ["method.beta=0.05"]})
    told = {m: overrides(Job("embedded", m, 0, 0), suite, [], "infomax", SPACE) for m in ("fda", "coral", "csn+fda")}
    assert config(*told["fda"]).method.beta == 0.05
    assert not any("beta" in word for word in told["coral"] + told["csn+fda"])
    said = overrides(Job("embedded", "fda", 0, 0), suite, ["method.beta=0.1"], "infomax", SPACE)
    assert config(*said).method.beta == 0.1


def test_trials_give_every_method_the_same_learning_rates_and_a_weight_of_nothing() -> None:
    drawn = {}
    for method in ("source_only", "coral", "[csn,coral]"):
        cfg = config(f"method={method}")
        assert draw(cfg, 0, SPACE) == []
        drawn[method] = [draw(cfg, trial, SPACE) for trial in (1, 2, 3)]
        config(f"method={method}", *drawn[method][1])  # composes
    rates = [[next(w for w in words if w.startswith("optim.lr")) for words in d] for d in drawn.values()]
    assert rates[0] == rates[1] == rates[2]
    assert len(set(rates[0])) == 3
    assert "method.weight=0" in drawn["coral"][0]
    assert "method.parts.coral.weight=0" in drawn["[csn,coral]"][0]
    values = [float(words[1].partition("=")[2]) for words in drawn["coral"][1:]]
    assert all(10 <= value <= 1000 for value in values)
    assert values[0] != values[1]
    assert list(weights(config("method=coral").method)) == [("method.weight", 100.0, float("inf"))]
    assert list(weights(config("method=groupdro").method)) == [("method.weight", 1.0, 1.0)]
    replaced = config("method=groupdro")  # a share of the task loss
    assert all(
        float(w.partition("=")[2]) <= 1 for trial in range(9) for w in draw(replaced, trial, {"weight": [1, 10]})
    )


@pytest.mark.parametrize("space", [{"lr": [0, 1]}, {"lr": [2, 1]}, {"momentum": [0.5, 1]}, {"lr": [1]}])
def test_a_space_that_is_none_is_refused(space: dict[str, list[float]]) -> None:
    with pytest.raises(ValueError, match="ranges of factors"):
        draw(config(), 1, space)


def test_words_that_are_not_the_benchmarks_go_to_its_runs() -> None:
    words = ["suite=cawa", "seeds=2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    made = arranged([*words, "data.root=/a b/it's", "data.bands.s2=[B04,B08]"])
    assert made[:4] == words
    cfg = config(*made, name="benchmark")
    assert list(cfg.overrides) == ["data.root=/a b/it's", "data.bands.s2=[B04,B08]"]
    assert arranged(words) == words


def test_a_mistyped_word_is_said_once_and_before_any_run() -> None:
    with pytest.raises(Exception, match="max_epoch"):
        check(config(*arranged(["trainer.max_epoch=3"]), name="benchmark"))


@pytest.mark.parametrize("name", names("suite"))
def test_suites_name_shifts_that_exist_and_say_where_numbers_come_from(name: str) -> None:
    suite = build("suite", name)
    assert set(suite.shifts) <= set(names("shift"))
    for job in jobs(suite, [], 1, 1):
        if job.method == "source_only":
            config(*overrides(job, suite, [], "source_val", SPACE))
    assert all(p.source and p.note for p in suite.published)


# -- what runs leave ---------------------------------------------------------------------------------------------------


def leave(place: Path, version: str = "d1", score: float = 0.5) -> None:
    """A finished run, made up."""
    place.mkdir(parents=True)
    domains = {"EE": {"role": "target"}, "FR": {"role": "source"}}
    report = {"version": "1", "data_version": version, "seconds": 1.0, "domains": domains}
    (place / "report.json").write_text(json.dumps(report))
    frame = pd.DataFrame({"epoch": [0, 1], "val/EE": [0.5, 0.6], "closed_macro_f1/EE": [0.5, score]})
    frame.to_parquet(place / "candidates.parquet")


def test_results_on_different_data_do_not_share_a_table(tmp_path: Path) -> None:
    planned = jobs(SUITE, ["coral"], 1, 1)
    for job in planned:
        leave(job.place(tmp_path), "old" if job.method == "coral" else "new")
    with pytest.raises(MixedDataError, match=r"new: e\.g\. source_only.*old: e\.g\. coral|old: e\.g\. coral.*new"):
        collect(planned, tmp_path)


def test_every_way_to_fail_has_a_reason(tmp_path: Path) -> None:
    planned = jobs(SUITE, ["coral"], 1, 1)
    good, nan, error, bare, absent = planned
    leave(good.place(tmp_path))
    leave(nan.place(tmp_path), score=float("nan"))
    error.place(tmp_path).mkdir(parents=True)
    (error.place(tmp_path) / "failure.json").write_text('{"error": "ValueError: no"}')
    leave(bare.place(tmp_path))
    (bare.place(tmp_path) / "candidates.parquet").unlink()
    found = collect(planned, tmp_path)
    reasons = found.runs.set_index("method")["error"]
    assert reasons[good.method] == ""
    assert "not a number in 1 of 2 epochs" in reasons[nan.method]
    assert reasons[error.method] == "ValueError: no"
    assert "no checkpoint was kept" in reasons[bare.method]
    assert reasons[absent.method] == "not run"
    assert set(found.candidates["method"]) == {good.method}
    with pytest.raises(ValueError, match="none of 5 runs"):
        collect(planned, tmp_path / "elsewhere")


def test_a_failing_run_is_written_down_and_a_later_success_takes_it_back(tmp_path: Path) -> None:
    words = ["method=coral", "trainer.keep=all", "resume=auto", *QUICK]
    run_job([*words, "data.classes=[cheese]"], tmp_path, 1)
    assert "cheese" in json.loads((tmp_path / "failure.json").read_text())["error"]
    run_job(words, tmp_path, 1)
    assert not (tmp_path / "failure.json").exists()
    assert (tmp_path / "candidates.parquet").exists()
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    before = (tmp_path / "report.json").stat().st_mtime_ns
    run_job(words, tmp_path, 1)
    assert (tmp_path / "report.json").stat().st_mtime_ns == before, "a finished run was run again"


def test_a_run_of_a_benchmark_can_be_evaluated_again(tmp_path: Path) -> None:
    run_job(["method=coral", "trainer.keep=all", "resume=auto", *QUICK], tmp_path, 1)
    before = json.loads((tmp_path / "report.json").read_text())
    candidates = (tmp_path / "candidates.parquet").read_bytes()
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        evaluate_run(tmp_path, "worst")
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 1, "nothing was opened, and a line says so"
    # What a kill in the middle of the clearing away leaves: some epochs, but not all.
    shutil.copy(tmp_path / "checkpoints" / "best.ckpt", tmp_path / "checkpoints" / "epoch_0000.ckpt")
    again = evaluate_run(tmp_path, figures=True)
    assert again["labels_opened"] == 2
    assert again["domains"]["EE"]["closed_macro_f1"] == before["domains"]["EE"]["closed_macro_f1"]
    assert (tmp_path / "candidates.parquet").read_bytes() == candidates
    page = (tmp_path / "report.html").read_text()
    assert "auto (infomax)" in page
    assert any((tmp_path / "figures").iterdir())
    assert {line["purpose"] for line in map(json.loads, (tmp_path / "audit.jsonl").open())} == {"evaluation"}


def test_methods_that_learn_from_target_labels_are_known_and_not_planned_unasked():
    assert {"coral", "timematch", "source_only"} <= set(every_method())
    assert not {"stack", "fine_tune", "fomaml", "maml", "anil"} & set(every_method())
    assert [sees_labels(m) for m in ("coral", "csn+coral", "few_shot", "fine_tune", "csn+anil")] == [
        False, False, True, True, True,
    ]  # fmt: skip
