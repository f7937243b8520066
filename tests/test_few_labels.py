"""The k-shot protocol: who gets how many target labels, when, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from quick import QUICK

from eo_adapt import tuning
from eo_adapt.assemble import build_task
from eo_adapt.data import parts
from eo_adapt.data.store import Store
from eo_adapt.evaluate import evaluate_run
from eo_adapt.registry import config
from eo_adapt.train import as_plain, run
from eo_adapt.tuning import TUNED, draw, tune_checkpoints
from eo_adapt.types import Domain, Shift

THREE = ("shift.target_labels=3", *QUICK)
STEPS = {"fine_tune": "method.steps=5", "maml": "method.tune_steps=5", "anil": "method.tune_steps=5"}
A, B = Domain("a", "synthetic"), Domain("b", "synthetic")


def weights(folder: Path, name: str) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / name, weights_only=True)["state_dict"]


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def audited(folder: Path) -> list[tuple[str, str]]:
    lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [(line["purpose"], line["by"]) for line in lines]


def relabel(monkeypatch: pytest.MonkeyPatch, rows: np.ndarray) -> None:
    """From now on every store has the labels of these rows dealt anew."""
    real = Store.index.func

    def permuted(store: Store) -> pd.DataFrame:
        frame = real(store).copy()
        frame.loc[rows, "label"] = np.random.default_rng(1).permutation(frame.loc[rows, "label"].to_numpy())
        return frame

    monkeypatch.setattr(Store, "index", property(permuted))


@pytest.mark.parametrize("method", list(STEPS))
def test_a_run_is_tuned_stamped_and_written_down(method: str, tmp_path: Path) -> None:
    report = run(config(f"method={method}", STEPS[method], "trainer.keep=all", *THREE), tmp_path)
    assert report["uses_target_labels"] is True
    assert report["target_labels"] == 3
    assert report["selector"] == "auto", "the epoch is chosen without target labels"
    assert report["labels_opened"] == 1, "of the sealed test"
    assert report["domains"].keys() == {"FR", "AT", "EE"}
    assert audited(tmp_path) == [
        ("training", "tune on 3 labels a class"),
        ("evaluation", "evaluate checkpoint=best"),
    ]
    folder = tmp_path / "checkpoints"
    states = {p.name: torch.load(p, weights_only=True) for p in folder.glob("*.ckpt")}
    assert {name for name, state in states.items() if state.get(TUNED) == 3} == set(states) - {"last.ckpt"}
    chosen = f"epoch_{states['best.ckpt']['epoch']:04d}.ckpt"
    assert same(states["best.ckpt"]["state_dict"], states[chosen]["state_dict"]), "one seed an epoch"
    last = f"epoch_{states['last.ckpt']['epoch']:04d}.ckpt"
    assert not same(states["last.ckpt"]["state_dict"], states[last]["state_dict"]), "tuning moved nothing"
    moved = {
        name
        for name, value in states[last]["state_dict"].items()
        if "num_batches" not in name and not torch.equal(value, states["last.ckpt"]["state_dict"][name])
    }
    parameters = {name for name in moved if not name.endswith(("running_mean", "running_var"))}
    assert all(name.startswith("model.head") for name in parameters) is (method == "anil")
    frame = pd.read_parquet(tmp_path / "candidates.parquet")
    assert len(frame) == 2


def test_resuming_tunes_what_is_not_tuned_yet_and_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config("method=fine_tune", STEPS["fine_tune"], "resume=auto", *THREE)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tuning, "tune", stop)
        with pytest.raises(KeyboardInterrupt):
            run(cfg, tmp_path / "stopped")
    report = run(cfg, tmp_path / "stopped")
    whole = run(cfg, tmp_path / "whole")
    assert report["domains"] == whole["domains"]
    assert same(weights(tmp_path / "stopped", "best.ckpt"), weights(tmp_path / "whole", "best.ckpt"))
    before = (tmp_path / "whole" / "checkpoints" / "best.ckpt").read_bytes()
    again = run(cfg, tmp_path / "whole")
    assert again["domains"] == whole["domains"]
    assert (tmp_path / "whole" / "checkpoints" / "best.ckpt").read_bytes() == before
    assert [purpose for purpose, _ in audited(tmp_path / "whole")] == ["training", "evaluation", "evaluation"]


@pytest.mark.parametrize("method", ["fomaml", "[csn,fine_tune]", "[adabn,fine_tune]"])
def test_no_other_target_label_matters(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = "method.tune_steps=3" if method == "fomaml" else "method.parts.fine_tune.steps=3"
    cfg = config(f"method={method}", steps, *THREE)
    _, data = build_task(as_plain(cfg))
    (part,) = draw(data, lambda: None).values()
    run(cfg, tmp_path / "a")
    target = data.parcels[2].rows
    relabel(monkeypatch, np.setdiff1d(target, part.rows.numpy()))
    # Which parcels are of a class decides which of them are drawn: the draw is held, all else is free.
    monkeypatch.setattr(
        parts, "few", lambda labels, keep, shots, seed: np.flatnonzero(np.isin(train_rows, part.rows.numpy()))
    )
    train_rows = labelled_train_rows(build_task(as_plain(cfg))[1])
    run(cfg, tmp_path / "b")
    assert same(*(weights(tmp_path / x, "best.ckpt") for x in "ab"))
    one, other = (pd.read_parquet(tmp_path / x / "predictions.parquet")["prediction"] for x in "ab")
    assert one.equals(other)


def labelled_train_rows(data: Any) -> np.ndarray:
    with data.opened(lambda: None):
        return data.sealed(data.parcels[2], "train").rows.numpy()


def test_a_run_follows_from_its_seed(tmp_path: Path) -> None:
    found = []
    for i, seed in enumerate((3, 3, 4)):
        run(config("method=anil", STEPS["anil"], f"seed={seed}", *THREE), tmp_path / str(i))
        found.append(weights(tmp_path / str(i), "best.ckpt"))
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


@pytest.mark.parametrize("label_set", ["closed", "open"])
def test_shots_are_so_many_a_class_from_target_train(label_set: str) -> None:
    cfg = as_plain(config("method=fine_tune", f"label_set={label_set}", *THREE))
    _, data = build_task(cfg)
    opened: list[int] = []
    found = draw(data, lambda: opened.append(1))
    assert opened == [1]
    assert list(found) == [2]
    assert found[2].labels is not None
    counts = found[2].labels.bincount(minlength=len(data.legend))
    assert len(counts) == len(data.legend)
    assert counts.max() == 3
    assert set(found[2].rows.tolist()) <= set(data.parcels[2].of("train")[0].tolist())
    assert {part.labels for part in data.val_parts()[2:]} == {None}
    names = data.store.index["label"].to_numpy(str)[found[2].rows.numpy()]
    assert [data.legend.names[i] for i in found[2].labels.tolist()] == names.tolist()
    again = draw(data, lambda: None)[2]
    assert torch.equal(again.rows, found[2].rows)
    _, other = build_task({**cfg, "seed": 1})
    assert not torch.equal(draw(other, lambda: None)[2].rows, found[2].rows)


def test_two_targets_each_get_their_own() -> None:
    domain = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic, select: {{country: {0}}}}}"
    shift = [
        f"shift.sources=[{domain.format('FR')}]",
        f"shift.targets=[{domain.format('AT')},{domain.format('EE')}]",
    ]
    _, data = build_task(as_plain(config("method=anil", *shift, *THREE)))
    found = draw(data, lambda: None)
    assert list(found) == [1, 2]
    for i, part in found.items():
        assert set(part.rows.tolist()) <= set(data.parcels[i].rows.tolist())


def test_a_target_without_labels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = build_task(as_plain(config("method=fine_tune", *THREE)))
    monkeypatch.setattr(data, "sealed", lambda d, split: parts_without_labels())
    with pytest.raises(ValueError, match=r"target 'EE' has 0 training parcels of the classes .* at least 2"):
        draw(data, lambda: None)


def parts_without_labels() -> Any:
    from eo_adapt.data.loader import Part

    return Part(torch.arange(0), torch.arange(0))


def test_who_must_have_labels_and_who_must_not() -> None:
    with pytest.raises(ValueError, match=r"FineTune learns .* set shift\.target_labels="):
        build_task(as_plain(config("method=fine_tune", *QUICK)))
    with pytest.raises(ValueError, match=r"shift\.target_labels=3 is for methods that learn .* CORAL does not"):
        build_task(as_plain(config("method=coral", *THREE)))
    with pytest.raises(ValueError, match=r"FewShot does not: set it to 0"):
        build_task(as_plain(config("method=few_shot", *THREE)))
    with pytest.raises(ValueError, match=r"Stack learns .* set shift\.target_labels="):
        build_task(as_plain(config("method=[csn,anil]", *QUICK)))


def test_impossible_shifts_are_refused() -> None:
    assert Shift((A,), (B,)).target_labels == 0
    with pytest.raises(ValueError, match="0 = none; got -1 with 1 targets"):
        Shift((A,), (B,), target_labels=-1)
    with pytest.raises(ValueError, match="got 3 with 0 targets"):
        Shift((A,), target_labels=3)


def test_the_last_checkpoint_is_not_tuned_and_not_scored(tmp_path: Path) -> None:
    run(config("method=anil", STEPS["anil"], *THREE), tmp_path)
    again = evaluate_run(tmp_path)
    assert again["uses_target_labels"] is True
    assert [purpose for purpose, _ in audited(tmp_path)] == ["training", "evaluation", "evaluation"]
    with pytest.raises(ValueError, match=r"last\.ckpt holds the weights from before, for resuming; evaluate"):
        evaluate_run(tmp_path, "last")


def test_methods_that_do_not_tune_are_left_alone(tmp_path: Path) -> None:
    run(config("method=source_only", *QUICK), tmp_path)
    before = (tmp_path / "checkpoints" / "best.ckpt").read_bytes()
    task, data = build_task(as_plain(config("method=source_only", *QUICK)))
    tune_checkpoints(task, data, tmp_path)
    assert (tmp_path / "checkpoints" / "best.ckpt").read_bytes() == before
    assert [purpose for purpose, _ in audited(tmp_path)] == ["evaluation"]
