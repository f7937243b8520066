"""CSN: one set of batch-norm statistics a domain, everywhere and for teachers too."""

import copy

import pytest
import torch
from nets import deep, fed, split
from torch import Tensor, nn

from eo_adapt.align.csn import CSN, DomainNorm

KINDS = [
    (nn.BatchNorm1d, (16, 3)),
    (nn.BatchNorm1d, (16, 3, 5)),
    (nn.BatchNorm2d, (8, 3, 4, 5)),
    (nn.BatchNorm3d, (8, 3, 2, 3, 4)),
]
each_kind = pytest.mark.parametrize(("kind", "shape"), KINDS, ids=["1d", "1d series", "2d", "3d"])


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def statistics(net: nn.Module, domain: int) -> list[Tensor]:
    return [
        value.clone()
        for layer in net.modules()
        if isinstance(layer, DomainNorm)
        for value in layer.norms[domain].buffers()
    ]


@each_kind
def test_one_domain_is_plain_batch_norm_to_the_bit(kind, shape):
    plain = nn.Sequential(nn.Conv1d(3, 3, 1) if len(shape) == 3 else nn.Identity(), kind(3))
    net = copy.deepcopy(plain)
    csn = split(net, 1)
    for _ in range(3):
        x = torch.randn(shape) * 3 + 1
        with csn.scope(0):
            ours = net(x)
        theirs = plain(x)
        assert torch.equal(ours, theirs)
        ours.square().sum().backward()
        theirs.square().sum().backward()
    pairs = zip(net.parameters(), plain.parameters(), strict=True)
    assert all(torch.equal(a.grad, b.grad) for a, b in pairs)
    with csn.scope(0):
        assert torch.equal(net.eval()(x), plain.eval()(x))


