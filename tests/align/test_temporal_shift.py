"""TimeMatch: criteria against numpy, injected shifts found by a real encoder, who is moved when, and what is kept."""

import copy
import io
import warnings
from contextlib import nullcontext
from functools import cache, partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.augment import StrongView
from eo_adapt.align.looks import moved
from eo_adapt.align.timematch import CRITERIA, ShiftEstimator, TimeMatch, shift_scores, summary
from eo_adapt.encoders.blocks.ltae import LTAE
from eo_adapt.encoders.blocks.pixel_set import PixelSetEncoder
from eo_adapt.encoders.parcel import ParcelEncoder
from eo_adapt.types import Batch, Observation

PEAK, WIDTH = torch.tensor([110.0, 150.0, 200.0, 240.0]), torch.tensor([20.0, 45.0, 25.0, 40.0])
EVEN, RARE = torch.ones(4), torch.tensor([0.5, 0.25, 0.15, 0.1])
STILL = StrongView(0.0, 0.0, 0.0, 0.0, 0.0, False)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Crops(nn.Module):
    """A pixel-set encoder with lightweight temporal attention, small."""

    def __init__(self) -> None:
        super().__init__()
        spatial = partial(PixelSetEncoder, widths=(16, 32), out=32)
        self.encoder = ParcelEncoder({"s2": 2}, spatial, partial(LTAE, d_model=64, heads=8, out=32))
        self.head = nn.Linear(32, 4)

    def forward(self, inputs):
        features = self.encoder(inputs).maps[-1]
        return features, self.head(features)


def season(n: int, shares: Tensor = EVEN) -> tuple[dict[str, Observation], Tensor]:
    """Greenness that peaks once, each crop at its time; irregular dates with gaps."""
    labels = torch.multinomial(shares, n, replacement=True)
    days = (365 * torch.rand(n, 24)).sort(1)[0]
    peak = PEAK[labels, None] + 5 * torch.randn(n, 1)
    green = torch.exp(-(((days - peak) / WIDTH[labels, None]) ** 2) / 2)
    values = torch.stack([green, 1 - green], -1) + 0.05 * torch.randn(n, 24, 2)
    return {"s2": Observation(values, days, torch.rand(n, 24) < 0.9)}, labels


@cache
def trained() -> Crops:
    torch.manual_seed(1)
    model = Crops()
    optimiser = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(120):
        inputs, labels = season(64)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(inputs)[1], labels).backward()
        optimiser.step()
    return model.eval()


def accuracy(model: nn.Module, inputs: dict[str, Observation], labels: Tensor) -> float:
    with torch.no_grad():
        return (model(inputs)[1].argmax(1) == labels).float().mean().item()


@pytest.mark.parametrize("injected", [60, -60, 20, 0])
def test_every_criterion_finds_an_injected_shift(injected):
    """Of a target with other crop shares and half a year of negative days."""
    model = trained()
    inputs, labels = season(128, RARE)
    far = moved(inputs, injected)
    assert accuracy(model, inputs, labels) > 0.95
    if abs(injected) == 60:
        assert accuracy(model, far, labels) < 0.75

    @cache
    def predict(shift: int) -> Tensor:
        with torch.no_grad():
            return model(moved(far, shift))[1]

    for criterion, prior in (*((c, ()) for c in CRITERIA), ("am", tuple(RARE.tolist()))):
        estimator = ShiftEstimator(4, criterion, 80, 5, 1, prior)
        estimator.look(predict)
        assert abs(estimator.shift + injected) <= 10, (criterion, prior)
        assert accuracy(model, moved(far, estimator.shift), labels) > 0.9


def test_summary_and_criteria_equal_numpy():
    logits = 3 * torch.randn(4, 9, 5)  # 4 shifts
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(2, keepdims=True)
    shares = np.array([0.1, 0.4, 0.0, 0.3, 0.2])
    entropy = -(p * np.log(p)).sum(2).mean(1)
    score = (p * np.log(p / p.mean(1, keepdims=True))).sum(2).mean(1)
    votes = np.stack([np.bincount(x.argmax(1), minlength=5) / 9 for x in p])
    kl = (shares * np.log((shares + 1e-5) / (votes + 1e-5))).sum(1)
    stats = torch.stack([summary(x) for x in logits])
    for criterion, expected in (("ent", entropy), ("is", -score), ("am", kl + entropy)):
        got = shift_scores(stats, criterion, torch.tensor(shares, dtype=torch.float32))
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="give shares"):
        shift_scores(stats, "am")


def test_a_map_counts_every_pixel_and_half_precision_is_raised():
    logits = torch.randn(3, 5, 2, 4)
    torch.testing.assert_close(summary(logits), summary(logits.permute(0, 2, 3, 1).reshape(-1, 5)))
    assert summary(logits.bfloat16()).dtype == torch.float32


