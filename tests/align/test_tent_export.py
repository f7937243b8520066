"""Tent: what was learnt at test time leaves as a plain network or a saved state, alone and with other methods."""

import io

import pytest
import torch
from sensors import CLASSES, Net, answers, frozen, samples, trained
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN
from eo_adapt.align.entropy import entropies
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.stack import Stack
from eo_adapt.align.tent import Tent


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_export_folds_what_was_learnt():
    net, tent = trained(Tent(lr=0.02))
    x = samples(60, shifted=True)[0]
    assert torch.equal(tent.export(net, 1)(x)[1], net(x)[1])
    for _ in range(3):
        last = answers(net, tent, x, 1)
    plain = tent.export(net, 1)
    assert plain.state_dict().keys() == Net().state_dict().keys()
    torch.testing.assert_close(plain(x)[1], last)
    assert not torch.allclose(last, net(x)[1])
    assert torch.equal(tent.export(net, 0)(x)[1], net(x)[1])


def test_learning_goes_on_to_the_bit_from_a_saved_state():
    net, tent = trained(Tent(lr=0.02))
    batches = [samples(60, shifted=True)[0] for _ in range(4)]
    for x in batches[:2]:
        answers(net, tent, x, 1)
    file = io.BytesIO()
    torch.save(tent.state_dict(), file)
    file.seek(0)
    twin = Tent(lr=0.02)
    twin.attach(net, Setup(8, 1, 1, CLASSES))
    twin.load_state_dict(torch.load(file, weights_only=True))
    for x in batches[2:]:
        assert torch.equal(answers(net, tent, x, 1), answers(net, twin, x, 1))


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
@pytest.mark.parametrize("order", ["before", "after"])
def test_it_works_with_csn(affine, order):
    parts = {"csn": CSN(affine), "tent": Tent(lr=0.05)}
    net, stack = trained(Stack(parts if order == "before" else dict(reversed(parts.items()))))
    x = samples(60, shifted=True)[0]
    with stack.scope(1):
        unadapted = net(x)[1].detach()
    source, before = answers(net, stack, x, 0), frozen(net)
    for _ in range(4):
        last = answers(net, stack, x, 1)
    assert not torch.allclose(last, unadapted)
    assert entropies(last).mean() < entropies(unadapted).mean()
    assert all(torch.equal(a, b) for a, b in zip(before, frozen(net), strict=True))
    assert torch.equal(answers(net, stack, x, 0), source)
    plain = stack.export(net, 1)
    torch.testing.assert_close(plain(x)[1], last)
    assert plain.state_dict().keys() == Net().state_dict().keys()


def test_it_works_with_adabn_and_label_shift():
    shift = LabelShift(guard=0.0)
    net, stack = trained(Stack({"adabn": AdaBN(), "label_shift": shift, "tent": Tent(lr=0.02)}))
    x, y = samples(120, shifted=True)
    x = torch.cat([x, x[y == 0], x[y == 0]])
    with torch.no_grad():
        stack.settle(net, {0: [samples(300)]}, {1: [x]})
    assert shift.shares(1).argmax() == 0
    last = answers(net, stack, x, 1)
    torch.testing.assert_close(stack.export(net, 1)(x)[1], last, rtol=1e-4, atol=1e-5)


def test_layers_without_gain_or_statistics_pass():
    class Odd(Net):
        def __init__(self):
            super().__init__()
            self.encoder[1] = nn.BatchNorm1d(16, affine=False)
            self.encoder[4] = nn.BatchNorm1d(8, track_running_stats=False)

    net, tent = Odd().eval(), Tent(confident=1.0)
    tent.attach(net, Setup(8, 1, 1, CLASSES))
    x = samples(60)[0]
    last = answers(net, tent, x, 1)
    torch.testing.assert_close(tent.export(net, 1)(x)[1], last)
