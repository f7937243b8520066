"""Self-training: certainty and running thresholds against numpy, one sample at a time, labels that move a boundary."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from intervals import gain_over
from nets import fed
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.augment import StrongView
from eo_adapt.align.csn import CSN
from eo_adapt.align.self_training import SelfTraining, Thresholds, certainty
from eo_adapt.align.stack import Stack

STILL = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def linear(classes: int = 3) -> Net:
    return Net(nn.Linear(4, 5), nn.Linear(5, classes))


def step(model: nn.Module, scope=lambda domain: nullcontext(), progress: float = 0.5) -> Step:
    return Step(model, nn.CrossEntropyLoss(), scope, progress)


def look(model: nn.Module, x: Tensor, domain: int = 1) -> View:
    return View(*model(x), x, domain)


def attached(model: nn.Module, targets: int = 1, classes: int = 3, **options) -> SelfTraining:
    method = SelfTraining(**{"strong": STILL, **options})
    method.attach(model, Setup(5, 1, targets, classes))
    return method


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 9), st.integers(2, 8), st.sampled_from([(), (3, 2)]), st.integers(0, 99))
def test_certainty_is_the_logit_of_the_largest_probability(n, k, size, seed):
    logits = 4 * torch.randn(n, k, *size, generator=torch.Generator().manual_seed(seed))
    value, label = certainty(logits)
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_array_equal(label.numpy(), p.argmax(1))
    np.testing.assert_allclose(value.numpy(), np.log(p.max(1) / (1 - p.max(1))), rtol=1e-4, atol=1e-4)


def test_certainty_resolves_what_probabilities_do_not():
    values, _ = certainty(torch.tensor([[30.0, 0.0, 0.0], [40.0, 0.0, 0.0]]))
    assert torch.tensor([30.0, 40.0]).sigmoid().eq(1).all()
    torch.testing.assert_close(values, torch.tensor([30.0, 40.0]) - np.log(2).item())
    assert certainty(torch.randn(4, 3).bfloat16())[0].dtype == torch.float32


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("size", [1, 3, 64])
def test_thresholds_find_the_quantile_of_each_class_whatever_the_batch(keep, size):
    """Mean over the last steps against the normal quantile; the classes differ in mean, spread and frequency."""
    mean, spread = torch.tensor([0.0, 3.0, -1.0]), torch.tensor([1.0, 2.0, 0.5])
    thresholds, track = Thresholds(2, 3, keep, rate=0.05), []
    for number in range(3000):
        label = torch.multinomial(torch.tensor([0.6, 0.3, 0.1]), size, replacement=True)
        thresholds.note(1, mean[label] + spread[label] * torch.randn(size), label)
        thresholds.move()
        track += [thresholds.quantile[1].clone()] if number >= 1500 else []
    expected = torch.distributions.Normal(mean, spread).icdf(torch.full((3,), 1 - keep))
    torch.testing.assert_close(torch.stack(track).mean(0), expected, atol=0.15, rtol=0.05)
    assert not thresholds.known[0].any()


def test_thresholds_follow_a_network_that_grows_certain():
    thresholds = Thresholds(1, 1, 0.5, rate=0.2)
    for number in range(400):
        thresholds.note(0, 0.02 * number + torch.randn(32), torch.zeros(32, dtype=torch.long))
        thresholds.move()
    assert thresholds.quantile.item() == pytest.approx(8, abs=0.5)


def test_thresholds_move_once_a_step_by_all_its_batches():
    """Two micro-batches count as one batch; a class without samples stays, a first sight starts at the mean."""
    parts = [(torch.tensor([1.0, 5.0, 2.0]), torch.tensor([0, 0, 1])), (torch.tensor([3.0]), torch.tensor([0]))]
    split, whole = Thresholds(1, 3, 0.5, 0.1), Thresholds(1, 3, 0.5, 0.1)
    for _ in range(2):
        for values, label in parts:
            split.note(0, values, label)
        whole.note(0, *(torch.cat(x) for x in zip(*parts, strict=True)))
        assert torch.equal(split.quantile, whole.quantile)
        split.move()
        whole.move()
    assert torch.equal(split.quantile, whole.quantile)
    assert split.known.tolist() == [[True, True, False]]
    expected = [3 + 0.1 * (2 / 3 - 0.5), 2 + 0.1 * 0.5, 0.0]  # of 1, 5, 3 two are at or above 3
    torch.testing.assert_close(split.quantile[0], torch.tensor(expected))


def by_loops(weak: Tensor, strong: Tensor, keep: float, floor: float, gamma: float) -> float:
    """The term of one batch with unknown thresholds, in float64."""
    z, s = weak.detach().double().numpy(), strong.detach().double().numpy()
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (z, s))
    label, top = p.argmax(1), p.max(1)
    logit = np.log(top / (1 - top))
    terms = []
    for i in range(len(z)):
        same = logit[label == label[i]]
        if (keep == 1 or logit[i] >= same.mean() - 1e-9) and top[i] >= floor:
            right = q[i, label[i]]
            terms.append(-((1 - right) ** gamma) * np.log(right))
    return float(np.mean(terms)) if terms else 0.0


@pytest.mark.parametrize(
    ("keep", "floor", "gamma"), [(0.5, 0.0, 0.0), (0.5, 0.4, 1.0), (1.0, 0.45, 2.0), (1.0, 0.0, 0.0), (1.0, 0.999, 0.0)]
)
def test_term_equals_loops(keep, floor, gamma):
    model, x = linear(), 2 * torch.randn(40, 4)
    method = attached(model, keep=keep, floor=floor, gamma=gamma)
    weak = model(x)[1]
    with torch.no_grad():
        model.head.weight.mul_(1.5)  # the student has moved on, the teacher not
    term = method((), (look(model, x),), step(model))["pseudo"]
    assert term.item() == pytest.approx(by_loops(weak, model(x)[1], keep, floor, gamma), rel=1e-5)
    if floor > 0.99:
        assert method.monitors()["kept"] == 0
        assert all((g == 0).all() for g in torch.autograd.grad(term, list(model.parameters())))


def test_targets_count_alike_and_have_thresholds_of_their_own():
    model = linear()
    views = look(model, torch.randn(30, 4), 1), look(model, 5 * torch.randn(7, 4), 2)
    method = attached(model, targets=2)
    both = method((), views, step(model))["pseudo"]
    method.after_step(model)
    alone = [attached(model)((), (View(v.features, v.logits, v.inputs, 1),), step(model))["pseudo"] for v in views]
    torch.testing.assert_close(both, torch.stack(alone).mean())
    assert not torch.equal(*method.thresholds.quantile)


def test_a_cloudy_neighbour_does_not_change_who_is_kept():
    """Judged one by one: with thresholds known, the others in the batch have no say."""
    thresholds = Thresholds(1, 2, 0.5, 0.1)
    label = torch.randint(2, (50,))
    thresholds.note(0, torch.randn(50), label)
    thresholds.move()
    values = torch.randn(50)
    clear = thresholds.note(0, values, label)
    cloudy = thresholds.note(
        0, torch.cat([values, torch.full((500,), -9.0)]), torch.cat([label, torch.zeros(500).long()])
    )
    assert torch.equal(clear, cloudy[:50])
    assert 0 < clear.sum() < 50


def test_labelled_samples_are_shown_as_strong_views_and_maps_of_labels_follow():
    """What the student sees of a source is drawn as the target's strong view is; targets stay for the teacher."""
    image, labels = torch.randn(6, 3, 8, 8), torch.randint(3, (6, 8, 8))
    method = SelfTraining(strong=StrongView(0.0, 0.0, 0.0, 0.0, 0.0, True))
    drawn = labels[:, None].float()
    seen, truth = method.edit(((drawn, labels),), (), step(linear()))[0][0]
    assert torch.equal(seen[:, 0].long(), truth), "each pixel keeps its label"
    assert not torch.equal(truth, labels)
    series = {"values": torch.randn(5, 9, 2), "days": torch.arange(9.0).expand(5, 9), "valid": torch.ones(5, 9).bool()}
    kept, target = method.edit(((series, labels[:5, 0, 0]),), (series,), step(linear()))
    assert kept[0][0]["values"].shape == (5, 9, 2)
    assert target[0] is series
    plain = SelfTraining(strong_sources=False).edit(((image, labels),), (), step(linear()))[0][0]
    assert plain[0] is image
    assert plain[1] is labels