@each_kind
@pytest.mark.parametrize("domains", [2, 4])
def test_every_domain_comes_out_normalised_by_itself(kind, shape, domains):
    net = nn.Sequential(kind(3))
    csn = split(net, domains)
    for domain in reversed(range(domains)):
        with csn.scope(domain):
            out = net(torch.randn(shape) * (domain + 0.5) + 10 * domain)
        channels = out.transpose(0, 1).flatten(1)
        torch.testing.assert_close(channels.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(channels.var(1, correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_target_batches_leave_the_source_statistics_alone():
    net = deep()
    csn = split(net, 3)
    fed(net, csn, 3)
    before = [statistics(net, domain) for domain in range(3)]
    with csn.scope(1):
        net(torch.randn(32, 4) + 50)
    for domain in (0, 2):
        assert all(torch.equal(a, b) for a, b in zip(statistics(net, domain), before[domain], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(statistics(net, 1), before[1], strict=True))


def test_statistics_are_those_of_the_domain_in_any_order():
    def run(order: tuple[int, ...]) -> list[Tensor]:
        torch.manual_seed(1)
        net, batches = deep(), [torch.randn(32, 4) + 3 * domain for domain in range(3)]
        csn = split(net, 3)
        for domain in order:
            with csn.scope(domain):
                net(batches[domain])
        return [value for domain in range(3) for value in statistics(net, domain)]

    for a, b in zip(run((0, 1, 2)), run((2, 0, 1)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("training", [True, False])
def test_without_a_scope_it_raises_and_never_guesses(training):
    net = deep().train(training)
    csn = split(net, 2)
    with pytest.raises(RuntimeError, match=r"alignment\.scope\(domain\)"):
        net(torch.randn(8, 4))
    with pytest.raises(ZeroDivisionError), csn.scope(1):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError, match=r"alignment\.scope\(domain\)"):
        net(torch.randn(8, 4))


def test_scopes_nest_and_come_back():
    net = deep()
    csn = split(net, 2)
    fed(net, csn, 2)
    net.eval()
    x = torch.randn(5, 4)
    with csn.scope(0):
        outer = net(x)
        with csn.scope(1):
            assert not torch.allclose(net(x), outer)
        assert torch.equal(net(x), outer)


@each_kind
def test_eval_uses_the_domains_own_running_statistics(kind, shape):
    norm = kind(3, momentum=None)  # the plain average of all batches
    net = nn.Sequential(norm)
    csn = split(net, 2)
    batches = [[torch.randn(shape) * (1 + d) + 5 * d for _ in range(4)] for d in range(2)]
    for domain in (0, 1):
        for batch in batches[domain]:
            with csn.scope(domain):
                net(batch)
    net.eval()
    x = torch.randn(shape)
    for domain in (0, 1):
        channels = torch.stack([b.transpose(0, 1).flatten(1) for b in batches[domain]])
        view = (1, 3, *[1] * (len(shape) - 2))
        mean, var = channels.mean((0, 2)).view(view), channels.var(2).mean(0).view(view)
        with csn.scope(domain):
            torch.testing.assert_close(net(x), (x - mean) / (var + norm.eps).sqrt(), atol=1e-4, rtol=1e-4)


def test_a_deep_copied_teacher_follows_the_scope():
    """A flag on the student's layers would not reach a copy of them: target pseudo-labels by source statistics."""
    student = deep()
    csn = split(student, 2)
    fed(student, csn, 2)
    student.eval()
    with csn.scope(0):
        teacher = copy.deepcopy(student)
    x = torch.randn(5, 4) * 2 + 2
    answers = []
    for domain in (1, 0):
        with csn.scope(domain):
            assert torch.equal(teacher(x), student(x))
            answers.append(teacher(x))
    assert not torch.allclose(*answers)
    with pytest.raises(RuntimeError, match="scope"):
        teacher(x)


def test_shared_affine_is_one_parameter():
    net = deep()
    count = len(list(net.parameters()))
    csn = split(net, 3)
    assert len(list(net.parameters())) == count
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    assert sum(len(group["params"]) for group in optimiser.param_groups) == count
    layer = net[2]
    assert len({id(norm.weight) for norm in layer.norms}) == len({id(norm.bias) for norm in layer.norms}) == 1
    with csn.scope(2):
        net(torch.randn(8, 4)).square().sum().backward()
    optimiser.step()
    assert all(torch.equal(norm.weight, layer.norms[2].weight) for norm in layer.norms)
    teacher = copy.deepcopy(net)
    assert len(list(teacher.parameters())) == count
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in net.parameters()}


def test_shared_affine_sums_the_gradients_of_its_domains():
    net = nn.Sequential(nn.BatchNorm1d(4))
    csn = split(net, 2)
    batches, grads = [torch.randn(8, 4), torch.randn(8, 4) + 3], []
    for chosen in ((0,), (1,), (0, 1)):
        net.zero_grad()
        for domain in chosen:
            with csn.scope(domain):
                net(batches[domain]).exp().sum().backward()
        grads.append(next(net.parameters()).grad)
    torch.testing.assert_close(grads[2], grads[0] + grads[1])


def test_affine_per_domain_learns_apart():
    net = deep()
    plain = copy.deepcopy(net)
    csn = split(net, 3, affine="per_domain")
    layer = net[2]
    assert len({id(norm.weight) for norm in layer.norms}) == len({id(norm.bias) for norm in layer.norms}) == 3
    assert all(torch.equal(norm.weight, plain[2].weight) for norm in layer.norms)
    with csn.scope(1):
        net(torch.randn(8, 4)).square().sum().backward()
    assert layer.norms[1].weight.grad is not None
    assert layer.norms[0].weight.grad is None
    assert layer.norms[2].weight.grad is None


@pytest.mark.parametrize("affine", ["shared", "per_domain"])
def test_layers_without_gain_and_statistics_work_too(affine):
    net = nn.Sequential(nn.BatchNorm1d(3, affine=False), nn.BatchNorm1d(3, track_running_stats=False))
    csn = split(net, 2, affine)
    with csn.scope(1):
        assert net(torch.randn(9, 3) + 4).mean().abs() < 1e-5


def test_a_network_without_batch_norm_is_refused():
    with pytest.raises(ValueError, match="no BatchNorm layer"):
        split(nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.GroupNorm(1, 3)), 2)


def test_a_misspelt_affine_is_refused():
    with pytest.raises(ValueError, match=r"csn\.affine must be one of \['shared', 'per_domain'\]"):
        CSN("each")


def test_adapted_statistics_undo_a_channelwise_gain_and_offset():
    """AdaBN's claim: another sensor's gain and offset vanish in the statistics, so logits are the source's."""
    net = nn.Sequential(
        nn.BatchNorm1d(4, eps=1e-12, momentum=1.0), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)
    ).double()
    nn.init.normal_(net[0].weight)
    csn = split(net, 2)
    source = torch.randn(64, 4, dtype=torch.double) * 2 + 1
    gain, offset = torch.tensor([0.01, 5.0, 1.0, 300.0]).double(), torch.tensor([7.0, -3.0, 0.0, 1e4]).double()
    target = source * gain + offset
    with csn.scope(0):
        expected = net(source)
    with csn.scope(1):
        torch.testing.assert_close(net(target), expected, atol=1e-8, rtol=1e-8)
    net.eval()
    with csn.scope(0):
        expected, unadapted = net(source), net(target)
    with csn.scope(1):
        torch.testing.assert_close(net(target), expected, atol=1e-8, rtol=1e-8)
    assert not torch.allclose(unadapted, expected, atol=0.1)


def test_training_must_show_it_the_target():
    """A domain never looked at would be normalised by statistics that were only copied."""
    assert CSN.needs_target
