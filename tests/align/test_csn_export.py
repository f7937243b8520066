"""CSN and plain networks: statistics go in from one, and one comes out for each domain."""

import copy

import pytest
import torch
from nets import deep, fed, split
from torch import nn

from eo_adapt.align.csn import DomainNorm


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_a_plain_networks_statistics_go_to_every_domain(affine):
    net = deep()
    for _ in range(5):
        net(torch.randn(32, 4) * 3 + 2)
    plain, x = copy.deepcopy(net).eval(), torch.randn(7, 4)
    csn = split(net.eval(), 3, affine)
    for domain in range(3):
        with csn.scope(domain):
            assert torch.equal(net(x), plain(x))


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_export_gives_the_plain_network_of_a_domain(affine):
    blank = deep()
    net = copy.deepcopy(blank)
    csn = split(net, 2, affine)
    fed(net, csn, 2)
    if affine == "per_domain":
        nn.init.constant_(net[2].norms[1].bias, 3.0)
    net.eval()
    x, exported = torch.randn(7, 4), [csn.export(net, domain) for domain in (0, 1)]
    for domain, plain in enumerate(exported):
        with csn.scope(domain):
            logits = net(x)
        assert torch.equal(plain(x), logits)
        assert not any(isinstance(module, DomainNorm) for module in plain.modules())
        assert plain.state_dict().keys() == blank.state_dict().keys()
        assert not {id(p) for p in plain.parameters()} & {id(p) for p in net.parameters()}
    assert not torch.allclose(exported[0](x), exported[1](x))


def test_a_layer_that_stands_in_two_places_stays_one():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = nn.BatchNorm1d(4)
            self.inner = nn.Sequential(self.a)

        def forward(self, x):
            return self.inner(self.b(self.a(x)))

    net = Twice()
    csn = split(net, 2)
    assert net.a is net.b
    assert net.a is net.inner[0]
    assert isinstance(net.b, DomainNorm)
    fed(net, csn, 2).eval()
    plain = csn.export(net, 1)
    assert plain.a is plain.inner[0]
    assert type(plain.b) is nn.BatchNorm1d
    with csn.scope(1):
        assert torch.equal(net(torch.ones(1, 4)), plain(torch.ones(1, 4)))


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_state_survives_saving(affine):
    net, twin = deep(), deep()
    csn, twin_csn = split(net, 2, affine), split(twin, 2, affine)
    fed(net, csn, 2).eval()
    twin.load_state_dict(net.state_dict())
    x = torch.randn(5, 4)
    for domain in (0, 1):
        with csn.scope(domain):
            expected = net(x)
        with twin_csn.scope(domain):
            assert torch.equal(twin.eval()(x), expected)
