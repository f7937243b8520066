"""The verb: what it writes, what it leaves sealed and untouched, and what it says to wrong input."""

from __future__ import annotations

import html
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from quick import QUICK, ROOT, SMALL

from eo_adapt.diagnose import build_data, diagnose_shift, open_labels
from eo_adapt.registry import config
from eo_adapt.train import as_plain, run

FEW = ("parcels=120", "seed=3")


def diagnosis(*words: str) -> Any:
    return config(*SMALL, *FEW, *words, name="diagnose")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    run(config("method=coral", *QUICK), folder)
    return folder


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("diagnosis")
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    found = diagnose_shift(diagnosis(f"run=[{trained},{trained}]"), folder)
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*")} == before  # nothing in the run directory changes
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    return folder, found.to_dict()


def test_it_writes_json_and_a_page(written: tuple[Path, dict[str, Any]]) -> None:
    folder, found = written
    stored = json.loads((folder / "diagnosis.json").read_text())
    assert stored["sentences"] == found["sentences"]
    assert stored["shift"] == "embedded"
    assert stored["labels_opened"] is False
    assert not (folder / "audit.jsonl").exists()
    page = (folder / "diagnosis.html").read_text()
    assert page.count("<figure") == 6 + 2  # one reliability diagram a run
    assert "http-equiv" in page
    assert str(ROOT) not in page
    assert 'class="table cards"' in page  # findings, one a card on a narrow screen
    assert page.count('data-head="addressed by"') == len(found["targets"]["EE"]["findings"])
    assert ">5</td>" in page  # days between dates
    assert ">5.000</td>" not in page
    assert ">1.000</td>" not in page  # the first cause that was chosen
    measures = stored["targets"]["EE"]["measures"]
    assert set(measures["a_distance"]) == {"all", "dates", "season", "single_date"}
    assert measures["parcels"] == {"FR": 120, "AT": 120, "EE": 120}
    assert measures["truth"] is None


def test_runs_are_rows_of_a_table(written: tuple[Path, dict[str, Any]]) -> None:
    rows = written[1]["runs"]["rows"]
    assert [r["run"] for r in rows] == ["coral, seed 0"] * 2
    assert rows[0] == rows[1]
    assert 0 <= rows[0]["a_linear"] <= 2
    assert 0 < rows[0]["source_error"] < 1
    assert 0 <= rows[0]["ece"] <= 1
    assert rows[0]["temperature"] > 0
    for key in ("", "_scaled"):
        bins = rows[0][f"reliability{key}"]
        assert sum(b["count"] for b in bins) == rows[0]["source_parcels"]
        gaps = [b["count"] * abs(b["accuracy"] - b["confidence"]) for b in bins]
        assert rows[0][f"ece{key}"] == pytest.approx(sum(gaps) / rows[0]["source_parcels"])
    assert written[1]["runs"]["warnings"] == []


def test_target_labels_have_no_influence(written: tuple[Path, dict[str, Any]]) -> None:
    from eo_adapt.diagnosis import diagnose

    data = build_data(as_plain(diagnosis()))
    for name, d in data._sealed.items():
        if d.role == "target":
            shuffled = np.random.default_rng(0).permutation(d.labels)
            object.__setattr__(data._sealed[name], "labels", shuffled)
    found = diagnose(data, 3, 120).to_dict()
    assert found["targets"] == written[1]["targets"]


def test_opened_labels_are_audited_and_stop_short_of_the_test(tmp_path: Path) -> None:
    plain = as_plain(diagnosis())
    data = build_data(plain)
    truth = open_labels(data, plain, tmp_path)
    assert list(truth) == ["EE"]
    target = next(d for d in data.parcels if d.role == "target")
    assert (truth["EE"][np.isin(target.split, ["train", "val"])] != "").mean() > 0.8
    assert (truth["EE"][target.split == "test"] == "").all()
    line = json.loads((tmp_path / "audit.jsonl").read_text())
    assert line["by"] == "diagnose labels=true"
    assert line["count"] == 1
    assert len(line["config_sha256"]) == 64


# -- several targets, targets without labels ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store, its Estonian parcels without a class."""
    folder = tmp_path_factory.mktemp("stores") / "store"
    shutil.copytree(build_data(as_plain(diagnosis())).store.path, folder)
    index = pd.read_parquet(folder / "index.parquet")
    index.loc[index["country"] == "EE", ["label", "hcat"]] = ""
    index.to_parquet(folder / "index.parquet")
    about = json.loads((folder / "store.json").read_text())
    about["files"]["index.parquet"] = (folder / "index.parquet").stat().st_size
    (folder / "store.json").write_text(json.dumps(about))
    return folder


