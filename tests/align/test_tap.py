"""Networks of others under a tap: features, copies, errors."""

import copy

import pytest
import torch
from torch import nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.coral import CORAL
from eo_adapt.align.csn import CSN
from eo_adapt.align.tap import Tap


def network() -> nn.Module:
    return nn.Sequential(nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 4))


def test_features_are_what_the_layer_puts_out():
    net, x = network().eval(), torch.randn(5, 3)
    features, logits = Tap(net, "0")(x)
    assert torch.equal(features, net[0](x))
    assert torch.equal(logits, net(x))


def test_a_copy_listens_to_its_own_layer():
    tap, x = Tap(network(), "0").eval(), torch.randn(5, 3)
    twin = copy.deepcopy(tap)
    with torch.no_grad():
        twin.model[0][0].weight.zero_()
    assert torch.equal(twin(x)[0], twin.model[0](x))
    assert not torch.equal(twin(x)[0], tap(x)[0])


def test_the_deepest_map_of_a_pyramid_and_own_ways_in():
    class Pyramid(nn.Module):
        def forward(self, x):
            return [x, 2 * x]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = Pyramid()

        def forward(self, x):
            return {"out": self.encoder(x)[0] + 1}

    x = torch.randn(2, 3)
    features, logits = Tap(Net(), "encoder", logits=lambda out: out["out"])(x)
    assert torch.equal(features, 2 * x)
    assert torch.equal(logits, x + 1)
    assert torch.equal(Tap(Net(), "encoder", lambda out: out["out"], features=lambda maps: maps[0])(x)[0], x)


def test_it_is_left_alone_afterwards_even_after_an_error():
    net = network()
    tap = Tap(net, "0")
    tap(torch.randn(4, 3))
    with pytest.raises(RuntimeError):
        tap(torch.randn(4, 7))
    assert not net[0]._forward_hooks


def test_unknown_and_unused_layers_are_errors():
    with pytest.raises(ValueError, match="no layer 'backbone'; it has"):
        Tap(network(), "backbone")

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    with pytest.raises(RuntimeError, match="did not call its layer 'idle'"):
        Tap(Idle(), "idle")(torch.randn(2, 3))


def test_a_tapped_network_is_aligned_and_exported():
    criterion, csn, tapped = nn.CrossEntropyLoss(), CSN(), Tap(network(), "0")
    csn.attach(tapped, Setup(width=8))
    xs, xt, ys = torch.randn(16, 3), torch.randn(12, 3) + 1, torch.randint(4, (16,))
    with csn.scope(0):
        fs, zs = tapped(xs)
    with csn.scope(1):
        ft, zt = tapped(xt)
    step = Step(tapped, criterion, csn.scope, 0.5)
    terms = CORAL()((View(fs, zs, xs, 0, ys),), (View(ft, zt, xt, 1),), step)
    (criterion(zs, ys) + sum(terms.values())).backward()
    assert tapped.model[0][0].weight.grad.abs().max() > 0
    tapped.eval()
    with csn.scope(1):
        expected = tapped(xt)[1]
    assert torch.equal(csn.export(tapped, 1)(xt)[1], expected)
