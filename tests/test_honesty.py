"""Who may see which labels: target labels reach the score and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from quick import QUICK

from eo_adapt.assemble import build_task
from eo_adapt.benchmarking.plan import label_free
from eo_adapt.data.parts import SealedLabelsError
from eo_adapt.evaluate import evaluate_run
from eo_adapt.registry import config
from eo_adapt.rundir import config_hash
from eo_adapt.train import as_plain, run


def relabel(monkeypatch: pytest.MonkeyPatch, erase: bool = False) -> None:
    """From now on every store has the target's labels permuted, or none."""
    from eo_adapt.data.store import Store

    real = Store.index.func

    def permuted(store: Store) -> pd.DataFrame:
        frame = real(store).copy()
        target = (frame["country"] == "EE").to_numpy()
        dealt = np.random.default_rng(1).permutation(frame.loc[target, "label"].to_numpy())
        frame.loc[target, "label"] = "" if erase else dealt
        return frame

    monkeypatch.setattr(Store, "index", property(permuted))


@pytest.mark.parametrize("method", ["coral", "[csn,dann]"])
@pytest.mark.parametrize("label_set", ["closed", "open"])
def test_target_labels_change_nothing_but_the_score(
    method: str, label_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(f"method={method}", f"label_set={label_set}", *QUICK)
    before = run(cfg, tmp_path / "a")
    relabel(monkeypatch)
    after = run(cfg, tmp_path / "b")
    a, b = (torch.load(tmp_path / x / "checkpoints" / "best.ckpt", weights_only=True) for x in "ab")
    assert a["global_step"] == b["global_step"]
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
    one, other = (pd.read_parquet(tmp_path / x / "predictions.parquet")["prediction"] for x in "ab")
    assert one.equals(other)
    assert before["domains"]["EE"]["overall_accuracy"] != after["domains"]["EE"]["overall_accuracy"]
    assert before["domains"]["FR"] == after["domains"]["FR"]


def test_no_criterion_sees_target_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config("selection=ensemble", f"watch=[{','.join(label_free())}]", "trainer.keep=all", *QUICK)
    run(cfg, tmp_path / "a")
    relabel(monkeypatch)
    run(cfg, tmp_path / "b")
    one, other = (pd.read_parquet(tmp_path / x / "candidates.parquet") for x in "ab")
    chosen = [c for c in one if c.startswith("select/")]
    assert len(chosen) == len(label_free())
    pd.testing.assert_frame_equal(one[chosen], other[chosen], check_exact=True)
    assert not one["val/EE"].equals(other["val/EE"])
    kept = [{p.name: p.read_bytes() for p in (tmp_path / x / "checkpoints").glob("epoch_*")} for x in "ab"]
    assert list(kept[0]) == list(kept[1])
    weights = [torch.load(tmp_path / x / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for x in "ab"]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_labels_are_sealed_and_every_opening_is_written_down(tmp_path: Path) -> None:
    cfg = as_plain(config(*QUICK))
    _, data = build_task(cfg)
    target = data.parcels[2]
    assert set(target.labels.tolist()) == {""}
    with pytest.raises(SealedLabelsError, match="only the evaluator opens them"):
        data.sealed(target)
    with pytest.raises(SealedLabelsError):
        data.scored_classes()
    run(cfg, tmp_path)
    evaluate_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["count"] for line in lines] == [1, 2]
    assert {line["config_sha256"] for line in lines} == {config_hash(cfg)}
    assert all({"time", "by", "version"} <= set(line) for line in lines)
    assert json.loads((tmp_path / "report.json").read_text())["labels_opened"] == 2


def test_few_shot_sees_a_few_target_labels_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = as_plain(config("method=few_shot", *QUICK))
    _, data = build_task(cfg)
    steps = data.steps()
    (part,) = steps.sources
    assert not steps.targets
    assert part.labels is not None
    assert part.labels.bincount().max() == 5
    assert set(part.rows.tolist()) <= set(data.parcels[2].of("train")[0].tolist())
    assert data.val_parts()[0].rows.tolist() == part.rows.tolist(), "it was validated on other labels"
    assert len(steps) == 3
    report = run(cfg, tmp_path)
    assert report["selector"] == "last"
    assert report["uses_target_labels"] is True


@pytest.mark.parametrize(
    ("words", "purposes"),
    [
        (("method=target_only",), ["training", "evaluation"]),
        (("method=few_shot",), ["training", "evaluation"]),
        (("selection=oracle",), ["selection", "evaluation"]),
        (("method=few_shot", "selection=oracle"), ["training", "evaluation"]),  # it is not chosen by the oracle
        (("method=coral",), ["evaluation"]),
    ],
)
def test_target_labels_in_training_are_written_down_too(
    words: tuple[str, ...], purposes: list[str], tmp_path: Path
) -> None:
    cfg = as_plain(config(*words, *QUICK))
    report = run(cfg, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert [line["purpose"] for line in lines] == purposes
    assert {line["config_sha256"] for line in lines} == {config_hash(cfg)}
    assert report["labels_opened"] == 1, "of the sealed test"
    assert report["uses_target_labels"] is (len(purposes) == 2)


def test_the_oracle_does_see_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config("selection=oracle", *QUICK)
    assert run(cfg, tmp_path / "a")["uses_target_labels"] is True
    relabel(monkeypatch)
    run(cfg, tmp_path / "b")
    one, other = (pd.read_csv(tmp_path / x / "metrics.csv")["select/chosen"].dropna().tolist() for x in "ab")
    assert one != other


@pytest.mark.parametrize("label_set", ["closed", "open"])
def test_a_target_without_any_label_is_adapted_to_and_predicted(
    label_set: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    relabel(monkeypatch, erase=True)
    report = run(config("method=coral", f"label_set={label_set}", *QUICK), tmp_path)
    assert report["domains"]["EE"]["n"] == 0
    assert json.loads((tmp_path / "report.json").read_text())["domains"]["EE"]["macro_f1"] is None
    predicted = pd.read_parquet(tmp_path / "predictions.parquet").query("domain == 'EE'")
    assert len(predicted) == 300
    assert set(predicted["prediction"]) <= {*report["classes"]["learnt"], "unknown"}


def test_the_baseline_holds_nothing_of_the_target(tmp_path: Path) -> None:
    # partial: the classes are the source's, whatever the target.
    run(config("method=source_only", "label_set=partial", *QUICK), tmp_path / "a")
    run(config("method=source_only", "label_set=partial", "shift.targets=[]", *QUICK), tmp_path / "b")
    a, b = (torch.load(tmp_path / x / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for x in "ab")
    assert all(torch.equal(a[k], b[k]) for k in a), "batch statistics saw the target"


@pytest.mark.parametrize("label_set", ["closed", "open", "partial"])
def test_label_sets(label_set: str, tmp_path: Path) -> None:
    report = run(config(f"label_set={label_set}", *QUICK), tmp_path)
    classes, d = report["classes"], report["domains"]["EE"]
    assert classes["target_private"]
    assert classes["source_private"]
    learnt = set(classes["shared"]) | (set(classes["source_private"]) if label_set != "closed" else set())
    assert set(classes["learnt"]) == learnt
    scored = set(d["confusion"]["classes"])
    assert ("unknown" in scored) is (label_set == "open")
    assert d["macro_f1"] != d["closed_macro_f1"]


def test_a_class_of_the_target_test_alone_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = as_plain(config(*QUICK))
    _, data = build_task(cfg)
    private = next(iter(data.label_set.source_private))
    rows, _ = data.parcels[2].of("test")
    real = type(data.store).index.func

    def planted(store: object) -> pd.DataFrame:
        frame = real(store).copy()
        frame.loc[rows[:3], "label"] = private
        return frame

    monkeypatch.setattr(type(data.store), "index", property(planted))
    _, again = build_task(cfg)
    assert again.legend == data.legend, "the sealed test chose the classes"
    with again.opened(lambda: None):
        assert private in again.scored_classes().names
