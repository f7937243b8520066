"""MCD: a discrepancy with known values, and one pass whose gradients are those of the paper's three steps."""

import numpy as np
import pytest
import torch
from adversaries import gain, step
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup, View
from eo_adapt.align.mcd import MCD, cell_labels, discrepancy, known_cross_entropy


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(sources: int = 1, targets: int = 1, classes: int = 3, **options) -> MCD:
    mcd = MCD(**({"hidden": 16} | options))
    mcd.attach(nn.Identity(), Setup(4, sources, targets, classes))
    return mcd


def view(features: torch.Tensor, domain: int, labels: torch.Tensor | None = None) -> View:
    """Logits of three classes, which the method does not look at."""
    return View(features, features[:, :3], features, domain, labels)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(n=st.integers(1, 9), k=st.integers(2, 6), seed=st.integers(0, 99))
def test_discrepancy_equals_a_loop(n, k, seed):
    torch.manual_seed(seed)
    one, two = 3 * torch.randn(n, k), 3 * torch.randn(n, k)
    p, q = (softmax(x.double().numpy()) for x in (one, two))
    loop = sum(abs(p[i, j] - q[i, j]) for i in range(n) for j in range(k)) / (n * k)
    assert discrepancy(one, two).item() == pytest.approx(loop, rel=1e-4)
    assert discrepancy(one, one).item() == 0
    assert discrepancy(one + 7, two).item() == pytest.approx(loop, rel=1e-3)


def test_discrepancy_is_largest_where_heads_are_sure_and_differ():
    sure = 100 * torch.eye(4)
    assert discrepancy(sure, sure.roll(1, 0)).item() == pytest.approx(2 / 4)
    for dtype in (torch.float16, torch.bfloat16):
        assert discrepancy(sure.to(dtype) * 100, torch.zeros(4, 4, dtype=dtype)).item() == pytest.approx(1.5 / 4)


def test_identical_heads_do_not_disagree():
    mcd = attached()
    mcd.heads[1].load_state_dict(mcd.heads[0].state_dict())
    terms = mcd((view(torch.randn(6, 4), 0, labels=torch.arange(6) % 3),), (view(torch.randn(9, 4), 1),), step())
    assert terms["discrepancy"].item() == 0


def test_gradients_are_those_of_the_papers_steps():
    """A: everything for the task. B: heads for the task and against agreement. C: encoder for agreement, `strength`."""
    encoder, labels = nn.Linear(3, 4), torch.arange(8) % 3
    xs, xt = torch.randn(8, 3), torch.randn(11, 3) + 1
    for strength in (0.0, 1.0, 4.0):
        mcd = attached(strength=strength)
        heads = list(mcd.heads.parameters())
        one, two = mcd.heads
        tasks = (known_cross_entropy(one(encoder(xs)), labels) + known_cross_entropy(two(encoder(xs)), labels)) / 2
        gap = discrepancy(one(encoder(xt)), two(encoder(xt)))
        step_b = torch.autograd.grad(tasks - gap, heads, retain_graph=True)
        step_ac = torch.autograd.grad(tasks + strength * gap, list(encoder.parameters()))
        terms = mcd((view(encoder(xs), 0, labels=labels),), (view(encoder(xt), 1),), step())
        torch.testing.assert_close(terms["discrepancy"], gap)
        ours = torch.autograd.grad(sum(terms.values()), [*heads, *encoder.parameters()])
        for mine, theirs in zip(ours, (*step_b, *step_ac), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_steps_move_heads_apart_and_features_together():
    mcd, features = attached(strength=1.0), (torch.randn(40, 4)).requires_grad_()
    source = view(torch.randn(6, 4), 0, labels=torch.arange(6) % 3)

    def gap() -> Tensor:
        return mcd((source,), (view(features, 1),), step())["discrepancy"]

    before = gap()
    heads = list(mcd.heads.parameters())
    to_features, *to_heads = torch.autograd.grad(before, [features, *heads])
    with torch.no_grad():
        features -= 20 * to_features
    assert gap() < before
    with torch.no_grad():
        features += 20 * to_features
        for p, grad in zip(heads, to_heads, strict=True):
            p -= 0.1 * grad
    assert gap() > before


def test_heads_learn_from_every_source_and_domains_count_alike():
    mcd = attached(2, 2)
    features = [torch.randn(n, 4) for n in (4, 20, 3, 30)]
    labels = [torch.randint(3, (n,)) for n in (4, 20)]
    terms = mcd(
        tuple(view(features[i], i, labels=labels[i]) for i in range(2)),
        tuple(view(features[i], i) for i in (2, 3)),
        step(),
    )
    tasks, gaps = [], []
    for f, y in zip(features, labels, strict=False):
        for head in mcd.heads:
            p = softmax(head(f).detach().double().numpy())
            tasks.append(-np.log(p[np.arange(len(f)), y]).mean())
    for f in features[2:]:
        p, q = (softmax(head(f).detach().double().numpy()) for head in mcd.heads)
        gaps.append(np.abs(p - q).mean())
    assert terms["heads"].item() == pytest.approx(np.mean(tasks), rel=1e-5)
    assert terms["discrepancy"].item() == pytest.approx(np.mean(gaps), rel=1e-4)


@pytest.mark.parametrize("unknown", [-1, -100, -7])
def test_unknown_labels_do_not_count(unknown):
    logits, labels = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 2, unknown, 1, unknown, 0])
    known = labels >= 0
    torch.testing.assert_close(
        known_cross_entropy(logits, labels), nn.functional.cross_entropy(logits[known], labels[known])
    )
    nothing = known_cross_entropy(logits, torch.full((6,), unknown))
    assert nothing.item() == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_a_cell_takes_the_label_at_its_centre():
    fine = torch.arange(36).reshape(1, 6, 6)
    assert cell_labels(fine, torch.randn(1, 4, 2, 2)).tolist() == [7, 10, 25, 28]
    assert torch.equal(cell_labels(fine, torch.randn(1, 4, 6, 6)), fine.flatten())
    coarse = torch.tensor([[[0, -1], [2, 1]]])
    assert cell_labels(coarse, torch.randn(1, 4, 4, 2)).tolist() == [0, -1, 0, -1, 2, 1, 2, 1]
    large = 2**24 + 1  # float32 would round it
    assert cell_labels(torch.full((1, 2, 2), large), torch.randn(1, 4, 1, 1)).item() == large


