"""A run from Python: what it leaves, what it refuses, who saw which labels."""

from __future__ import annotations

import json
import math
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import QUICK, SMALL

from eo_adapt.align.source_only import SourceOnly
from eo_adapt.assemble import build_task
from eo_adapt.evaluate import evaluate_run
from eo_adapt.registry import config
from eo_adapt.rundir import RunDirectoryError, occupy
from eo_adapt.task import AdaptationTask, NotFiniteError
from eo_adapt.train import as_plain, run
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


# -- the run directory -------------------------------------------------------------------------------------------------


def test_a_directory_with_another_config_is_left_alone(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()}
    with pytest.raises(RunDirectoryError, match=r"another config.*seed: 0 there, 1 now"):
        run(config("method=coral", *QUICK, "seed=1", "figures=true", "logger=default"), finished)
    assert {p: p.stat().st_mtime_ns for p in finished.rglob("*") if p.is_file()} == before


def test_a_directory_with_the_same_config_needs_resume(finished: Path) -> None:
    with pytest.raises(RunDirectoryError, match="resume=auto continues it"):
        run(config("method=coral", *QUICK, "figures=true", "logger=default"), finished)


def test_two_runs_cannot_share_a_directory(tmp_path: Path) -> None:
    with occupy(tmp_path), pytest.raises(RunDirectoryError, match="another run is writing"):
        run(config(*QUICK), tmp_path)


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunDirectoryError, match=r"cannot write to the run directory.*hydra\.run\.dir"):
        run(config(*QUICK), tmp_path / "file" / "run")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, saves = torch.save, []

    def full(state: object, path: Path) -> None:
        saves.append(path)
        if len(saves) > 3:  # best and last of the first epoch are there, the disk fills up during the second
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        real(state, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        run(config(*QUICK, "selection=last"), tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["global_step"] == 3
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.name.startswith(".")]


def test_nan_stops_with_the_terms_name_and_the_parcels(tmp_path: Path) -> None:
    task, data = build_task(as_plain(config("method=coral", *QUICK)))
    batch = data.steps()[0, 0]
    batch.sources[0].inputs["s2"].values[0] = math.inf
    trainer = type("T", (), {"estimated_stepping_batches": 1, "global_step": 0, "current_epoch": 2})()
    task._trainer = trainer
    key = data.store.index["parcel_id"].iloc[int(batch.sources[0].rows[0])]
    with pytest.raises(NotFiniteError, match=rf"loss term \['task', 'coral'\] .*epoch 2, batch 7.*{key}"):
        task.training_step(batch, 7)


# -- labels ------------------------------------------------------------------------------------------------------------


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
    torch.manual_seed((task.seed * 1_000_003 + task.current_epoch) * 1_000_003 + batch_idx)


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
    assert any("parcels_per_country" in s for s in SMALL)
