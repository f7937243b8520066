"""Every task with every method: trains, keeps its contract, survives a save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from quick import QUICK, QUICK_OF
from torch import nn

from eo_adapt.align import Step
from eo_adapt.assemble import build_task
from eo_adapt.data.synthetic.timematch import TimeMatchWorld
from eo_adapt.registry import build, config, names
from eo_adapt.task import AdaptationTask
from eo_adapt.train import as_plain, run

METHODS = [name for name in names("method") if name != "stack"] + ["[csn,coral,dann]"]
IMAGES_ONLY = {name for name in METHODS if "[" not in name and build("method", name).images_only}
READ_BY = {"timm_pyramid": "aerial", "map_fusion": "fusion", "u_tt": "fusion"}  # encoder -> task, else crops
READ_BY |= dict.fromkeys(("utae", "utae_small", "tsvit", "unet3d"), "sits")
ELSEWHERE = {  # encoder -> the test that trains it
    "point_pillars": "test_lidar_shifts.py",
    "series_fusion": "test_map_fusion_training.py",
}
SMALL = {
    "tsvit": ["encoder.patch=4", "encoder.width=16", "encoder.tokens=4", "encoder.heads=2", "encoder.head_width=8"],
    "unet3d": ["encoder.widths=[8,8]"],
}
# Whole runs on maps: what is for images, and a method of each kind with moments of its own; what is only a loss is
# looked at below.
RUN_ON_MAPS = IMAGES_ONLY | {"geomultitasknet", "lovecs", "target_only", "few_shot", "csn", "tent", "label_shift"}
RUN_ON_MAPS |= {"self_training", "fda", "geomt", "fomaml"}
RUN_ON_SERIES = {"source_only", "csn", "timematch", "mic"}  # more in readers_sits
# Fusion hands every method maps and inputs of several sensors: one method of each kind says what others would.
ON_FUSION = {"source_only", "coral", "dann", "csn", "adabn", "fda", "geomt", "self_training", "mic", "lovecs"}
LABELS = "shift.target_labels=3"
# What a method needs beside its name; an untrained network is sure of nothing.
WORDS = {name: [LABELS, "method.tune_steps=10"] for name in ("fomaml", "maml", "anil")}
WORDS |= {"fine_tune": [LABELS, "method.steps=10"], "class_mmd": ["method.confidence=0"], "mic": ["method.threshold=0"]}


def words(task: str, method: str, *more: str) -> list[str]:
    if method in IMAGES_ONLY and task == "crops":
        pytest.skip(f"{method} is for images")
    if method == "timematch" and task == "aerial":
        pytest.skip("it reads dates")
    if task == "fusion" and method not in ON_FUSION:
        pytest.skip("others of its kind run")
    if method in ("dacs", "daformer") and task == "sits":
        pytest.skip("it pastes pixels, and refuses series: dates differ")
    return [f"task={task}", f"method={method}", *WORDS.get(method, []), *QUICK_OF[task], *more]


def built(task: str, method: str, *more: str) -> tuple[AdaptationTask, Any]:
    return build_task(as_plain(config(*words(task, method, *more))))


def gradients(module: nn.Module, loss: torch.Tensor) -> list[torch.Tensor]:
    parameters = [p for p in module.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", names("task"))
def test_two_epochs_and_a_report(task: str, method: str, tmp_path: Path) -> None:
    if task != "crops" and method not in {"aerial": RUN_ON_MAPS, "sits": RUN_ON_SERIES, "fusion": {"geomt"}}[task]:
        pytest.skip("its loss on maps is looked at below")
    report = run(config(*words(task, method)), tmp_path)
    assert report["uses_target_labels"] is (method in ("target_only", "few_shot") or LABELS in words(task, method))
    assert {d["role"] for d in report["domains"].values()} == {"source", "target"}
    for d in report["domains"].values():
        assert d["n"] > 0
        assert 0 <= d["macro_f1"] <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", names("task"))
def test_the_alignment_moves_the_encoder_and_leaves_the_task_alone(task: str, method: str) -> None:
    module, data = built(task, method)
    module.train()
    # Dropout off, batch norm on: two forward passes of one batch must be comparable.
    for layer in module.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    batch = data.steps()[0, 0]
    assert all(b.labels is None for b in batch.targets)
    views = tuple(module.view(b, i) for i, b in enumerate((*batch.sources, *batch.targets)))
    sources, targets = views[: len(batch.sources)], views[len(batch.sources) :]
    step = Step(module.model, module.criterion, module.alignment.scope, 0.5)
    terms = module.alignment(sources, targets, step)
    loss = torch.stack([module.criterion(v.logits, v.labels) for v in sources]).mean()
    alone = gradients(module.model.encoder, loss)
    assert any(g.abs().sum() > 0 for g in alone)
    if not terms:
        return
    total = torch.stack(list(terms.values())).sum()
    aligned = gradients(module.model.encoder, total)
    assert all(torch.isfinite(g).all() for g in aligned)
    assert sum(float(g.abs().sum()) for g in aligned) > 0
    both = gradients(module.model.encoder, loss + total)
    for a, b, together in zip(alone, aligned, both, strict=True):
        torch.testing.assert_close(together, a + b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["crops", "aerial"])
def test_state_goes_out_and_in_again(task: str, method: str) -> None:
    module, _ = built(task, method)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1)
    other, _ = built(task, method)
    other.load_state_dict(module.state_dict())
    for name, value in module.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", ["crops", "aerial"])
def test_exported_network_says_the_same_without_the_method(task: str, method: str) -> None:
    module, data = built(task, method)
    module.eval()
    batch = data.steps()[0, 0]
    for i, b in enumerate((*batch.sources, *batch.targets)):
        with torch.no_grad(), module.alignment.scope(i):
            want = module.alignment.predict(module.model, b.inputs)
            plain = module.alignment.export(module.model, i)
        with torch.no_grad():
            torch.testing.assert_close(plain.eval()(b.inputs).logits, want)


@pytest.mark.parametrize("encoder", names("encoder"))
def test_every_encoder_trains(encoder: str, tmp_path: Path) -> None:
    if encoder in ELSEWHERE:
        pytest.skip(f"{ELSEWHERE[encoder]} trains it")
    more = [f"encoder.temporal.position={p}" for p in ("doy",) if encoder in ("pse_ltae", "gru")]
    said = [*words(READ_BY.get(encoder, "crops"), "coral"), f"encoder={encoder}", *more]
    if encoder in SMALL:  # the task's quick words are for another encoder
        said = [word for word in said if not word.startswith("encoder.")] + SMALL[encoder]
    report = run(config(*said), tmp_path)
    assert report["encoder"] == encoder


def test_pixel_sets_train_with_their_attributes(tmp_path: Path) -> None:
    TimeMatchWorld(parcels=90, images=12).write(tmp_path / "raw")
    quick = [o for o in QUICK if "generator" not in o and "block_size" not in o]
    words = [f"data.root={tmp_path / 'raw'}", "data.split.buffer=0.0", "encoder.spatial.attributes=4", "data.pixels=8"]
    report = run(config("shift=timematch_dk1_to_fr1", "method=[csn,coral]", *words, *quick), tmp_path / "run")
    assert report["domains"]["FR1"]["n"] > 0
    _, data = build_task(as_plain(config("shift=timematch_dk1_to_fr1", *words, *quick)))
    batch = data.steps()[0, 0].sources[0]
    assert batch.inputs["s2"].values.ndim == 4
    assert batch.inputs["attributes"].values.shape[1] == 4


def test_many_sources_and_many_targets(tmp_path: Path) -> None:
    domain = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: synthetic, select: {{country: {0}}}}}"
    shift = [
        f"shift.sources=[{domain.format('FR')}]",
        f"shift.targets=[{domain.format('AT')},{domain.format('EE')}]",
    ]
    for method in ("coral", "mmd", "dann", "csn"):
        more = [f"method.pairing={'each'}"] if method in ("coral", "mmd") else []
        report = run(config(f"method={method}", *shift, *more, *QUICK), tmp_path / method)
        assert [d["role"] for d in report["domains"].values()] == ["source", "target", "target"]


def test_elevation_keeps_its_values_in_strong_views() -> None:
    module, data = built("aerial", "self_training")
    assert module.alignment.strong.leave_bands == {"aerial": (4,)}
    batch = data.steps()[0, 0].sources[0]
    strong, _ = module.alignment.strong(batch.inputs)
    before, after = (x["aerial"].values.sort(dim=-1).values.sort(dim=-2).values for x in (batch.inputs, strong))
    torch.testing.assert_close(after[:, 4].sum((1, 2)), before[:, 4].sum((1, 2)))
    assert not torch.allclose(after[:, :4].sum((2, 3)), before[:, :4].sum((2, 3)))