class Peaked:
    """Predictions that are surer the nearer a shift is to the true one, with these votes."""

    def __init__(self, best: int, votes=(6, 3, 1)) -> None:
        self.best, self.votes, self.calls = best, votes, []

    def __call__(self, shift: int) -> Tensor:
        self.calls.append(shift)
        labels = torch.arange(3).repeat_interleave(torch.tensor(self.votes))
        return (8 - abs(shift - self.best) / 10) * nn.functional.one_hot(labels, 3).float()


@pytest.mark.parametrize("criterion", CRITERIA)
def test_first_estimate_tries_all_and_later_ones_between_it_and_0(criterion):
    estimator, first, later = ShiftEstimator(3, criterion, 60, 10, 2, ()), Peaked(-40), Peaked(-20)
    for _ in range(2):
        estimator.look(first)
        estimator.commit(0)
    assert (estimator.round, estimator.first, estimator.shift) == (1, -40, -40)
    assert sorted(first.calls) == sorted(2 * list(range(-60, 61, 10)))
    estimator.look(later)
    assert sorted(later.calls) == [-40, -30, -20, -10, 0]
    assert (estimator.first, estimator.shift) == (-40, -20)
    estimator.look(later)
    estimator.commit(5)
    assert estimator.round == 6, "rounds that were missed are left out"


def test_am_looks_to_the_side_of_the_inception_score_and_matches_the_shares_there():
    """On the other side predictions are surer but of one class: IS is not fooled, nor AM, ENT is."""

    def predict(shift: int) -> Tensor:
        if shift == 40:
            return Peaked(40, (10, 0, 0))(shift) + 1
        return Peaked(-30)(shift)

    found = {}
    for criterion in CRITERIA:
        estimator = ShiftEstimator(3, criterion, 60, 10, 1, ())
        estimator.look(lambda shift: (1.5 if shift == 40 else 1) * predict(shift))
        found[criterion] = estimator.shift
    assert found == {"am": -30, "is": -30, "ent": 40}


def test_a_known_prior_decides_between_equally_sure_shifts():
    def predict(shift: int) -> Tensor:
        return Peaked(shift, {20: (2, 3, 5), 40: (5, 3, 2)}.get(shift, (3, 4, 3)))(shift)

    for prior, expected in (((0.2, 0.3, 0.5), 20), ((50, 30, 20), 40)):
        estimator = ShiftEstimator(3, "am", 60, 20, 1, prior)
        estimator.look(predict)
        assert estimator.shift == expected


def test_nothing_to_choose_costs_nothing():
    predict, estimator = Peaked(0), ShiftEstimator(3, "am", 60, 10, 1, ())
    estimator.look(predict)
    estimator.commit(0)
    assert estimator.first == 0
    count = len(predict.calls)
    estimator.look(predict)
    ShiftEstimator(3, "am", 0, 10, 1, ()).look(predict)
    assert len(predict.calls) == count
    assert estimator.shift == 0


def test_estimates_pool_batches_micro_batches_too_and_resume_to_the_bit():
    """The shift that fits three batches best on average, whether steps have one batch or three."""
    batches = Peaked(30), Peaked(-20), Peaked(50)
    shifts = range(-60, 61, 10)
    pooled = torch.stack([torch.stack([summary(one(shift)) for one in batches]).mean(0) for shift in shifts])
    expected = shifts[int(shift_scores(pooled, "is").argmin())]
    assert expected not in (50, -20)
    apart, together = (ShiftEstimator(3, "is", 60, 10, 3, ()) for _ in range(2))
    for batch in batches[:2]:
        apart.look(batch)
        apart.commit(0)
    file = io.BytesIO()
    torch.save(apart.state_dict(), file)
    file.seek(0)
    resumed = ShiftEstimator(3, "is", 60, 10, 3, ())
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for estimator in (apart, resumed):
        assert estimator.round == 0
        estimator.look(batches[2])
        estimator.commit(0)
    for batch in batches:
        together.look(batch)
    together.commit(0)
    for estimator in (apart, together, resumed):
        assert (estimator.round, estimator.first) == (1, expected)
    assert torch.equal(apart.sums, resumed.sums)


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
    model.encoder, model.head = nn.Linear(3, 4), nn.Linear(4, 4)
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
        ({"max_shift": -1}, "max_shift >= 0"),
        ({"resolution": 0}, "resolution"),
        ({"estimates": 0}, "estimates"),
        ({"prior": [0.0, 0.0]}, "some > 0"),
        ({"prior": [-1.0, 2.0]}, "each >= 0"),
        ({"keep": 0.0}, "TimeMatch needs"),
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
    assert before < 0.75
    assert accuracy(model.eval(), far, labels) > 0.9