def two_targets(*words: str) -> dict[str, Any]:
    """FR -> EE, AT."""
    plain = as_plain(diagnosis(*words))
    (france, austria), (estonia,) = plain["shift"]["sources"], plain["shift"]["targets"]
    return {**plain, "shift": {**plain["shift"], "sources": [france], "targets": [estonia, austria]}}


def test_labels_that_do_not_exist_cannot_be_opened(tmp_path: Path, unlabelled: Path) -> None:
    with pytest.raises(ValueError, match=r"labels of \['EE'\], but these targets have none; leave labels=true out"):
        diagnose_shift(diagnosis(f"data.store={unlabelled}", "labels=true"), tmp_path)
    assert not (tmp_path / "audit.jsonl").exists()  # nothing was opened
    found = diagnose_shift(diagnosis(f"data.store={unlabelled}"), tmp_path)
    assert any("EE names no class" in s and "label_set=partial" in s for s in found.sentences)
    assert not found.targets[0].measures["classes"]["known"]


def test_two_targets_are_diagnosed_one_by_one(tmp_path: Path) -> None:
    plain = two_targets("labels=true")
    found = diagnose_shift(plain, tmp_path)
    assert [t.target for t in found.targets] == ["EE", "AT"]
    assert found.dominant == found.targets[0].dominant  # Austria is nearer to France
    truth = [t.measures["truth"] for t in found.targets]
    assert all(sum(one["target"]) == pytest.approx(1) for one in truth)
    assert truth[0]["target"] != truth[1]["target"]
    page = (tmp_path / "diagnosis.html").read_text()
    assert "What separates EE from the sources" in page
    assert "What separates AT from the sources" in page


def test_a_target_without_labels_beside_one_with_labels_has_no_truth(tmp_path: Path, unlabelled: Path) -> None:
    found = diagnose_shift(two_targets("labels=true", f"data.store={unlabelled}"), tmp_path)
    stored = json.loads((tmp_path / "diagnosis.json").read_text())["targets"]
    assert found.labels_opened
    assert stored["EE"]["measures"]["truth"] is None
    assert stored["AT"]["measures"]["truth"]["variation"] > 0


# -- the command line ----------------------------------------------------------------------------------------------


def test_the_command_line_prints_advice_and_the_page_repeats_its_words(tmp_path: Path) -> None:
    words = ["shift=embedded_phenology", *SMALL, *FEW, "data.coarsen=shared"]
    command = [sys.executable, "-m", "eo_adapt.diagnose", *words, f"hydra.run.dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    assert "Try: method=timematch (it estimates the days" in done.stdout
    page = (tmp_path / "diagnosis.html").read_text()
    assert html.escape(shlex.join(["python", "-m", "eo_adapt.diagnose", *words])) in page
    assert "hydra.run.dir" not in page
    stored = json.loads((tmp_path / "diagnosis.json").read_text())
    assert all(sentence in done.stdout for sentence in stored["sentences"])


# -- wrong input -----------------------------------------------------------------------------------------------------


def test_a_shift_without_a_target(tmp_path: Path) -> None:
    plain = as_plain(diagnosis())
    plain["shift"] = {**plain["shift"], "targets": []}
    with pytest.raises(ValueError, match=r"has no target\. Choose one with targets"):
        diagnose_shift(plain, tmp_path)


def test_images_are_not_diagnosed(tmp_path: Path) -> None:
    plain = as_plain(config("shift=aerial_embedded", name="diagnose"))
    with pytest.raises(ValueError, match=r"between parcels; shift=aerial_embedded is about images"):
        diagnose_shift(plain, tmp_path)


def test_too_few_parcels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has 10 train and val parcels that can be used, .* needs at least 20 in 4"):
        diagnose_shift(diagnosis("parcels=10"), tmp_path)


def test_runs_that_do_not_fit(tmp_path: Path, trained: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no run in .* \(it has no config.yaml\)"):
        diagnose_shift(diagnosis(f"run={tmp_path}"), tmp_path / "out")
    with pytest.raises(ValueError, match=r"differs from this diagnosis in \['data.generator'\]"):
        diagnose_shift(diagnosis(f"run={trained}", "data.generator.seed=5"), tmp_path / "out")
    other = config("shift=cawa_fergana_to_samarkand", f"run={trained}", name="diagnose")
    with pytest.raises(ValueError, match=r"\['shift', .*shift=embedded, this is shift=cawa_fergana_to_samarkand"):
        diagnose_shift(other, tmp_path / "out")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text((trained / "config.yaml").read_text())
    with pytest.raises(FileNotFoundError, match=r"has no checkpoint best\.ckpt; there are"):
        diagnose_shift(diagnosis(f"run={tmp_path / 'run'}"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_line_says_errors_in_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "eo_adapt.diagnose", "shift=embeded", f"hydra.run.dir={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert "did you mean 'embedded" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
