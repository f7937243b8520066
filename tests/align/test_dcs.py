"""DCS: weights and the weighted loss against numpy and torch, ignored labels, the FLAIR histogram, rare classes."""

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from blobs import World, accuracy, fit
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Setup, Step, View, dcs
from eo_adapt.align.dcs import DCS, class_counts, rarity_weights
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.registry import build

HISTOGRAMS = Path(__file__).parents[3] / "shared" / "data" / "flair" / "class_histograms.json"
TARGETS = {"D064_2021", "D068_2021", "D071_2020"}
CRITERION = nn.CrossEntropyLoss(ignore_index=-1)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(classes: int = 4, **options) -> DCS:
    method = DCS(**options)
    method.attach(nn.Linear(1, 1), Setup(0, 2, 0, classes))
    return method


def view(logits: Tensor, labels: Tensor, domain: int = 0) -> View:
    return View(logits, logits, None, domain, labels)


def maps(samples: int = 3, classes: int = 4, unknown: float = 0.2, domain: int = 0) -> View:
    shares = torch.rand(classes).square()
    labels = torch.multinomial(shares / shares.sum(), samples * 30, replacement=True).view(samples, 5, 6)
    labels[torch.rand(labels.shape) < unknown] = -1
    return view(torch.randn(samples, classes, 5, 6, requires_grad=True), labels, domain)


def term(method: DCS, *views: View) -> Tensor:
    return method(views, (), Step(nn.Identity(), CRITERION, lambda domain: nullcontext(), 0.5))["dcs"]


def by_numpy(shares: np.ndarray, temperature: float) -> np.ndarray:
    e = np.exp((1 - shares) / temperature - ((1 - shares) / temperature).max())
    return len(shares) * e / e.sum()


def shares_by_numpy(labels: Tensor, classes: int) -> np.ndarray:
    known = labels.numpy()[labels.numpy() >= 0]
    return np.array([(known == k).mean() for k in range(classes)])


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(2, 19), st.sampled_from([0.05, 0.1, 0.9]), st.integers(0, 99))
def test_weights_equal_numpy_and_sum_to_the_number_of_classes(classes, temperature, seed):
    f = np.random.default_rng(seed).dirichlet(np.ones(classes))
    got = rarity_weights(torch.tensor(f), temperature).numpy()
    np.testing.assert_allclose(got, by_numpy(f, temperature), rtol=1e-9)
    assert got.sum() == pytest.approx(classes)
    np.testing.assert_allclose(got[0] / got[1], np.exp((f[1] - f[0]) / temperature), rtol=1e-6)


@pytest.mark.skipif(not HISTOGRAMS.exists(), reason="the real histograms are not part of the project")
def test_what_the_page_says_of_the_real_flair_histogram():
    shares = json.loads(HISTOGRAMS.read_text())["share"]
    sources = np.array([f[1:] for name, f in shares.items() if name not in TARGETS])
    mean = (sources / sources.sum(1, keepdims=True)).mean(0)
    told = {0.05: (0.155, 2.354), 0.1: (0.424, 1.653), 0.3: (0.766, 1.206), 0.9: (0.917, 1.067)}
    for temperature, (lowest, highest) in told.items():
        weights = rarity_weights(torch.tensor(mean), temperature)
        assert weights.min().item() == pytest.approx(lowest, abs=6e-4)
        assert weights.max().item() == pytest.approx(highest, abs=6e-4)


@settings(deadline=None, max_examples=20, derandomize=True)
@given(st.sampled_from([(), (4,), (3, 5)]), st.integers(0, 99))
def test_counts_leave_unknown_labels_out(size, seed):
    labels = torch.randint(-1, 3, (4, *size), generator=torch.Generator().manual_seed(seed))
    counts = class_counts(labels, 3)
    for row, sample in zip(counts, labels.view(4, -1), strict=True):
        assert row.tolist() == [(sample == k).sum().item() for k in range(3)]


def test_the_running_weights_are_a_moving_average_of_the_batches():
    method, expected = attached(temperature=0.3, alpha=0.7), np.ones(4)
    for _ in range(5):
        first, second = maps(2), maps(5, domain=1)
        term(method, first, second)
        assert torch.allclose(method.running, torch.tensor(expected).float()), "moved before the step"
        mean = (shares_by_numpy(first.labels, 4) + shares_by_numpy(second.labels, 4)) / 2
        expected = 0.7 * expected + 0.3 * by_numpy(mean, 0.3)
        method.after_step(nn.Identity())
        np.testing.assert_allclose(method.running.numpy(), expected, rtol=1e-5)


def test_task_and_term_are_torchs_weighted_cross_entropy():
    method, batch = attached(temperature=0.2, alpha=0.5), maps()
    both = CRITERION(batch.logits, batch.labels) + term(method, batch)
    weights = torch.tensor(0.5 + 0.5 * by_numpy(shares_by_numpy(batch.labels, 4), 0.2)).float()
    expected = F.cross_entropy(batch.logits, batch.labels, weight=weights, ignore_index=-1)
    torch.testing.assert_close(both, expected)
    ours, theirs = (torch.autograd.grad(x, batch.logits, retain_graph=True)[0] for x in (both, expected))
    torch.testing.assert_close(ours, theirs)


