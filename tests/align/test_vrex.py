"""V-REx: the variance of the risks, and a toy where a colour lies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import gain_over
from sources import step_of, view, where_colour_lies
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.vrex import VREx, vrex


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.floats(0, 20), min_size=2, max_size=6))
def test_is_the_population_variance(risks):
    assert vrex(torch.tensor(risks)).item() == pytest.approx(np.var(risks), rel=1e-4, abs=1e-5)


def test_an_offset_of_all_risks_costs_no_digits():
    risks = torch.tensor([1.0, 1.5, 3.0])
    assert vrex(risks + 1e3).item() == pytest.approx(np.var([1.0, 1.5, 3.0]), rel=1e-4)


def test_the_gradient_lowers_the_highest_risk_and_raises_the_lowest():
    risks = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    vrex(risks).backward()
    torch.testing.assert_close(risks.grad, 2 * (risks.detach() - 3) / 3)


def test_the_term_is_the_variance_of_the_task_losses():
    torch.manual_seed(0)
    logits = [scale * torch.randn(n, 3) for scale, n in ((1, 9), (3, 14), (0.1, 5))]
    labels = [torch.randint(3, (len(z),)) for z in logits]
    views = tuple(view(z, y, i) for i, (z, y) in enumerate(zip(logits, labels, strict=True)))
    losses = [float(-z.double().log_softmax(1)[range(len(y)), y].mean()) for z, y in zip(logits, labels, strict=True)]
    assert VREx()(views, (), step_of(nn.Identity()))["vrex"].item() == pytest.approx(np.var(losses), rel=1e-4)
    same = tuple(view(logits[0], labels[0], i) for i in range(3))
    assert VREx()(same, (), step_of(nn.Identity()))["vrex"].item() == 0


def test_half_precision_logits():
    views = tuple(view(torch.randn(6, 3).bfloat16(), torch.randint(3, (6,)), i) for i in range(2))
    value = VREx()(views, (), step_of(nn.Identity()))["vrex"]
    assert value.dtype == torch.float32
    assert value.isfinite()


def test_one_source_is_refused():
    with pytest.raises(ValueError, match=r"VREx .* at least 2 sources; got 1 \(add domains to shift.sources\)"):
        VREx().attach(nn.Linear(2, 2), Setup(2, 1, 1, 2))


def test_it_learns_the_cause_where_plain_training_learns_the_colour():
    plain = [where_colour_lies(SourceOnly(), seed) for seed in range(3)]
    ours = [where_colour_lies(VREx(100.0), seed) for seed in range(3)]
    assert gain_over(plain, ours)[0] > 0.2
