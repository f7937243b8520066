"""Class-conditional MMD against loops, its blindness to class shares, and what pseudo-labels do."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from cues import difference, gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Step, View
from eo_adapt.align.class_mmd import ClassMMD, class_mmd, labelled_shares
from eo_adapt.align.mmd import MMD, mixture_distances, mmd

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)
SCALES = (0.5, 2.0)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def view(features: Tensor, logits: Tensor, domain: int, labels: Tensor | None = None) -> View:
    return View(features, logits, None, domain, labels)


def brute(x: Tensor, y: Tensor, p: Tensor, q: Tensor, estimator: str, min_rows: float = 2.0) -> float:
    """One class and one pair of rows at a time, in float64."""
    z = torch.cat([x, y]).double().numpy()
    apart = ((z[:, None] - z[None]) ** 2).sum(2)
    median = np.sort(apart[np.tril_indices(len(z), -1)])[(len(z) * (len(z) - 1) // 2 - 1) // 2]
    kernel = np.mean([np.exp(-apart / (s * median)) for s in SCALES], 0)
    n, values = len(x), []
    for a, b in zip(p.double().numpy().T, q.double().numpy().T, strict=True):
        if min(a.sum(), b.sum()) < min_rows:
            continue
        total = 0.0
        for one, other, block, sign in (
            (a, a, kernel[:n, :n], 1),
            (b, b, kernel[n:, n:], 1),
            (a, b, kernel[:n, n:], -2),
        ):
            above = below = 0.0
            for i, u in enumerate(one):
                for j, v in enumerate(other):
                    if estimator == "v" or sign < 0 or i != j:
                        above, below = above + u * v * block[i, j], below + u * v
            total += sign * above / below
        values.append(total)
    return float(np.mean(values)) if values else 0.0


@pytest.mark.parametrize("estimator", ["u", "v"])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(n=st.integers(4, 10), m=st.integers(4, 10), k=st.integers(1, 4), seed=st.integers(0, 99))
def test_equals_a_loop_over_classes_and_pairs(estimator, n, m, k, seed):
    torch.manual_seed(seed)
    x, y = torch.randn(n, 3), torch.randn(m, 3) + 1
    p, q = F.one_hot(torch.randint(k, (n,)), k).float(), (2 * torch.randn(m, k)).softmax(1)
    p[0] = 0  # unknown label
    found = class_mmd(x, y, p, q, SCALES, estimator).item()
    assert found == pytest.approx(brute(x, y, p, q, estimator), abs=1e-5)


@pytest.mark.parametrize("estimator", ["u", "v"])
def test_one_class_is_mmd(estimator):
    x, y = torch.randn(9, 4), torch.randn(7, 4) + 1
    found = class_mmd(x, y, torch.ones(9, 1), torch.ones(7, 1), SCALES, estimator)
    assert found.item() == pytest.approx(mmd(x, y, SCALES, estimator).item(), abs=1e-6)


def mixture(counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rows of classes with means 0, 4, 8, ... and their one-hot labels."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.randn(len(labels), 3) + 4.0 * labels[:, None], F.one_hot(labels, len(counts)).float()


def test_equal_classes_in_unequal_shares_are_no_gap_but_one_to_mmd():
    values, plain = [], []
    for _ in range(60):
        (x, p), (y, q) = mixture((30, 20, 10)), mixture((6, 9, 45))
        values.append(class_mmd(x, y, p, q).item())
        plain.append(mmd(x, y).item())
    values, plain = np.array(values), np.array(plain)
    assert abs(values.mean()) < 3.5 * values.std() / len(values) ** 0.5
    assert plain.min() > 0.1
    assert np.abs(values).max() < 0.2 * plain.min()


def test_a_shift_of_one_class_shows():
    (x, p), (y, q) = mixture((20, 20)), mixture((20, 20))
    before = class_mmd(x, y, p, q).item()
    assert class_mmd(x, y + 2 * q[:, 1:], p, q).item() > before + 0.05


def test_copies_of_rows_and_factors_of_a_class_change_nothing():
    """Shares are divided by their sum, so the size of a class does not count."""
    (x, p), (y, q) = mixture((5, 5)), mixture((6, 4))
    divisors = torch.tensor([3.0, 20.0])
    more = torch.cat([torch.arange(10), torch.arange(5), torch.arange(5)])  # class 0 three times
    expected = mixture_distances([(torch.cat([x, y]), divisors)], p, q, "v")
    found = mixture_distances([(torch.cat([x[more], y]), divisors)], p[more], 7 * q, "v")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_classes_without_enough_rows_on_both_sides_are_left_out():
    (x, p), (y, q) = mixture((5, 5, 1)), mixture((4, 0, 6))
    only_first = class_mmd(x, y, p[:, :1], q[:, :1])
    assert torch.equal(class_mmd(x, y, p, q), only_first)
    assert class_mmd(x, y, p, q, min_rows=4.5).item() == 0


def test_no_class_at_all_is_zero_with_zero_gradient():
    x, y = torch.randn(5, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    value = class_mmd(x, y, torch.zeros(5, 2), torch.rand(4, 2))
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() == 0
    assert y.grad.abs().max() == 0


def test_confidence_decides_which_target_rows_count():
    x, y, logits = torch.randn(12, 3), torch.randn(10, 3, requires_grad=True), 2 * torch.randn(10, 2)
    labels = torch.arange(12) % 2
    sure = logits.softmax(1).amax(1) >= 0.8
    assert 4 <= sure.sum() <= 9
    source, target = view(x, torch.zeros(12, 2), 0, labels), view(y, logits, 1)
    term = ClassMMD(confidence=0.8, scales=SCALES)((source,), (target,), STEP)["class_mmd"]
    (grad,) = torch.autograd.grad(term, y)
    assert torch.equal(grad.abs().sum(1) > 0, sure)
    expected = brute(x, y.detach(), F.one_hot(labels).float(), logits.softmax(1) * sure[:, None], "u")
    assert term.item() == pytest.approx(expected, abs=1e-5)


def test_pseudo_labels_get_no_gradient_and_target_labels_are_not_read():
    logits = torch.randn(10, 2, requires_grad=True)
    source = view(torch.randn(12, 3, requires_grad=True), torch.zeros(12, 2), 0, torch.arange(12) % 2)
    features = torch.randn(10, 3)
    terms = [
        ClassMMD(confidence=0)((source,), (view(features, logits, 1, labels),), STEP)["class_mmd"]
        for labels in (None, torch.arange(10) % 2)
    ]
    assert torch.equal(*terms)
    terms[0].backward()
    assert logits.grad is None


def test_labels_of_maps_are_shares_of_a_cell_and_unknown_ones_have_no_class():
    labels = torch.tensor([[[0, 0, 1, -1], [0, 1, -1, -1]]])
    shares = labelled_shares(view(torch.randn(1, 5, 1, 2), torch.randn(1, 2, 2, 4), 0, labels))
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25], [0.0, 0.25]]))
    shares = labelled_shares(view(torch.randn(3, 5), torch.randn(3, 2), 0, torch.tensor([1, -1, 0])))
    assert shares.tolist() == [[0, 1], [0, 0], [1, 0]]
    with pytest.raises(ValueError, match="domain 0 came without labels"):
        labelled_shares(view(torch.randn(3, 5), torch.randn(3, 2), 0))


def test_dense_maps_train():
    features = torch.randn(2, 5, 4, 4, requires_grad=True)
    source = view(features, torch.randn(2, 3, 8, 8), 0, torch.randint(-1, 3, (2, 8, 8)))
    target = view(torch.randn(1, 5, 4, 4), 5 * torch.randn(1, 3, 8, 8).bfloat16(), 1)
    term = ClassMMD(confidence=0)((source,), (target,), STEP)["class_mmd"]
    (grad,) = torch.autograd.grad(term, features)
    assert term.dtype == torch.float32
    assert grad.isfinite().all()
    assert grad.abs().max() > 0


def test_pooled_and_each_with_two_sources_and_two_targets():
    parts = [(torch.randn(n, 4) + n, torch.randn(n, 2), torch.arange(n) % 2) for n in (6, 9, 7, 8)]
    views = tuple(view(x, z, d, y if d < 2 else None) for d, (x, z, y) in enumerate(parts))
    s = [(x, F.one_hot(y).float()) for x, _, y in parts[:2]]
    t = [(x, z.softmax(1)) for x, z, _ in parts[2:]]
    options = {"scales": SCALES, "confidence": 0}
    (x, p), (y, q) = (map(torch.cat, zip(*side, strict=True)) for side in (s, t))
    found = ClassMMD(**options)(views[:2], views[2:], STEP)["class_mmd"].item()
    assert found == pytest.approx(brute(x, y, p, q, "u"), abs=1e-5)
    found = ClassMMD(pairing="each", estimator="v", **options)(views[:2], views[2:], STEP)["class_mmd"].item()
    assert found == pytest.approx(np.mean([brute(x, y, p, q, "v") for x, p in s for y, q in t]), abs=1e-5)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_collapsed_and_offset_batches_are_finite(offset):
    x = torch.full((8, 4), offset, requires_grad=True)
    p = F.one_hot(torch.arange(8) % 2).float()
    value = class_mmd(x, x.detach().clone(), p, p)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)
    assert x.grad.isfinite().all()
    (x, p), (y, q) = mixture((9, 7)), mixture((8, 8))
    assert class_mmd(x + offset, y + offset, p, q, SCALES).item() == pytest.approx(
        brute(x + offset, y + offset, p, q, "u"), abs=1e-4
    )


def test_a_nan_is_not_dropped():
    (x, p), (y, q) = mixture((9, 7)), mixture((8, 8))
    x[1, 1] = float("nan")
    assert class_mmd(x, y, p, q).isnan()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"estimator": "w"}, r"class_mmd\.estimator must be one of"),
        ({"pairing": "all"}, r"class_mmd\.pairing must be one of"),
        ({"scales": ()}, r"class_mmd\.scales needs at least one"),
        ({"confidence": 1.0}, r"class_mmd\.confidence must be .*< 1; got 1\.0"),
        ({"min_rows": 1.0}, r"class_mmd\.min_rows must be a finite number >= 2"),
        ({"max_rows": 1}, r"class_mmd\.max_rows must be a whole number >= 2; got 1"),
    ],
)
def test_wrong_options_are_refused_at_construction(options, message):
    with pytest.raises(ValueError, match=message):
        ClassMMD(**options)


def test_learns_under_label_shift_what_mmd_only_half_learns():
    assert gain(ClassMMD, share=0.85)[0] > 0.3
    low, _ = difference(lambda: ClassMMD(3.0), lambda: MMD(3.0), share=0.85)
    assert low > 0.05


def test_learns_without_label_shift_too():
    assert gain(ClassMMD)[0] > 0.3
