"""Heads after a fusion: the mean of probabilities, who is asked, and what each sensor says alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fused import SAMPLES, fusion, mixed, some
from torch import Tensor

from eo_adapt.heads.modalities import mean_probability
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build

PLAIN = Normalise({"s2": ([0.0] * 4, [1.0] * 4), "s1": ([0.0] * 2, [1.0] * 2)})


def model(kind: str, head: str, **options: object) -> Model:
    encoder = fusion(kind)
    return Model(encoder, build("head", head, encoder=encoder, classes=3, **options), PLAIN)


def probabilities(logits: Tensor) -> np.ndarray:
    raw = np.exp(logits.double().numpy())
    return raw / raw.sum(-1, keepdims=True)


def test_logits_are_the_log_of_the_mean_probability() -> None:
    torch.manual_seed(0)
    logits, present = torch.randn(3, 6, 4) * 5, torch.rand(3, 6) > 0.4
    present[:, 2], present[:, 3] = False, torch.tensor([False, True, False])
    found = mean_probability(logits, present).numpy()
    each = probabilities(logits)
    for b in range(6):
        there = present[:, b].numpy()
        want = each[there, b].mean(0) if there.any() else np.full(4, 0.25)
        np.testing.assert_allclose(np.exp(found[b]), want, rtol=1e-5)


def test_gradients_reach_the_sensors_that_are_there_alone() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    present = torch.tensor([[True, True, False], [False, True, False]])
    mean_probability(logits, present)[:, 0].sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().sum(2).ne(0).tolist() == present.tolist()


def test_maps_of_logits_are_averaged_cell_by_cell() -> None:
    logits, present = torch.randn(2, 3, 4, 5, 6), torch.tensor([[True, True, False], [False, True, True]])
    found = mean_probability(logits, present)
    cell = mean_probability(logits[..., 2, 3], present)
    torch.testing.assert_close(found[..., 2, 3], cell)


def test_decision_of_one_sensor_is_its_head() -> None:
    made, inputs = model("decision", "decision").eval(), mixed()
    lonely = some(inputs, 2, 4)  # these have s2 only
    vector = made.encoder.parts()["s2"](lonely).maps
    with torch.no_grad():
        want = made.head.heads["s2"](type(made.encoder(lonely))(vector))
    np.testing.assert_allclose(
        probabilities(made(lonely).logits.detach()), probabilities(want.detach()), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(("kind", "head"), [("late", "auxiliary"), ("decision", "decision")])
def test_mixed_availability_equals_sample_by_sample(kind: str, head: str) -> None:
    made, inputs = model(kind, head), mixed()
    made(inputs)
    made.eval()
    alone = torch.cat([made(some(inputs, row)).logits for row in range(SAMPLES)])
    torch.testing.assert_close(made(inputs).logits, alone, atol=1e-5, rtol=1e-5)
    assert not made(inputs).sides


@pytest.mark.parametrize(("kind", "head"), [("late", "auxiliary"), ("decision", "decision")])
def test_each_sensor_speaks_for_itself_in_training(kind: str, head: str) -> None:
    made, inputs = model(kind, head, auxiliary=0.3).train(), mixed()
    sides = made(inputs).sides
    assert list(sides) == ["s2", "s1"]
    for name, side in sides.items():
        valid = inputs[name].valid
        assert valid is not None
        assert torch.equal(side.present, valid.any(1))
        assert (side.logits[~side.present] == 0).all()
        assert side.weight == 0.3
    made.zero_grad()
    sides["s1"].logits.sum().backward()
    assert all(p.grad is None or not p.grad.any() for p in made.encoder.parts()["s2"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in made.encoder.parts()["s1"].parameters())
    assert not model(kind, head, auxiliary=0.0).train()(inputs).sides


def test_a_batch_without_anything_gets_equal_logits() -> None:
    made, inputs = model("decision", "decision").train(), mixed()
    logits = made(some(inputs, 5, 5)).logits
    torch.testing.assert_close(logits.softmax(1), torch.full_like(logits, 1 / 3))


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"Fusion leaves the modalities apart.*set head=decision, or encoder.scheme"):
        model("decision", "classify")
    with pytest.raises(ValueError, match=r"Auxiliary follows a fusion with an encoder for each.*late or decision"):
        model("mid", "auxiliary")
    with pytest.raises(ValueError, match="weight of a loss, 0 or more; got -1"):
        model("late", "auxiliary", auxiliary=-1.0)
