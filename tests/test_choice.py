"""The checkpoint that is kept is the one that the criterion chose, however the run came to its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
import torch
from quick import QUICK

from eo_adapt.registry import config
from eo_adapt.selection.base import Outputs, SelectionError, best
from eo_adapt.selection.last import Last
from eo_adapt.train import run

MORE = (*QUICK, "trainer.max_epochs=5", "method=coral")


def chosen(folder: Path) -> int:
    return int(torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["epoch"])


def scores(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "metrics.csv")
    return table.dropna(subset="select/chosen").set_index("epoch").filter(like="select/")


def test_a_score_of_its_own(tmp_path: Path) -> None:
    run(config("selection=infomax", *MORE), tmp_path)
    table = scores(tmp_path)
    assert chosen(tmp_path) == table["select/infomax"].idxmax()
    assert table["select/chosen"].equals(table["select/infomax"].rename("select/chosen"))
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_rank_over_all_epochs(tmp_path: Path) -> None:
    report = run(config("selection=ensemble", "trainer.keep=all", *MORE), tmp_path)
    table = scores(tmp_path)
    members = config("selection=ensemble").selection.members
    ranks = table[[f"select/{m}" for m in members]].rank().mean(axis=1)
    assert chosen(tmp_path) == ranks.idxmax()
    assert report["selector"] == "ensemble"
    kept = sorted((tmp_path / "checkpoints").glob("epoch_*.ckpt"))
    assert len(kept) == 5
    same = torch.load(kept[chosen(tmp_path)], weights_only=True)["state_dict"]
    best_one = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(same[k], best_one[k]) for k in same)


def test_patience_counts_from_the_chosen_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Last, "score", lambda self, sources, targets, epoch: -abs(epoch - 1.0))
    run(config("selection=last", "trainer.patience=2", *MORE), tmp_path)
    assert chosen(tmp_path) == 1
    assert scores(tmp_path).index.tolist() == [0, 1, 2, 3]


def test_a_score_that_is_no_number_never_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(self: Last, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return 1.0 if epoch == 1 else float("nan")

    monkeypatch.setattr(Last, "score", score)
    run(config("selection=last", *MORE), tmp_path / "a")
    assert chosen(tmp_path / "a") == 1
    monkeypatch.setattr(Last, "score", lambda *_: float("nan"))
    with pytest.raises(SelectionError, match=r"last gave no number for any of 5 candidates.*source_val"):
        run(config("selection=last", *MORE), tmp_path / "b")


def test_a_checkpoint_from_before_the_method_set_in_is_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Last, "score", lambda self, sources, targets, epoch: -float(epoch))
    words = ["selection=last", "watch=[]", *MORE[:-1], "method=self_training", "method.start=0.5"]
    run(config(*words, "trainer.keep=all"), tmp_path / "a")
    assert chosen(tmp_path / "a") == 2, "epochs 0 and 1 end at 0.2 and 0.4 of training"
    assert pd.read_parquet(tmp_path / "a" / "candidates.parquet")["epoch"].tolist() == [2, 3, 4]
    run(config(*words, "method.start=0"), tmp_path / "b")
    assert chosen(tmp_path / "b") == 0
    run(config(*words[:-2], "method=[csn,self_training]", "selection=ensemble"), tmp_path / "c")
    assert chosen(tmp_path / "c") >= 2


def test_the_first_of_equals() -> None:
    assert best([1.0, 2.0, 2.0]) == 1
    assert best([float("nan"), -1.0]) == 1
    with pytest.raises(SelectionError):
        best([])


def test_a_criterion_of_the_target_needs_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs a target domain.*selection=source_val"):
        run(config("selection=snd", "shift.targets=[]", *QUICK), tmp_path)


def test_an_oracle_may_not_be_watched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"watch=\['oracle'\] would open target labels"):
        run(config("watch=[oracle]", *QUICK), tmp_path)