def test_one_label_a_sample_counts_for_all_its_cells():
    assert cell_labels(torch.tensor([2, -1]), torch.randn(2, 4, 1, 3)).tolist() == [2, 2, 2, -1, -1, -1]
    assert cell_labels(torch.tensor([2, -1]), torch.randn(2, 4)).tolist() == [2, -1]


def test_dense_labels_need_features_that_are_maps():
    with pytest.raises(ValueError, match="features \\(2, 4\\) are not"):
        cell_labels(torch.zeros(2, 3, 3, dtype=torch.long), torch.randn(2, 4))


def test_maps_equal_their_cells():
    mcd, labels = attached(), torch.randint(-1, 3, (2, 3, 5))
    maps = [torch.randn(2, 4, 3, 5), torch.randn(3, 4, 2, 2)]
    flat = [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in maps]
    terms = mcd((view(maps[0], 0, labels=labels),), (view(maps[1], 1),), step())
    cells = mcd((view(flat[0], 0, labels=labels.flatten()),), (view(flat[1], 1),), step())
    for name in ("heads", "discrepancy"):
        torch.testing.assert_close(terms[name], cells[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_batches_are_finite(dtype):
    for x in (torch.randn(6, 4) + 1e3, torch.ones(6, 4), torch.zeros(6, 4)):
        f = x.to(dtype).requires_grad_()
        terms = attached()((view(f, 0, labels=torch.arange(6) % 3),), (view(f, 1),), step())
        assert {term.dtype for term in terms.values()} == {torch.float32}
        assert torch.autograd.grad(sum(terms.values()), f)[0].isfinite().all()


def test_missing_numbers_are_not_dropped():
    f = torch.randn(6, 4)
    f[2, 1] = float("nan")
    labels = torch.arange(6) % 3
    assert attached()((view(f, 0, labels=labels),), (view(f, 1),), step())["discrepancy"].isnan()
    assert attached()((view(f, 0, labels=labels),), (view(f, 1),), step())["heads"].isnan()


def test_a_source_without_labels_is_refused():
    x = torch.randn(6, 4)
    with pytest.raises(ValueError, match="domain 0 came without labels"):
        attached()((view(x, 0),), (view(x, 1),), step())


@pytest.mark.parametrize("options", [{"strength": -1.0}, {"strength": float("nan")}, {"hidden": 0}, {"weight": -1.0}])
def test_wrong_options_are_refused_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MCD(**options)


def test_needs_classes_and_a_target():
    with pytest.raises(ValueError, match="number of classes"):
        MCD().attach(nn.Identity(), Setup(4))
    with pytest.raises(ValueError, match="needs a target domain"):
        MCD().attach(nn.Identity(), Setup(4, targets=0, classes=3))


def test_helps_where_only_one_feature_is_shifted():
    assert gain(lambda: MCD(hidden=32))[0] > 0.1
