"""CSN as users of LoveCS know it: named domains, plain checkpoints, synchronised layers, domains that are not there."""

import copy
import sys

import pytest
import torch
from nets import deep, fed
from torch import nn

from eo_adapt.align import Setup, csn
from eo_adapt.align.csn import CSN, DomainNorm, load_plain, replace_bn_with_csn
from eo_adapt.align.teacher import Teacher


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def feed(net: nn.Module, names: tuple[str, ...]) -> nn.Module:
    for i, name in enumerate(names):
        for _ in range(3):
            with csn.scope(name):
                net(torch.randn(32, 4) * (1 + i) + 2 * i)
    return net.eval()


def test_it_returns_the_model_and_names_choose_the_statistics():
    names = ("planet", "gaofen", "drone")
    net = deep()
    assert replace_bn_with_csn(net, names) is net
    feed(net, names)
    x = torch.randn(5, 4)
    answers = {}
    for number, name in enumerate(names):
        with csn.scope(name):
            answers[name] = net(x)
        with csn.scope(number):
            assert torch.equal(net(x), answers[name])
    assert not torch.allclose(answers["planet"], answers["drone"])
    assert not torch.allclose(answers["planet"], answers["gaofen"])


def test_by_default_there_are_source_and_target():
    net = replace_bn_with_csn(deep())
    feed(net, ("source", "target"))
    with pytest.raises(LookupError, match=r"no domain 'goal'; .*0: 'source', 1: 'target'"), csn.scope("goal"):
        net(torch.randn(5, 4))


def test_a_model_that_is_a_batch_norm_itself_is_replaced():
    layer = replace_bn_with_csn(nn.BatchNorm1d(4))
    assert isinstance(layer, DomainNorm)
    with csn.scope("target"):
        assert layer(torch.randn(9, 4) + 3).mean().abs() < 1e-5


@pytest.mark.parametrize("domain", [2, -1, 7, "goal"])
@pytest.mark.parametrize("training", [True, False])
def test_a_domain_that_is_not_there_lists_those_that_are(domain, training):
    net = replace_bn_with_csn(deep()).train(training)
    with pytest.raises(LookupError, match=r"split for .*source.*target"), csn.scope(domain):
        net(torch.randn(5, 4))
    align = CSN()
    align.attach(deep(), Setup(3))
    with pytest.raises(LookupError, match=r"split for .*source.*target"):
        align.scope(domain)
    with pytest.raises(LookupError, match="no domain"):
        align.export(net, 2)


@pytest.mark.parametrize("training", [True, False])
def test_outside_of_a_scope_it_raises(training):
    net = replace_bn_with_csn(deep()).train(training)
    with pytest.raises(RuntimeError, match="scope"):
        net(torch.randn(5, 4))


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_impossible_names_are_refused(names):
    with pytest.raises(ValueError, match="at least one name, each once"):
        replace_bn_with_csn(deep(), names)


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="no BatchNorm"):
        replace_bn_with_csn(nn.Linear(2, 2))
    net = replace_bn_with_csn(deep())
    with pytest.raises(ValueError, match="already split"):
        replace_bn_with_csn(net)
    with pytest.raises(ValueError, match="already split"):
        CSN().attach(net, Setup(3))
    with pytest.raises(ValueError, match="affine must be one of"):
        replace_bn_with_csn(deep(), affine="each")


def test_the_method_counts_domains_where_there_are_several():
    net, align = deep(), CSN()
    align.attach(net, Setup(3, 2, 1))
    fed(net, align, 3).eval()
    x = torch.randn(4, 4)
    for number, name in enumerate(("source_0", "source_1", "target")):
        with align.scope(name):
            expected = net(x)
        with align.scope(number):
            assert torch.equal(net(x), expected)


def test_it_is_safe_in_a_teacher():
    student = feed(replace_bn_with_csn(deep()), ("source", "target"))
    with csn.scope("source"):
        deep_copy, averaged = copy.deepcopy(student), Teacher(student, 0.5)
    x = torch.randn(5, 4)
    for name in ("target", "source"):
        with csn.scope(name):
            assert torch.equal(deep_copy(x), student(x))
            assert torch.equal(averaged(x), student(x))
    with pytest.raises(RuntimeError, match="scope"):
        deep_copy(x)


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_a_plain_checkpoint_goes_into_every_domain(affine):
    plain = deep()
    for _ in range(5):
        plain(torch.randn(32, 4) * 3 + 2)
    net = replace_bn_with_csn(deep(), ("a", "b", "c"), affine)
    load_plain(net, plain.state_dict())
    x = torch.randn(7, 4)
    for name in "abc":
        with csn.scope(name):
            assert torch.equal(net.eval()(x), plain.eval()(x))
    layer = replace_bn_with_csn(nn.BatchNorm1d(4))
    load_plain(layer, {**nn.BatchNorm1d(4).state_dict(), "running_mean": torch.full((4,), 5.0)})
    assert all((norm.running_mean == 5).all() for norm in layer.norms)


def test_a_checkpoint_that_does_not_fit_is_an_error():
    net = replace_bn_with_csn(deep())
    state = deep().state_dict()
    state.pop("2.running_mean")
    with pytest.raises(RuntimeError, match=r"2\.norms\.0\.running_mean"):
        load_plain(net, state)
    with pytest.raises(ValueError, match=r"use model\.load_state_dict"):
        load_plain(deep(), deep().state_dict())


def synchronised() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), nn.SyncBatchNorm(4, affine=False), nn.Conv2d(4, 2, 1))
    nn.init.normal_(net[1].weight)
    return net


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_synchronised_layers_are_split_and_folded(affine):
    """Without a process group they are plain batch norms; with one they need a GPU."""
    net, align = synchronised(), CSN(affine)
    align.attach(net, Setup(2))
    assert isinstance(net[1], DomainNorm)
    for _ in range(3):
        for domain in (0, 1):
            with align.scope(domain):
                net(torch.randn(4, 3, 5, 5) * (1 + domain) + domain)
    net.eval()
    x = torch.randn(2, 3, 5, 5)
    folded = [align.export(net, domain) for domain in (0, 1)]
    for domain, plain in enumerate(folded):
        assert type(plain[1]) is nn.SyncBatchNorm
        with align.scope(domain):
            assert torch.equal(plain(x), net(x))
    assert not torch.allclose(folded[0](x), folded[1](x))


def test_split_layers_can_be_synchronised_afterwards():
    net = feed(replace_bn_with_csn(deep()), ("source", "target"))
    count = len(list(net.parameters()))
    x = torch.randn(5, 4)
    with csn.scope("target"):
        expected = net(x)
    net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert {type(norm) for norm in net[2].norms} == {nn.SyncBatchNorm}
    assert len(list(net.parameters())) == count, "the shared gain and shift came apart"
    with csn.scope("target"):
        assert torch.equal(net.eval()(x), expected)


def test_the_module_is_what_is_called_csn():
    assert csn is sys.modules["eo_adapt.align.csn"]
    assert csn.scope is csn.in_domain
