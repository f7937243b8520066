"""MLDG: its loss step by step, its expansion, the split, and shortcuts that each hold in one source."""

import copy

import pytest
import torch
from intervals import interval
from sources import CRITERION, Net, accuracy, slopes, step_of, train
from torch import nn

from eo_adapt.align import Setup, View
from eo_adapt.align.mldg import MLDG
from eo_adapt.align.source_only import SourceOnly


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def made(sources: int = 3):
    return Net(4), [(torch.randn(12 + i, 4), torch.randint(2, (12 + i,))) for i in range(sources)]


def term(align, model, data, number=0):
    align.attach(model, Setup(16, len(data), 0, 2))
    torch.manual_seed(number)
    return align(tuple(View(*model(x), x, i, y) for i, (x, y) in enumerate(data)), (), step_of(model))["mldg"]


def risk(model, samples):
    return CRITERION(model(samples[0])[1], samples[1])


def by_hand(model, data, held, lr, beta):
    """Value, and gradient in first order, with a real optimiser on a copy of the network."""
    kept = [i for i in range(len(data)) if i not in held]
    before = torch.stack([risk(model, data[i]) for i in kept]).mean()
    first = torch.autograd.grad(before, list(model.parameters()), retain_graph=True)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for p, g in zip(other.parameters(), first, strict=True):
            p -= lr * g
    after = torch.stack([risk(other, data[i]) for i in held]).mean()
    second = torch.autograd.grad(after, list(other.parameters()))
    mean = torch.stack([risk(model, one) for one in data]).mean()
    minus = torch.autograd.grad(mean, list(model.parameters()))
    grads = [a + beta * b - c for a, b, c in zip(first, second, minus, strict=True)]
    return (before + beta * after - mean).item(), grads


@pytest.mark.parametrize(("held_out", "beta"), [(1, 1.0), (2, 0.5)])
def test_value_and_first_order_gradient(held_out, beta):
    model, data = made()
    found = term(MLDG(lr=0.7, beta=beta, held_out=held_out), model, data)
    torch.manual_seed(0)
    held = torch.randperm(3).tolist()[:held_out]
    value, grads = by_hand(model, data, held, 0.7, beta)
    assert found.item() == pytest.approx(value, rel=1e-5, abs=1e-6)
    for ours, theirs in zip(torch.autograd.grad(found, list(model.parameters())), grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_exact_gradient_equals_finite_differences():
    model, data = Net(4, kink=nn.Tanh), made(2)[1]
    align = MLDG(lr=0.5, exact=True)
    slope, measured = slopes(model, lambda net: term(align, net, data))
    assert slope == pytest.approx(measured, rel=2e-2, abs=1e-4)


def test_rewards_gradients_that_agree():
    """F + G(w - a dF) = F + G - a <dF, dG> + O(a^2)."""
    model, data = made(2)
    torch.manual_seed(0)
    held, kept = torch.randperm(2).tolist()
    f, g = risk(model, data[kept]), risk(model, data[held])
    df, dg = (torch.autograd.grad(x, list(model.parameters())) for x in (f, g))
    agreement = sum((a * b).sum() for a, b in zip(df, dg, strict=True)).item()
    found = term(MLDG(lr=1e-2), model, data).item() - (f + g - (f + g) / 2).item()
    assert found == pytest.approx(-1e-2 * agreement, rel=0.1, abs=1e-6)
    assert abs(agreement) > 1e-3


def test_every_source_is_held_out_at_times():
    model, data = made()
    align = MLDG(lr=0.5)
    values = {round(term(align, model, data, number).item(), 6) for number in range(12)}
    assert len(values) == 3


def test_beta_zero_is_training_on_the_kept_sources():
    model, data = made(2)
    found = term(MLDG(beta=0.0), model, data).item()
    risks = [risk(model, one).item() for one in data]
    assert min(abs(found - (r - sum(risks) / 2)) for r in risks) < 1e-6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, r"mldg\.lr must be a finite number > 0"),
        ({"beta": -1.0}, r"mldg\.beta must be a finite number >= 0"),
        ({"held_out": 0}, r"mldg\.held_out must be a whole number >= 1"),
        ({"weight": 2.0}, r"weight must be .* <= 1"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MLDG(**options)


def test_too_few_sources_are_refused():
    with pytest.raises(ValueError, match=r"MLDG .* at least 2 sources; got 1"):
        MLDG().attach(nn.Linear(2, 2), Setup(2, 1, 1, 2))
    with pytest.raises(ValueError, match=r"held_out=2 of 2 sources leaves none"):
        MLDG(held_out=2).attach(nn.Linear(2, 2), Setup(2, 2, 1, 2))


def shortcuts(rows: int, own: int, seed: int):
    """(rows, 4) inputs and labels: a vague cue that holds everywhere, and a clear one that holds in one domain only."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (rows,), generator=draw)
    signs = 2.0 * labels - 1
    x = torch.randn(rows, 4, generator=draw)
    x[:, 0] += signs
    for k in range(3):
        coin = torch.randint(2, (rows,), generator=draw) * 2.0 - 1
        x[:, 1 + k] = 0.3 * x[:, 1 + k] + (signs if k == own else coin)
    return x, labels


def trained_on_three(align, seed: int) -> float:
    """Accuracy where none of the shortcuts holds."""
    torch.manual_seed(seed)
    model = Net(4)
    sources = [shortcuts(300, own, 10 * seed + own) for own in range(3)]
    train(align, model, [sources] * 200, lr=0.01)
    return accuracy(model, shortcuts(4000, -1, 999 + seed))


def test_it_relies_less_on_what_holds_in_one_source():
    plain, ours = ([trained_on_three(make(), seed) for seed in range(4)] for make in (SourceOnly, lambda: MLDG(lr=3.0)))
    assert interval([mine - base for mine, base in zip(ours, plain, strict=True)])[0] > 0, (plain, ours)
