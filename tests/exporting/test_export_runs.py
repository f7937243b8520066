"""The command on runs of several methods: the files say what the run's evaluation said."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pystac
import pytest
import torch
import yaml
from pystac.extensions.mlm import MLMExtension
from quick import QUICK

from eo_adapt import load
from eo_adapt.assemble import build_task
from eo_adapt.data.loader import Part, PartLoader
from eo_adapt.evaluate import load as load_task
from eo_adapt.export import main
from eo_adapt.exporting import write as writing
from eo_adapt.exporting.write import ExportError, export_run
from eo_adapt.registry import config
from eo_adapt.report.predict import said_of
from eo_adapt.train import run

METHODS = ("coral", "[csn,label_shift]", "dann", "self_training", "geomultitasknet", "tent")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {}
    for method in METHODS:
        folders[method] = tmp_path_factory.mktemp("runs") / "run"
        run(config("task=crops", f"method={method}", *QUICK, "data.steps_per_epoch=2"), folders[method])
    return folders


def evaluated(folder: Path, most: int = 16) -> tuple[Any, torch.Tensor, int]:
    task, data = build_task(yaml.safe_load((folder / "config.yaml").read_text()))
    load_task(task, data, folder / "checkpoints" / "best.ckpt")
    number = len(data.labelled)
    part = Part(torch.from_numpy(data.parcels[number].rows[:most]), None)
    logits = torch.cat([logits for _, logits, _ in said_of(task, data, part, number)])
    return next(iter(PartLoader(data.reader.plain(), part, 1024))).inputs, logits, number


@pytest.mark.parametrize("method", METHODS[:-1])
def test_the_files_say_what_was_evaluated(method: str, runs: dict[str, Path], tmp_path: Path) -> None:
    folder = runs[method]
    formats = ("pt2", "onnx", "safetensors") if method == "[csn,label_shift]" else ("safetensors",)
    out = export_run(folder, out=tmp_path / "out", formats=formats)
    inputs, expected, _ = evaluated(folder)
    for form in formats:
        predictor = load(out / f"network.{form}")
        torch.testing.assert_close(predictor.logits(inputs), expected, rtol=1e-4, atol=1e-4)
        scale = json.loads((folder / "report.json").read_text())["temperature"]
        torch.testing.assert_close(predictor.probabilities(inputs), (expected / scale).softmax(1), rtol=1e-4, atol=1e-4)
    of_run = load(folder)
    assert of_run.domain == predictor.domain
    assert of_run.about == predictor.about
    torch.testing.assert_close(of_run.logits(inputs), expected, rtol=1e-4, atol=1e-4)


def test_each_domain_has_its_own_network(runs: dict[str, Path]) -> None:
    inputs, _, _ = evaluated(runs["[csn,label_shift]"])
    target, source = load(runs["[csn,label_shift]"]), load(runs["[csn,label_shift]"], "FR")
    assert (target.domain, source.domain) == ("EE", "FR")
    assert not torch.allclose(target.logits(inputs), source.logits(inputs), atol=1e-3)


def test_what_lies_beside_says_what_it_is(runs: dict[str, Path], tmp_path: Path) -> None:
    out = export_run(runs["[csn,label_shift]"], "EE", tmp_path / "out", ("pt2", "safetensors"), licence="CC-BY-4.0")
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "item.json",
        "network.pt2",
        "network.safetensors",
    ]
    page = (out / "README.md").read_text()
    for word in ("csn+label_shift", "labels of FR, AT", "`s2.days`", "reflectance", "winter_rye", "Licences of the"):
        assert word in page
    text = json.loads((out / "item.json").read_text())
    item = pystac.Item.from_dict(text)
    core = pystac.Item.from_dict({**text, "stac_extensions": []})
    core.validate()  # against the schemas of STAC that pystac ships
    mlm, predictor = MLMExtension.ext(item), load(out)
    assert mlm.tasks == ["classification"]
    assert (mlm.framework, mlm.accelerator_constrained) == ("PyTorch", False)
    assert mlm.total_parameters is not None
    assert mlm.total_parameters > 10_000
    assert [one.name for one in mlm.input] == [entry.name for entry in predictor.layout.entries]
    values = mlm.input[0]
    assert values.bands == [f"s2.{band}" for band in predictor.bands["s2"]]
    assert (values.input.shape, values.input.dim_order) == ([-1, -1, 13], ["batch", "time", "bands"])
    assert {band["name"] for band in text["properties"]["bands"]} == set(values.bands)
    means, stds = predictor.about["statistics"]["s2"]
    assert [band["statistics"] for band in text["properties"]["bands"]] == [
        {"mean": mean, "stddev": std} for mean, std in zip(means, stds, strict=True)
    ]
    assert {band["unit"] for band in text["properties"]["bands"]} == {"reflectance"}
    classes = [one.to_dict() for one in mlm.output[1].classes]
    assert [one["title"] for one in classes] == list(predictor.legend.names)
    assert ["#" + one["color_hint"] for one in classes] == [c.upper() for c in predictor.colours.values()]
    assert item.properties["license"] == "CC-BY-4.0"
    assert text["properties"]["eo_adapt:licences_of_data"].keys() == {"synthetic"}
    for form, asset in item.assets.items():
        assert "mlm:model" in asset.roles
        assert asset.extra_fields["mlm:artifact_type"] in ("torch.export.save", "safetensors.torch.save_file")
        assert asset.extra_fields["file:size"] == (out / f"network.{form}").stat().st_size


def test_what_cannot_be_is_said_and_loses_nothing(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = runs["coral"]
    with pytest.raises(ValueError, match="Tent learns while it predicts; a plain network cannot"):
        export_run(runs["tent"], formats=("safetensors",))
    with pytest.raises(LookupError, match="knows no domain 'MOON'; it has"):
        export_run(folder, "MOON")
    with pytest.raises(ValueError, match=r"formats lists some of \['pt2', 'onnx', 'safetensors'\]; got \['tf'\]"):
        export_run(folder, formats=("tf",))
    out = export_run(folder, out=tmp_path / "out", formats=("safetensors",))
    before = (out / "item.json").read_bytes()
    with pytest.raises(FileExistsError, match="force=true"):
        export_run(folder, out=out)
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="is no export"):
        export_run(folder, out=tmp_path / "mine", force=True)

    def fails(*given: Any) -> Any:
        raise RuntimeError("\n  no such operator\nmore")

    monkeypatch.setattr(writing, "trace", fails)
    with pytest.raises(ExportError, match=r"\['pt2'\] \(pt2: no such operator\)\. What works: formats=\[safetensors\]"):
        export_run(folder, out=out, formats=("pt2", "safetensors"), force=True)
    assert (out / "item.json").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]  # nothing half-written
    monkeypatch.setattr(torch, "allclose", lambda *given, **options: False)
    with pytest.raises(ExportError, match="differ from the network's"):
        export_run(folder, out=out, formats=("safetensors",), force=True)
    monkeypatch.undo()
    assert export_run(folder, out=out, formats=("safetensors",), force=True) == out


def test_a_checkpoint_that_is_none_is_said(runs: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "best.ckpt"
    path.parent.mkdir()
    torch.save({"card": {}, "state_dict": torch.nn.Linear(1, 1)}, path)
    with pytest.raises(ValueError, match="more than weights and plain types; it is not opened"):
        load(tmp_path)
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="is no checkpoint of eo_adapt"):
        load(tmp_path)
    state = torch.load(runs["coral"] / "checkpoints" / "best.ckpt", weights_only=True)
    state["card"]["sensors"]["s2"] = 4
    torch.save(state, path)
    with pytest.raises(ValueError, match=r"other weights than its card describes \(bands"):
        load(tmp_path)
    with pytest.raises(ValueError, match="is a checkpoint of a run: give the run directory"):
        load(runs["coral"] / "checkpoints" / "best.ckpt")


def test_the_command(runs: dict[str, Path], tmp_path: Path) -> None:
    words = (f"run={runs['coral']}", "domain=EE", f"out={tmp_path / 'out'}", "formats=[safetensors]")
    command = [sys.executable, "-m", "eo_adapt.export", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"outputs: {tmp_path / 'out'}"
    assert load(tmp_path / "out").domain == "EE"
    with pytest.raises(ValueError, match=r"export needs run: python -m eo_adapt\.export run="):
        main(config(name="export"))
