"""A run is loaded without its data, and predicts what its evaluation predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from quick import QUICK_OF
from torch import Tensor

from eo_adapt.assemble import build_task
from eo_adapt.data.loader import Part, PartLoader
from eo_adapt.evaluate import load
from eo_adapt.registry import config
from eo_adapt.report.predict import said_of
from eo_adapt.train import run
from eo_adapt.trained import Trained, load_run, unpretrained

CASES = {
    "crops": ("method=[csn,label_shift]",),
    "aerial": ("method=geomultitasknet",),
    "fusion": ("method=coral", "align_at=all"),
    "sits": ("method=self_training",),
}

COARSE = dict.fromkeys(("s2", "s1_asc", "s1_desc"), 10.24)
GSD = {
    "crops": {},
    "aerial": {"aerial": 0.2},
    "fusion": {"aerial": 1.6, "elevation": 1.6} | COARSE,
    "sits": {"s2": 10.0},
}


@pytest.fixture(scope="module", params=sorted(CASES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "run"
    run(config(f"task={request.param}", *CASES[request.param], *QUICK_OF[request.param]), folder)
    return folder


def said_by_evaluation(folder: Path, number: int, most: int) -> tuple[list[Any], Tensor, Any]:
    """Batches of a domain, and the logits that the evaluation of the run would see."""
    task, data = build_task(yaml.safe_load((folder / "config.yaml").read_text()))
    load(task, data, folder / "checkpoints" / "best.ckpt")
    part = Part(torch.from_numpy(data.parcels[number].rows[:most]), None)
    logits = torch.cat([logits for _, logits, _ in said_of(task, data, part, number)])
    return list(PartLoader(data.reader.plain(), part, 1024)), logits, data


def test_it_predicts_what_was_evaluated_and_its_plain_network_too(trained: Path) -> None:
    one = load_run(trained)
    number = one.number()
    assert one.domains[number] in one.card["unlabelled"]
    batches, expected, data = said_by_evaluation(trained, number, 6)
    found = torch.cat([one.logits(batch.inputs, number) for batch in batches])
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    network = one.network(number)
    with torch.no_grad():
        plain = torch.cat([network(batch.inputs)[1] for batch in batches])
    torch.testing.assert_close(plain, expected, rtol=1e-4, atol=1e-4)
    assert one.maps == data.maps
    assert one.bands == {sensor: list(bands) for sensor, bands in data.bands.items()}
    assert one.legend == data.legend
    assert one.temperature == json.loads((trained / "report.json").read_text())["temperature"]
    assert set(one.card["imagery"]) == set(one.bands)
    assert one.card["gsd"] == pytest.approx(GSD[one.card["config"]["choices"]["task"]])


def test_what_is_asked_wrongly_is_said(trained: Path, tmp_path: Path) -> None:
    one = load_run(trained)
    with pytest.raises(LookupError, match="no domain 'moon'; it has"):
        one.number("moon")
    with pytest.raises(FileNotFoundError, match=r"there are \['best.ckpt', 'last.ckpt'\]"):
        load_run(trained, "first")
    with pytest.raises(FileNotFoundError, match="give the folder that training printed"):
        load_run(tmp_path)
    several = Trained(one.model, one.alignment, {**one.card, "unlabelled": ["a", "b"]}, ("x", "a", "b"), 1.0, "")
    with pytest.raises(LookupError, match="domain=<name>"):
        several.number()
    state = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    del state["card"]["imagery"]
    (tmp_path / "checkpoints").mkdir()
    torch.save(state, tmp_path / "checkpoints" / "best.ckpt")
    with pytest.raises(ValueError, match=r"older version and does not say its \['imagery'\]: train again"):
        load_run(tmp_path)


def test_an_encoder_waits_for_the_weights_of_the_checkpoint() -> None:
    spec = {"_target_": "a", "branch": {"pretrained": "/gone.pt", "bands": ["R"]}, "pretrained": "imagenet"}
    assert unpretrained(spec) == {
        "_target_": "a",
        "branch": {"pretrained": "none", "bands": ["R"]},
        "pretrained": "none",
    }
