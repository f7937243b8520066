"""First-order MAML: its gradient by hand, exact MAML by finite differences, and a family of tasks."""

import copy
import math

import pytest
import torch
from intervals import interval
from sources import CRITERION, Net, accuracy, slopes, step_of, train, turned
from torch import nn

from eo_adapt.align import Setup, View
from eo_adapt.align.fomaml import FOMAML
from eo_adapt.align.meta import halves
from eo_adapt.align.source_only import SourceOnly


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def made(sources: int = 2):
    return Net(4), [(torch.randn(12 + i, 4), torch.randint(2, (12 + i,))) for i in range(sources)]


def term(align, model, data, number=0):
    align.attach(model, Setup(16, len(data), 0, 2))
    views = tuple(View(*model(x), x, i, y) for i, (x, y) in enumerate(data))
    torch.manual_seed(number)
    return align(views, (), step_of(model))["meta"]


def by_hand(model, data, lr, steps, number=0):
    """Loss on the queries after SGD on the supports, and the mean of its gradients there (Nichol & Schulman's words:
    the gradient at the adapted weights)."""
    torch.manual_seed(number)
    losses, grads = [], []
    for x, y in data:
        support, query = halves(len(y), y.device)
        other = copy.deepcopy(model)
        optimiser = torch.optim.SGD(other.parameters(), lr)
        for _ in range(steps):
            optimiser.zero_grad()
            CRITERION(other(x[support])[1], y[support]).backward()
            optimiser.step()
        loss = CRITERION(other(x[query])[1], y[query])
        losses.append(loss.detach())
        grads.append(torch.autograd.grad(loss, list(other.parameters())))
    return torch.stack(losses).mean(), [torch.stack(g).mean(0) for g in zip(*grads, strict=True)]


@pytest.mark.parametrize("steps", [1, 3])
def test_task_loss_and_term_together_are_the_papers(steps):
    model, data = made()
    found = term(FOMAML(inner_lr=0.5, inner_steps=steps), model, data)
    total = found + torch.stack([CRITERION(model(x)[1], y) for x, y in data]).mean()
    value, grads = by_hand(model, data, 0.5, steps)
    torch.testing.assert_close(total, value)
    for ours, theirs in zip(torch.autograd.grad(total, list(model.parameters())), grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_exact_gradient_equals_finite_differences():
    model, data = Net(4, kink=nn.Tanh), made(1)[1]
    align = FOMAML(inner_lr=0.5, inner_steps=2, exact=True)
    slope, measured = slopes(model, lambda net: term(align, net, data))
    assert slope == pytest.approx(measured, rel=2e-2, abs=1e-4)


def test_halves_are_drawn_anew():
    model, data = made()
    assert len({term(FOMAML(), model, data, number).item() for number in range(4)}) == 4


def test_tuning_is_plain_descent_on_the_shots():
    model, (x, y) = Net(4), (torch.randn(10, 4), torch.randint(2, (10,)))
    other = copy.deepcopy(model)
    FOMAML(inner_lr=0.3, tune_steps=4).tune(model, {3: (x, y)}, step_of(model))
    optimiser = torch.optim.SGD(other.parameters(), 0.3)
    for _ in range(4):
        optimiser.zero_grad()
        CRITERION(other(x)[1], y).backward()
        optimiser.step()
    for ours, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not model.training


def test_a_batch_of_one_is_refused():
    model, _ = made()
    with pytest.raises(ValueError, match="two halves; got 1 sample"):
        term(FOMAML(), model, [(torch.randn(1, 4), torch.tensor([0]))] * 2)


@pytest.mark.parametrize(
    "option", [{"inner_lr": 0.0}, {"inner_steps": 0}, {"tune_steps": 0}, {"batch_size": 1}, {"weight": 1.5}]
)
def test_impossible_options_are_refused(option):
    with pytest.raises(ValueError, match=r"(weight|fomaml\.\w+) must be"):
        FOMAML(**option)


def after_tuning(align, tuner, seed: int, steps: int = 200, tasks: int = 8) -> float:
    """Mean accuracy on new tasks after ten steps on twenty labels of each."""
    torch.manual_seed(seed)
    model, turns = Net(6, layers=2), [2 * math.pi * i / tasks for i in range(tasks)]
    batches = [[turned(64, turn, 10**6 * seed + 100 * n + i) for i, turn in enumerate(turns)] for n in range(steps)]
    train(align, model, batches, lr=0.01)
    found = []
    for number in range(5):
        other = copy.deepcopy(model)
        tuner.tune(other, {0: turned(20, 0.3 + number, 31 * seed + number)}, step_of(other))
        found.append(accuracy(other, turned(1000, 0.3 + number, 99 + number)))
    return sum(found) / len(found)


def gains(method: type[FOMAML], seeds: int = 3) -> list[float]:
    """Accuracy after the same tuning, of weights from its training over weights from plain training."""
    tuner = method(inner_lr=0.3, inner_steps=3, tune_steps=10)
    return [after_tuning(tuner, tuner, seed) - after_tuning(SourceOnly(), tuner, seed) for seed in range(seeds)]


@pytest.mark.slow
def test_it_adapts_faster_than_plain_training():
    assert interval(gains(FOMAML))[0] > 0


def test_batch_norm_statistics_are_not_touched_in_training():
    class Normed(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), nn.Linear(6, 2)

        def forward(self, x):
            features = self.body(x)
            return features, self.head(features)

    model, (_, data) = Normed(), made()
    align = FOMAML(inner_steps=2)
    align.attach(model, Setup(6, 2, 0, 2))
    views = tuple(View(*model(x), x, i, y) for i, (x, y) in enumerate(data))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    align(views, (), step_of(model))
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