def test_no_look_at_labels_before_the_start():
    model, calls = linear(), []
    method = attached(model, targets=2, start=0.3)
    views = look(model, torch.randn(8, 4), 1), look(model, torch.randn(8, 4), 2)
    method.teacher.network.register_forward_hook(lambda *_: calls.append("teacher"))
    model.register_forward_hook(lambda *_: calls.append("student"))
    assert method((), views, step(model, progress=0.29))["pseudo"] == 0
    assert not calls
    assert not method.monitors()
    with torch.no_grad():
        model.head.weight.add_(1)
    method.after_step(model)
    assert torch.equal(method.teacher.network.head.weight, model.head.weight), "the teacher averages from the start"
    method((), views, step(model, progress=0.3))
    assert sorted(calls) == ["student"] * 2 + ["teacher"] * 2, "the page says 2 * targets"


def test_the_teacher_labels_in_the_targets_scope_and_nothing_is_moved():
    model = Net(nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)), nn.Linear(5, 3))
    method = SelfTraining(strong=STILL)
    stack = Stack({"csn": CSN(), "self": method})
    stack.attach(model, Setup(5, 1, 1, 3))
    fed(model, stack, 2)
    method.teacher.follow(model)
    x = 2 * torch.randn(20, 4) + 2
    with stack.scope(1):
        expected = copy.deepcopy(model).eval()(x)[1]
        view = look(model, x)
    before = copy.deepcopy((model.state_dict(), stack.state_dict()))
    seen = []
    method.teacher.network.register_forward_hook(lambda _, __, out: seen.append(out[1]))
    stack((), (view,), step(model, stack.scope))
    torch.testing.assert_close(seen[0], expected)
    for state, old in zip((model.state_dict(), stack.state_dict()), before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in state.items())
    with pytest.raises(ValueError, match="put csn before self"):
        Stack({"self": SelfTraining(), "csn": CSN()})