def test_norm_count_divides_by_the_number_of_labels():
    method, batch = attached(temperature=0.2, alpha=0.0, norm="count"), maps()
    both = CRITERION(batch.logits, batch.labels) + term(method, batch)
    weights = by_numpy(shares_by_numpy(batch.labels, 4), 0.2)
    known = batch.labels >= 0
    losses = F.cross_entropy(batch.logits, batch.labels, ignore_index=-1, reduction="none")[known].detach().numpy()
    expected = (weights[batch.labels[known].numpy()] * losses).mean()
    assert both.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("norm", ["weights", "count"])
def test_per_image_each_image_has_weights_of_its_own(norm):
    method, batch = attached(temperature=0.2, alpha=0.6, per="image", norm=norm), maps(4)
    batch.labels[2] = -1  # nothing known: it neither counts nor moves the weights
    both = CRITERION(batch.logits, batch.labels) + term(method, batch)
    losses = F.cross_entropy(batch.logits, batch.labels, ignore_index=-1, reduction="none").detach().numpy()
    total, weight, count, moved = 0.0, 0.0, 0, []
    for y, loss in zip(batch.labels, losses, strict=True):
        if not (y >= 0).any():
            continue
        own = 0.6 + 0.4 * by_numpy(shares_by_numpy(y, 4), 0.2)
        moved.append(own)
        w = own[y[y >= 0].numpy()]
        total, weight, count = total + (w * loss[(y >= 0).numpy()]).sum(), weight + w.sum(), count + len(w)
    assert both.item() == pytest.approx(total / (weight if norm == "weights" else count), rel=1e-5)
    method.after_step(nn.Identity())
    np.testing.assert_allclose(method.running.numpy(), np.mean(moved, 0), rtol=1e-5)


def test_micro_batches_of_a_step_count_together():
    method, batches = attached(alpha=0.5), [maps(), maps()]
    for batch in batches:
        term(method, batch)
    method.after_step(nn.Identity())
    expected = np.mean([0.5 + 0.5 * by_numpy(shares_by_numpy(b.labels, 4), 0.1) for b in batches], 0)
    np.testing.assert_allclose(method.running.numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("per", ["batch", "image"])
def test_a_batch_without_labels_changes_nothing(per):
    method, batch = attached(per=per), maps(unknown=2.0)
    assert term(method, batch).item() == 0
    method.after_step(nn.Identity())
    assert torch.equal(method.running, torch.ones(4))


@pytest.mark.parametrize("per", ["batch", "image"])
def test_labels_of_other_processes_count(monkeypatch, per):
    """Two processes with the halves of a batch keep the weights of one with all of it."""
    whole, one = attached(per=per), attached(per=per)
    halves = maps(2), maps(2)
    both = view(torch.cat([v.logits for v in halves]), torch.cat([v.labels for v in halves]))
    term(whole, both)
    sent: list[Tensor] = []
    monkeypatch.setattr(dcs, "joined", lambda x: sent.append(x) or x)
    term(attached(per=per), halves[1])
    monkeypatch.setattr(dcs, "joined", lambda x: torch.cat([x, sent[0]]))
    term(one, halves[0])
    for method in (whole, one):
        method.after_step(nn.Identity())
    torch.testing.assert_close(one.running, whole.running)


def test_the_state_is_in_the_checkpoint_and_what_is_pending_is_not():
    method = attached()
    term(method, maps())
    assert list(method.state_dict()) == ["running"]
    method.after_step(nn.Identity())
    other = attached()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.running, method.running)
    assert method.monitors()["highest"] > method.monitors()["lowest"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"alpha": 1.0}, "alpha"),
        ({"per": "pixel"}, r"dcs\.per.*'batch', 'image'"),
        ({"norm": "sum"}, r"dcs\.norm"),
        ({"weight": 1.5}, "<= 1"),
    ],
)
def test_impossible_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        DCS(**options)


def test_parcels_have_no_shares_within_an_image():
    method = attached(per="image")
    with pytest.raises(ValueError, match=r"a parcel has one label: take dcs\.per=batch"):
        term(method, view(torch.randn(6, 4), torch.randint(4, (6,))))
    with pytest.raises(ValueError, match=r"Setup\.classes must be at least 2"):
        attached(classes=1)


def test_rare_classes_are_found_that_the_plain_loss_forgets():
    """Blurred classes of shares 90 : 6 : 4: the plain loss calls nearly all of it by the first name."""
    world = World(shares=(0.9, 0.06, 0.04), noise=3.0)
    plain, ours = (
        torch.tensor([accuracy(fit(m(), world, world, seed), world, balanced=True) for seed in (0, 1)])
        for m in (SourceOnly, lambda: DCS(temperature=0.3))
    )
    assert plain.mean() < 0.6
    assert (ours > plain + 0.1).all(), (plain, ours)


def test_geomultitasknet_is_geomt_and_dcs():
    method = build("method", "geomultitasknet", weights={"geomt": 0.5})
    assert [type(part).__name__ for part in method] == ["GeoMT", "DCS"]
    assert method.needs == {"lonlat", "labels"}
    net = nn.Conv2d(3, 5, 1)
    method.attach(net, Setup(5, 1, 1, 5))
    views = []
    for domain in (0, 1):
        x, labels = torch.randn(2, 3, 8, 8), torch.randint(-1, 5, (2, 8, 8)) if domain == 0 else None
        features = net(x)
        views.append(View(features, features, x, domain, labels, torch.rand(2, 2)))
    terms = method(tuple(views[:1]), tuple(views[1:]), Step(net, CRITERION, method.scope, 0.5))
    assert set(terms) == {"geomt/position", "dcs/dcs"}
    assert all(torch.autograd.grad(t, net.weight, retain_graph=True)[0].abs().sum() > 0 for t in terms.values())
