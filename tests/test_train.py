"""A run from Python: what it leaves, what it refuses, who saw which labels."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from quick import QUICK

from eo_adapt.align.source_only import SourceOnly
from eo_adapt.data.sampler import generator
from eo_adapt.evaluate import evaluate_run
from eo_adapt.registry import config
from eo_adapt.task import AdaptationTask
from eo_adapt.train import run
from eo_adapt.trainer import Interrupted


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run with figures."""
    folder = tmp_path_factory.mktemp("run")
    run(config("method=coral", *QUICK, "figures=true", "logger=default"), folder)
    return folder


def test_the_run_directory_is_whole(finished: Path) -> None:
    for name in ("config.yaml", "env.txt", "metrics.csv", "splits.parquet", "report.json", "predictions.parquet"):
        assert (finished / name).stat().st_size > 0, name
    assert {p.name for p in (finished / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {"profiles.png", "confusion_EE.png", "map_EE.png"} <= {p.name for p in (finished / "figures").iterdir()}
    assert list((finished / "tensorboard").glob("events*"))
    assert not list(finished.rglob(".*")), "temporary files or the lock stayed behind"


def test_the_report_says_what_was_run(finished: Path) -> None:
    report = json.loads((finished / "report.json").read_text())
    for key in ("task", "method", "encoder", "shift", "selector", "version"):
        assert report[key], key
    assert report["uses_target_labels"] is False
    assert report["seconds"] > 0
    assert report["parcels_per_second"] > 0
    d = report["domains"]["EE"]
    wanted = {
        "role",
        "split",
        "n",
        "overall_accuracy",
        "macro_f1",
        "closed_macro_f1",
        "kappa",
        "per_class",
        "confusion",
    }
    assert wanted <= set(d)
    assert (d["role"], d["split"]) == ("target", "test")
    assert np.sum(d["confusion"]["matrix"]) == d["n"]
    assert set(report["classes"]["target_private"]) <= set(d["confusion"]["classes"])


def test_predictions_are_geoparquet_and_agree_with_the_report(finished: Path) -> None:
    frame = geopandas.read_parquet(finished / "predictions.parquet")
    assert frame.crs == "EPSG:4326"
    assert frame.geometry.notna().all()
    p = frame.filter(like="p_").to_numpy()
    np.testing.assert_allclose(p.sum(1), 1)
    np.testing.assert_allclose(frame["entropy"], -(p * np.log(p)).sum(1), rtol=1e-6)
    test = frame[(frame["domain"] == "EE") & (frame["split"] == "test")]
    report = json.loads((finished / "report.json").read_text())
    assert (test["label"] == test["prediction"]).mean() == pytest.approx(report["domains"]["EE"]["overall_accuracy"])
    assert set(frame.loc[frame["split"] != "test", "label"]) == {""}, "only test labels are opened"


def test_splits_keep_their_distance(finished: Path) -> None:
    frame = pd.read_parquet(finished / "splits.parquet")
    assert set(frame.loc[frame["role"] == "target", "split"]) <= {"adapt", "val", "test", "buffer"}
    for _, d in frame.groupby("domain"):
        train, test = (d.loc[d["split"].isin(s), ["x", "y"]].to_numpy() for s in (["train", "adapt"], ["test"]))
        assert np.linalg.norm(train[:, None] - test[None], axis=-1).min() >= 1000


def test_evaluating_again_changes_nothing(finished: Path) -> None:
    before = json.loads((finished / "report.json").read_text())
    after = evaluate_run(finished)
    assert after["domains"] == before["domains"]
    assert after["seconds"] == before["seconds"]


def test_checkpoint_says_what_it_is_and_loads_without_running_code(finished: Path) -> None:
    card = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)["card"]
    assert card["bands"]["s2"][3] == "B04"
    assert card["units"] == {"s2": "reflectance"}
    assert card["config"]["method"]["_target_"].endswith("CORAL")


def test_other_bands_than_the_checkpoints_are_refused(finished: Path) -> None:
    before = (finished / "report.json").read_text()
    with pytest.raises(ValueError, match=r"trained with bands .*B04.*these data give"):
        evaluate_run(finished, data_changes={"bands": {"s2": ["B08", "B04"]}})
    assert (finished / "report.json").read_text() == before


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run in .*config\.yaml"):
        evaluate_run(tmp_path)


def test_a_missing_checkpoint_names_those_there(finished: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"best\.ckpt.*last\.ckpt"):
        evaluate_run(finished, "frist")


# -- reproducibility ---------------------------------------------------------------------------------------------------


def test_a_run_follows_from_config_and_seed(tmp_path: Path) -> None:
    reports = [
        run(config("method=dann", *QUICK, f"seed={seed}"), tmp_path / str(i)) for i, seed in enumerate((3, 3, 4))
    ]
    states = [
        torch.load(tmp_path / str(i) / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for i in range(3)
    ]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert any(not torch.equal(states[0][k], states[2][k]) for k in states[0])
    assert reports[0]["domains"] == reports[1]["domains"]


@pytest.mark.parametrize(
    "options",
    [
        ["trainer.accumulate=2", "optim=sgd"],
        ["trainer.precision=bf16"],
        ["trainer.patience=1", "optim.schedule=one_cycle", "optim.warmup=0.3"],
        ["data.sampling=balanced", "selection=infomax"],
        ["data.coarsen=shared", "data.bands.s2=[B02,B03,B04,B08]"],
        ["data.resident=yes"],
        ["data.coarsen=broad_crops"],
        ["data.workers=1", "selection=last"],
    ],
)
def test_options_run(options: list[str], tmp_path: Path) -> None:
    report = run(config("method=coral", *QUICK, *options), tmp_path)
    assert report["domains"]["EE"]["n"] > 0


def test_class_weights_reach_the_sampler_and_survive_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def propose(self: SourceOnly, recall: torch.Tensor) -> torch.Tensor:
        return (1 - recall).clamp_min(0.05)

    cfg = config(*QUICK, "resume=auto", "trainer.max_epochs=3")
    run(cfg, tmp_path / "plain")
    monkeypatch.setattr(SourceOnly, "class_weights", propose)
    run(cfg, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(AdaptationTask, "on_train_batch_start", stop_in_second_epoch)
        with pytest.raises(Interrupted):
            run(cfg, tmp_path / "stopped")
    run(cfg, tmp_path / "stopped")
    plain, whole, stopped = (
        torch.load(tmp_path / x / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for x in ("plain", "whole", "stopped")
    )
    assert any(not torch.equal(plain[k], whole[k]) for k in plain), "the weights changed nothing"
    assert all(torch.equal(whole[k], stopped[k]) for k in whole)


def stop_in_second_epoch(task: AdaptationTask, batch: object, batch_idx: int) -> None:
    """What a stop after the first epoch looks like."""
    if task.current_epoch == 1:
        raise Interrupted(15)
    torch.manual_seed(generator(task.seed, task.current_epoch, batch_idx).initial_seed())


def test_half_precision_without_a_gpu_is_refused_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fp16 needs a GPU"):
        run(config("trainer.precision=fp16", *QUICK), tmp_path)


def test_resident_arrays_give_the_same_run(tmp_path: Path) -> None:
    for name in ("yes", "no"):
        run(config("method=coral", *QUICK, f"data.resident={name}"), tmp_path / name)
    a, b = (torch.load(tmp_path / x / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for x in ("yes", "no"))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_domain_generalisation_needs_no_target(tmp_path: Path) -> None:
    assert run(config("shift.targets=[]", *QUICK), tmp_path)["domains"].keys() == {"FR", "AT"}
    with pytest.raises(ValueError, match="CORAL needs a target domain"):
        run(config("method=coral", "shift.targets=[]", *QUICK), tmp_path / "b")
    with pytest.raises(ValueError, match="InfoMax needs a target domain"):
        run(config("selection=infomax", "shift.targets=[]", *QUICK), tmp_path / "c")


def test_an_empty_target_domain_says_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'EE' selects no parcel .*country: \['AT', 'EE', 'FR'\]"):
        run(config("shift.targets.0.select={country: DE}", *QUICK), tmp_path)


def test_config_yaml_is_plain(finished: Path) -> None:
    stored = yaml.safe_load((finished / "config.yaml").read_text())
    assert stored["label_set"] == "closed"
    assert stored["choices"]["method"] == "coral"
