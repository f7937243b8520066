"""JAN against loops in float64, its link to MMD, and what the product of kernels sees that MMD does not."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from cues import gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Step, View
from eo_adapt.align.jan import JAN, jan
from eo_adapt.align.mmd import mmd

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)
SCALES = ((0.5, 2.0), (1.0,))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, logits: Tensor, domain: int) -> View:
    return View(features, logits, None, domain)


def layers(rows: int, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 4) + offset, torch.randn(rows, 3).softmax(1)


def brute(source: tuple[Tensor, ...], target: tuple[Tensor, ...], scales=SCALES, floors=(0, 0), estimator="u") -> float:
    """One pair of rows at a time; each layer's bandwidth is the lower median over pairs."""
    kernels = []
    for x, y, factors, floor in zip(source, target, scales, floors, strict=True):
        z = torch.cat([x, y]).double().numpy()
        apart = ((z[:, None] - z[None]) ** 2).sum(2)
        median = np.sort(apart[np.tril_indices(len(z), -1)])[(len(z) * (len(z) - 1) // 2 - 1) // 2]
        kernels.append(np.mean([np.exp(-apart / (f * max(median, floor))) for f in factors], 0))
    kernel, n = np.prod(kernels, 0), len(source[0])

    def within(k: np.ndarray) -> float:
        return k.mean() if estimator == "v" else (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))

    return float(within(kernel[:n, :n]) + within(kernel[n:, n:]) - 2 * kernel[:n, n:].mean())


@pytest.mark.parametrize("estimator", ["u", "v"])
@settings(deadline=None, max_examples=12, derandomize=True)
@given(n=st.integers(2, 9), m=st.integers(2, 9), seed=st.integers(0, 99))
def test_equals_a_loop_over_pairs(estimator, n, m, seed):
    torch.manual_seed(seed)
    source, target = layers(n), layers(m, 1.0)
    found = jan(source, target, SCALES, estimator=estimator).item()
    assert found == pytest.approx(brute(source, target, estimator=estimator), abs=1e-5)


@pytest.mark.parametrize("estimator", ["u", "v"])
@pytest.mark.parametrize("level", [0.0, 0.3])
def test_a_constant_layer_leaves_mmd(estimator, level):
    x, y = torch.randn(9, 4), torch.randn(7, 4) + 1
    constant = torch.full((9, 3), level), torch.full((7, 3), level)
    found = jan((x, constant[0]), (y, constant[1]), ((0.5, 2.0), (1.0,)), estimator=estimator)
    assert found.item() == pytest.approx(mmd(x, y, (0.5, 2.0), estimator).item(), abs=1e-5)


def test_sees_a_swap_of_outputs_that_neither_layer_shows_alone():
    """Both domains have the same features and the same outputs, but the outputs belong to the other features."""
    features = torch.cat([torch.randn(60, 4), torch.randn(60, 4) + 4])
    outputs = torch.eye(2).repeat_interleave(60, 0)
    alone = max(abs(mmd(x, x[torch.randperm(120)]).item()) for x in (features, outputs))
    joint = jan((features, outputs), (features, outputs.flip(1)), SCALES, (0.0, 0.1)).item()
    assert joint > 0.2
    assert joint > 10 * alone


def test_u_is_zero_on_average_under_equal_distributions():
    values = torch.stack([jan(layers(8), layers(12), SCALES) for _ in range(400)])
    assert abs(values.mean() / (values.std() / 20)) < 3.5


def test_gradients_reach_features_and_outputs():
    x, y = torch.randn(9, 4, requires_grad=True), torch.randn(7, 4)
    p, q = torch.randn(9, 3, requires_grad=True), torch.randn(7, 3) + 1
    grads = torch.autograd.grad(jan((x, p.softmax(1)), (y, q.softmax(1)), SCALES), (x, p))
    assert all(grad.isfinite().all() and grad.abs().max() > 1e-4 for grad in grads)


def test_the_floor_keeps_confident_predictions_of_one_class_together():
    """More than half of the outputs agree to two digits: without a floor the others would be structure."""
    features = torch.randn(20, 4), torch.randn(20, 4)
    noise = [torch.rand(20, 1) * 3e-3 for _ in range(2)]
    outputs = [torch.cat([e, 1 - e], 1) for e in noise]
    source, target = zip(features, outputs, strict=True)
    assert jan(source, target, SCALES, (0, 0.1)).item() == pytest.approx(mmd(*features, SCALES[0]).item(), abs=1e-5)
    assert jan(source, target, SCALES).item() != pytest.approx(mmd(*features, SCALES[0]).item(), abs=1e-3)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_collapsed_identical_and_offset_batches_are_finite(offset):
    x = torch.full((8, 4), offset, requires_grad=True)
    logits = torch.zeros(8, 3, requires_grad=True)
    value = JAN()((view(x, logits, 0),), (view(x, logits, 1),), STEP)["jan"]
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert x.grad.isfinite().all()
    assert logits.grad.isfinite().all()
    source, target = (
        (torch.randn(30, 4) + offset, torch.rand(30, 3)),
        (torch.randn(20, 4) + 1 + offset, torch.rand(20, 3)),
    )
    assert jan(source, target, SCALES).item() == pytest.approx(brute(source, target), abs=1e-4)


def test_bf16_logits_and_a_nan():
    x, logits = torch.randn(8, 4), torch.randn(8, 3).bfloat16()
    target = view(torch.randn(6, 4), torch.randn(6, 3).bfloat16(), 1)
    value = JAN()((view(x, logits, 0),), (target,), STEP)["jan"]
    assert value.dtype == torch.float32
    assert value == JAN()((view(x, logits.float(), 0),), (target,), STEP)["jan"]
    logits[2, 1] = float("nan")
    assert JAN()((view(x, logits, 0),), (target,), STEP)["jan"].isnan()


def test_pooled_and_each_with_two_sources_and_two_targets():
    parts = [(torch.randn(n, 4) + n, torch.randn(n, 3)) for n in (6, 9, 7, 5)]
    views = tuple(view(x, z, d) for d, (x, z) in enumerate(parts))
    s, t = ([(x, z.softmax(1)) for x, z in side] for side in (parts[:2], parts[2:]))
    options = {"scales": SCALES[0], "output_scales": SCALES[1], "floor": 0.2}
    pool = [tuple(map(torch.cat, zip(*side, strict=True))) for side in (s, t)]
    found = JAN(**options)(views[:2], views[2:], STEP)["jan"].item()
    assert found == pytest.approx(brute(*pool, floors=(0, 0.2)), abs=1e-5)
    found = JAN(pairing="each", **options)(views[:2], views[2:], STEP)["jan"].item()
    assert found == pytest.approx(np.mean([brute(x, y, floors=(0, 0.2)) for x in s for y in t]), abs=1e-5)


def test_a_map_counts_every_cell_with_the_outputs_of_its_area():
    features, logits = torch.randn(2, 4, 3, 3), torch.randn(2, 3, 6, 6)
    other = torch.randn(9, 4), torch.randn(9, 3).softmax(1)
    target = view(other[0], other[1].log(), 1)
    found = JAN(scales=SCALES[0])((view(features, logits, 0),), (target,), STEP)["jan"].item()
    cells = nn.functional.avg_pool2d(logits.softmax(1), 2)
    source = tuple(x.permute(0, 2, 3, 1).flatten(0, 2) for x in (features, cells))
    assert found == pytest.approx(brute(source, other, floors=(0, 0.1)), abs=1e-5)


def test_max_rows_draws_features_with_their_outputs():
    """Outputs equal features, so that a mixed-up draw would show."""
    x = torch.randn(40, 3, requires_grad=True)
    target = view(torch.randn(12, 3), torch.randn(12, 3), 1)
    term = JAN(max_rows=12)((view(x, x, 0),), (target,), STEP)["jan"]
    (grad,) = torch.autograd.grad(term, x)
    assert (grad.abs().sum(1) > 0).sum() == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "w"}, r"jan\.estimator must be one of"),
        ({"pairing": "all"}, r"jan\.pairing must be one of"),
        ({"scales": ()}, r"jan\.scales needs at least one"),
        ({"output_scales": (1.0, -1.0)}, r"jan\.output_scales must be a finite number > 0"),
        ({"floor": -0.1}, r"jan\.floor must be a finite number >= 0; got -0.1"),
        ({"max_rows": 1}, r"jan\.max_rows must be a whole number >= 2; got 1"),
    ],
)
def test_wrong_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        JAN(**options)


def test_too_few_rows_say_so():
    with pytest.raises(ValueError, match="JAN needs at least 2 rows a side; got 1 and 5"):
        jan(layers(1), layers(5), SCALES)


def test_aligning_learns_the_cue_that_both_domains_share():
    assert gain(lambda: JAN(3.0))[0] > 0.3
