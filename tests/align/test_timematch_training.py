"""TimeMatch in training: who is moved when, each target by its own shift, options, and what is recovered."""

import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from intervals import gain_over
from seasons import RARE, accuracy, season, trained
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.augment import StrongView
from eo_adapt.align.looks import moved
from eo_adapt.align.timematch import TimeMatch
from eo_adapt.types import Batch, Observation

STILL = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def views(model: nn.Module, inputs: dict[str, Observation], domain: int = 1) -> View:
    return View(*model(inputs), inputs, domain)


def step(model: nn.Module, progress: float) -> Step:
    return Step(model, nn.CrossEntropyLoss(), lambda domain: nullcontext(), progress)


def attached(model: nn.Module, targets: int = 1, **options) -> TimeMatch:
    method = TimeMatch(**{"strong": STILL, "start": 0.5, "resolution": 20, "batches": 1, "estimates": 2, **options})
    method.attach(model, Setup(32, 1, targets, 4))
    return method


def batch(inputs: dict[str, Observation]) -> Batch:
    size = len(inputs["s2"].values)
    return Batch(inputs, torch.zeros(size, dtype=torch.long), torch.zeros(size, 2), torch.arange(size))


def test_who_is_moved_when():
    """Sources by minus the first shift, the teacher by the newest, the student's target never."""
    model = copy.deepcopy(trained())
    method = attached(model)
    inputs, _ = season(64)
    near, far = batch(inputs), moved(inputs, 40)
    seen: dict[str, list[Tensor]] = {"teacher": [], "student": []}
    for name, network in (("teacher", method.teacher.network), ("student", model)):
        network.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]["s2"].days))
    for progress, edited, tries in ((0.4, 0, 0), (0.5, 0, 7), (0.6, 40, 0), (0.75, 40, 3), (0.9, 40, 0)):
        (source,), (target,) = method.edit((near,), (batch(far),), step(model, progress))
        torch.testing.assert_close(source.inputs["s2"].days, inputs["s2"].days + edited)
        assert torch.equal(source.labels, near.labels)
        assert target.inputs["s2"] is far["s2"]
        view = views(model, target.inputs)
        seen.update(teacher=[], student=[])
        method((), (view,), step(model, progress))
        assert len(seen["teacher"]) == (progress >= 0.5) + tries
        assert all(torch.equal(days, far["s2"].days) for days in seen["student"])
        if progress >= 0.5:
            torch.testing.assert_close(seen["teacher"][-1], far["s2"].days - 40)
            assert method.monitors()["shift_1"] == -40
        method.after_step(model)
    assert inputs["s2"].days.min() >= 0, "what was given is not changed"


def test_later_shifts_are_the_teachers_alone():
    """A teacher that has come to the target's time looks at it unmoved; sources stay where they were put."""
    model = copy.deepcopy(trained())
    method = attached(model, criterion="is")
    inputs, _ = season(64)
    far = moved(inputs, 40)
    method((), (views(model, far),), step(model, 0.5))
    method.after_step(model)
    shifted = copy.deepcopy(model)
    model.encoder.temporal.code.forward = lambda o: shifted.encoder.temporal.code(moved(o, -40))
    method.teacher.network = copy.deepcopy(model)
    method((), (views(model, far),), step(model, 0.9))
    method.after_step(model)
    assert method.estimators()[0].first == -40
    assert method.monitors()["shift_1"] == 0
    (source,), _ = method.edit((batch(inputs),), (), step(model, 0.9))
    torch.testing.assert_close(source.inputs["s2"].days, inputs["s2"].days + 40)


def test_each_target_has_its_shift_and_sources_are_shared_out():
    model = copy.deepcopy(trained())
    method = attached(model, targets=2)
    inputs, _ = season(64)
    both = views(model, moved(inputs, 40), 1), views(model, moved(inputs, -20), 2)
    method((), both, step(model, 0.5))
    method.after_step(model)
    assert [e.first for e in method.estimators()] == [-40, 20]
    (source,), _ = method.edit((batch(inputs),), (), step(model, 0.6))
    moves = (source.inputs["s2"].days - inputs["s2"].days).round()
    assert (moves == moves[:, :1]).all()
    assert set(moves[:, 0].tolist()) == {40.0, -20.0}


def test_inputs_without_days_are_warned_of_unless_nothing_is_to_be_moved():
    model = nn.Module()
    model.encoder, model.head = nn.Linear(3, 32), nn.Linear(32, 4)
    model.forward = lambda x: (model.encoder(x), model.head(model.encoder(x)))
    x = torch.randn(8, 3)
    view = View(*model(x), x, 1)
    for max_shift, expectation in ((60, pytest.warns(UserWarning, match="carry none")), (0, nullcontext())):
        method = attached(model, max_shift=max_shift, strong_sources=False)
        with expectation, warnings.catch_warnings():
            if not max_shift:
                warnings.simplefilter("error")
            assert method((), (view,), step(model, 0.7))["pseudo"] > 0
        method.after_step(model)
        assert method.edit((x,), (x,), step(model, 0.7))[0][0] is x


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"criterion": "acc"}, "criterion must be one of"),
        ({"max_shift": -1}, "max_shift must be a whole number >= 0"),
        ({"resolution": 0}, "resolution"),
        ({"estimates": 0}, "estimates"),
        ({"prior": [0.0, 0.0]}, "some > 0"),
        ({"prior": [-1.0, 2.0]}, "each >= 0"),
        ({"keep": 0.0}, r"TimeMatch\.keep must be"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        TimeMatch(**options)


def test_a_prior_of_another_length_is_refused():
    with pytest.raises(ValueError, match="each of the 4 classes; got 2"):
        attached(trained(), prior=[0.5, 0.5])


def test_self_training_across_a_shift_recovers_what_it_costs():
    """The source network fails 60 days away; the student that learnt in the target's time does not."""
    plain, ours = zip(*(across_a_shift(seed) for seed in range(3)), strict=True)
    assert gain_over(plain, ours)[0] > 0.1


def across_a_shift(seed: int) -> tuple[float, float]:
    """Accuracy far away of the source network, and after self-training."""
    torch.manual_seed(seed)
    model = copy.deepcopy(trained()).train()
    method = TimeMatch(start=0.0, resolution=10, max_shift=80)
    method.attach(model, Setup(32, 1, 1, 4))
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    inputs, labels = season(128, RARE)
    far = moved(inputs, 60)
    before = accuracy(trained(), far, labels)
    for number in range(40):
        at = step(model, number / 40)
        (near, y), (other, _) = season(64), season(64, RARE)
        (near,), (other,) = method.edit((near,), (moved(other, 60),), at)
        loss = nn.functional.cross_entropy(model(near)[1], y)
        loss = loss + method((), (views(model, other),), at)["pseudo"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        method.after_step(model)
    return before, accuracy(model.eval(), far, labels)