def test_labels_of_maps_follow_the_mirrored_image():
    """For a network that looks at one pixel at a time, mirroring image and labels together changes nothing."""
    model = Net(nn.Conv2d(4, 5, 1), nn.Conv2d(5, 3, 1))
    x = torch.randn(6, 4, 5, 5)
    mirrored = attached(model, strong=StrongView(0.0, 0.0, 0.0, 0.0))
    torch.testing.assert_close(
        mirrored((), (look(model, x),), step(model))["pseudo"],
        attached(model)((), (look(model, x),), step(model))["pseudo"],
    )


@pytest.mark.parametrize(
    "options",
    [{"keep": 0.0}, {"keep": 1.1}, {"floor": 1.0}, {"start": 1.0}, {"decay": 2.0}, {"rate": 0.0}, {"gamma": 0.5}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=rf"SelfTraining\.{next(iter(options))}.* must be"):
        SelfTraining(**options)


def test_needs_a_target_and_classes():
    with pytest.raises(ValueError, match="needs a target domain"):
        SelfTraining().attach(linear(), Setup(5, 1, 0, 3))
    with pytest.raises(ValueError, match=r"Setup\(\.\.\., classes=K\)"):
        SelfTraining().attach(linear(), Setup(5))


@pytest.mark.parametrize("x", [torch.full((9, 4), 2.0), 1e3 + torch.randn(9, 4), 1e3 * torch.randn(9, 4)])
def test_finite_on_collapsed_offset_and_certain_batches(x):
    model = linear()
    method = attached(model, strong=StrongView(), gamma=1.0)
    for _ in range(3):
        term = method((), (look(model, x),), step(model))["pseudo"]
        assert all(g.isfinite().all() for g in torch.autograd.grad(term, list(model.parameters())))
        method.after_step(model)
    assert method.thresholds.quantile.isfinite().all()


def accuracy_after(method: SelfTraining | None, seed: int) -> float:
    """Two classes on a line; on the target both have moved by more than the distance to the boundary."""
    torch.manual_seed(seed)
    model = Net(nn.Linear(2, 5), nn.Linear(5, 2))
    if method:
        method.attach(model, Setup(5, 1, 1, 2))
    optimiser = torch.optim.Adam(model.parameters(), 0.02)

    def draw(shift: float) -> tuple[Tensor, Tensor]:
        y = torch.randint(2, (64,))
        return torch.stack([4.0 * y - 2 + shift, torch.zeros(64)], 1) + 0.5 * torch.randn(64, 2), y

    for number in range(200):
        (x, y), (other, _) = draw(0.0), draw(2.5)
        loss = nn.functional.cross_entropy(model(x)[1], y)
        if method:
            loss = loss + method((), (look(model, other),), step(model, progress=number / 200))["pseudo"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if method:
            method.after_step(model)
    x, y = draw(2.5)
    return (model(x)[1].argmax(1) == y).float().mean().item()


def test_labels_move_the_boundary_between_well_separated_clusters():
    plain = [accuracy_after(None, seed) for seed in range(3)]
    taught = [accuracy_after(SelfTraining(3.0), seed) for seed in range(3)]
    assert gain_over(plain, taught)[0] > 0.1
