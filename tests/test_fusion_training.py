"""Fusion in training: complementary sensors, auxiliary losses, methods, and reports with sensors and dates removed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from fused import SCHEMES, fusion
from quick import BRIEF
from torch import Tensor, nn

from eo_adapt.assemble import build_task
from eo_adapt.data.parts import SealedLabelsError
from eo_adapt.data.synthetic.worldcereal import WorldCerealWorld
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build, config
from eo_adapt.robustness import missing_dates, score_tests, with_fewer_dates, without
from eo_adapt.train import as_plain, run
from eo_adapt.types import Batch, Inputs, Observation

HEADS = {"decision": "decision", "late": "auxiliary"}
BOTH = {"a": 1, "b": 1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worldcereal")
    WorldCerealWorld(parcels=110, lacking=0.2).write(root)
    return root


def words(raw: Path, scheme: str, *more: str) -> list[str]:
    fuse = ["encoder.scheme=late", "encoder.fuse=attention"] if scheme == "attention" else [f"encoder.scheme={scheme}"]
    head = f"head={HEADS.get(scheme, 'classify')}"
    data = [f"data.root={raw}", "data.steps_per_epoch=3", "data.min_per_class=2"]
    return ["encoder=fusion", head, *fuse, "shift=worldcereal_france_to_corsica", *data, *BRIEF, *more]


def halves(seed: int, samples: int = 128) -> tuple[Inputs, Tensor]:
    """Each sensor knows one bit of the label (K = 4), as the sign of a series with gaps."""
    stream = torch.Generator().manual_seed(seed)
    bits = torch.randint(2, (samples, 2), generator=stream)
    inputs = {}
    for i, (name, dates) in enumerate((("a", 6), ("b", 9))):
        valid = torch.rand(samples, dates, generator=stream) > 0.2
        valid[:, 0] = True
        noise = 0.5 * torch.randn(samples, dates, generator=stream)
        values = (bits[:, i, None] * 2.0 - 1 + noise)[..., None]
        days = torch.linspace(0, 300, dates).repeat(samples, 1)
        inputs[name] = Observation(values.where(valid[..., None], torch.nan), days, valid)
    return inputs, 2 * bits[:, 0] + bits[:, 1]


def learnt(kind: str, sensors: list[str]) -> float:
    """Accuracy on new samples after a short training."""
    encoder = fusion(kind, BOTH, modalities=sensors)
    head = build("head", "decision" if kind == "decision" else "classify", encoder=encoder, classes=4)
    model = Model(encoder, head, Normalise({name: ([0.0], [1.0]) for name in BOTH}))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(30):
        inputs, labels = halves(step)  # new samples each time: learnt by heart, the halves would not add up
        optimizer.zero_grad()
        said = model(inputs)
        every = (said.logits, *(side.logits for side in getattr(said, "sides", {}).values()))
        torch.stack([nn.functional.cross_entropy(logits, labels) for logits in every]).sum().backward()
        optimizer.step()
    inputs, labels = halves(1_000, 512)
    with torch.no_grad():
        return (model.eval()(inputs).logits.argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("kind", SCHEMES)
def test_fusion_beats_each_half_of_the_label_alone(kind: str) -> None:
    assert learnt(kind, ["a", "b"]) > 0.9
    assert all(0.4 < learnt(kind, [name]) < 0.6 for name in BOTH)


@pytest.mark.parametrize(
    ("scheme", "method"), list(zip(SCHEMES, ["coral", "dann", "csn", "geomt", "self_training"], strict=True))
)
def test_every_scheme_trains_with_every_kind_of_method(scheme: str, method: str, raw: Path, tmp_path: Path) -> None:
    dropout = ["encoder.drop_dates={s2: 0.4, s1: 0.2}", "encoder.drop_modality=0.2"]
    report = run(config(*words(raw, scheme, f"method={method}", *dropout, "trainer.max_epochs=1")), tmp_path)
    assert set(report["without"]) == {"s2", "s1", "weather"}
    for domains in report["without"].values():
        assert set(domains) == {"france", "corsica"}
        assert all(0 <= scores["closed_macro_f1"] <= 1 for scores in domains.values())
    assert json.loads((tmp_path / "report.json").read_text())["without"] == report["without"]


def test_auxiliary_losses_are_weighted_means_over_samples_that_have_the_sensor(raw: Path, tmp_path: Path) -> None:
    task, data = build_task(as_plain(config(*words(raw, "late", "head.auxiliary=0.3"))))
    batch = data.steps()[0, 0].sources[0]
    task.train()
    torch.manual_seed(0)
    view, sides, _ = task._view(batch, 0)
    terms = task._auxiliary([view], [sides])
    assert set(terms) == {"auxiliary/s2", "auxiliary/s1", "auxiliary/weather"}
    assert batch.labels is not None
    have = batch.inputs["s1"].valid.any(1)
    assert not have.all()
    want = 0.3 * nn.functional.cross_entropy(sides["s1"].logits[have], batch.labels[have])
    torch.testing.assert_close(terms["auxiliary/s1"], want)
    run(config(*words(raw, "late")), tmp_path)
    metrics = pd.read_csv(tmp_path / "metrics.csv")
    assert {"loss/task", "loss/auxiliary/s1", "loss/auxiliary/weather"} <= set(metrics)


def test_a_removed_sensor_is_one_that_nobody_has(raw: Path, tmp_path: Path) -> None:
    report = run(config(*words(raw, "late", "data.steps_per_epoch=10")), tmp_path)
    task, data = build_task(as_plain(config(*words(raw, "late", "data.steps_per_epoch=10"))))
    from eo_adapt.evaluate import load

    load(task, data, tmp_path / "checkpoints" / "best.ckpt")
    with pytest.raises(SealedLabelsError):
        score_tests(task, data, without("s2"))
    with data.opened(lambda: None):
        assert score_tests(task, data, without("s2")) == report["without"]["s2"]

        def cut(batch: Batch) -> Inputs:
            return {name: look for name, look in batch.inputs.items() if name != "s2"}

        assert score_tests(task, data, cut) == report["without"]["s2"]
        whole = score_tests(task, data, lambda batch: batch.inputs)
        for name, scores in whole.items():
            assert scores["closed_macro_f1"] == pytest.approx(report["domains"][name]["closed_macro_f1"])


def test_missing_dates_go_in_the_configured_share_and_stay_gone() -> None:
    valid = torch.rand(50, 12) > 0.3
    valid[0] = False
    look = Observation(torch.randn(50, 12, 2), torch.arange(12.0).repeat(50, 1), valid)
    batch = Batch({"s2": look, "s1": look}, None, torch.zeros(50, 2), torch.arange(50))
    before = valid
    for share in (0.0, 0.3, 0.6, 0.9):
        shown = with_fewer_dates("s2", share, 1)(batch)
        now = shown["s2"].valid
        assert now is not None
        n = valid.sum(1)
        assert torch.equal(now.sum(1), n - torch.minimum((share * n + 1e-6).floor().long(), (n - 1).clamp_min(0)))
        assert not (now & ~before).any(), "what is gone stays gone"
        assert shown["s1"] is look
        before = now
    again = with_fewer_dates("s2", 0.3, 1)(batch)["s2"].valid
    other = with_fewer_dates("s2", 0.3, 2)(batch)["s2"].valid
    assert again is not None
    assert other is not None
    assert torch.equal(with_fewer_dates("s2", 0.3, 1)(batch)["s2"].valid, again)
    assert not torch.equal(other, again)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("robustness", Path(__file__).parents[1] / "benchmarks/robustness.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_curves_of_runs_become_a_json_and_a_figure(raw: Path, tmp_path: Path) -> None:
    for scheme in ("late", "mid"):
        run(config(*words(raw, scheme, "trainer.max_epochs=1")), tmp_path / scheme)
    opened = len((tmp_path / "late" / "audit.jsonl").read_text().splitlines())
    folders = [str(tmp_path / scheme) for scheme in ("late", "mid")]
    script().main([*folders, "--sensor", "s2", "--shares", "0", "0.9", "--seeds", "2", "--out", str(tmp_path / "gone")])
    curves = json.loads((tmp_path / "gone.json").read_text())
    assert [curve["name"] for curve in curves] == ["late source_only", "mid source_only"]
    scores = curves[0]["domains"]["corsica"]["closed_macro_f1"]
    assert [len(at) for at in scores] == [2, 2]
    assert scores[0][0] == scores[0][1], "nothing is drawn where nothing goes"
    report = json.loads((tmp_path / "late" / "report.json").read_text())
    assert scores[0][0] == pytest.approx(report["domains"]["corsica"]["closed_macro_f1"])
    assert (tmp_path / "gone.png").stat().st_size > 5_000
    lines = [json.loads(line) for line in (tmp_path / "late" / "audit.jsonl").read_text().splitlines()]
    assert len(lines) == opened + 1
    assert lines[-1]["by"] == "missing dates of s2"


def test_impossible_questions_are_refused(raw: Path) -> None:
    task, data = build_task(as_plain(config(*words(raw, "late"))))
    with pytest.raises(LookupError, match=r"no sensor 's3'; the data provide \['s1', 's2', 'weather'\]"):
        missing_dates(task, data, "s3")
    with pytest.raises(ValueError, match=r"from 0 up to, but not including, 1; got \[1.0\]"):
        missing_dates(task, data, "s2", shares=[1.0])
    with pytest.raises(LookupError, match=r"modalities names 's3'.*the data provide \['s1', 's2', 'weather'\]"):
        build_task(as_plain(config(*words(raw, "late", "encoder.modalities=[s2,s3]"))))
