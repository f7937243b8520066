"""ANIL: MAML whose inner loop moves the head alone."""

import copy

import pytest
import torch
from intervals import interval
from sources import CRITERION, Net, step_of
from test_fomaml import gains

from eo_adapt.align import Setup, View
from eo_adapt.align.anil import ANIL
from eo_adapt.align.meta import halves


def test_the_body_learns_from_the_adapted_head():
    torch.manual_seed(0)
    model, x, y = Net(4), torch.randn(14, 4), torch.randint(2, (14,))
    align = ANIL(inner_lr=0.5, inner_steps=2)
    align.attach(model, Setup(16, 1, 0, 2))
    view = View(*model(x), x, 0, y)
    torch.manual_seed(3)
    total = align((view,), (), step_of(model))["meta"] + CRITERION(view.logits, y)
    torch.manual_seed(3)
    support, query = halves(14, x.device)
    other = copy.deepcopy(model)
    optimiser = torch.optim.SGD(other.head.parameters(), 0.5)
    for _ in range(2):
        optimiser.zero_grad()
        CRITERION(other(x[support])[1], y[support]).backward()
        optimiser.step()
    loss = CRITERION(other(x[query])[1], y[query])
    torch.testing.assert_close(total, loss)
    theirs = torch.autograd.grad(loss, list(other.parameters()))
    for mine, their in zip(torch.autograd.grad(total, list(model.parameters())), theirs, strict=True):
        torch.testing.assert_close(mine, their, atol=1e-6, rtol=1e-4)


def test_tuning_moves_the_head_alone():
    model = Net(4)
    before = copy.deepcopy(model.state_dict())
    ANIL(tune_steps=3).tune(model, {1: (torch.randn(9, 4), torch.randint(2, (9,)))}, step_of(model))
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


def test_it_goes_by_its_own_name():
    with pytest.raises(ValueError, match=r"anil\.inner_lr must be a finite number > 0"):
        ANIL(inner_lr=-1.0)


@pytest.mark.slow
def test_it_adapts_faster_than_plain_training():
    assert interval(gains(ANIL))[0] > 0
