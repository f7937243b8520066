"""AdaBN in somebody else's plain torch loop, which calls ``model.eval()`` and never ``align.eval()``."""

from __future__ import annotations

import copy

import pytest
import torch
from sensors import Net, samples
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import DomainNorm
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.stack import Stack


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def fit(net: nn.Module, align: AdaBN | None = None, steps: int = 80) -> nn.Module:
    """A loop that knows ``scope`` and nothing else of the method."""
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    net.train()
    for number in range(steps):
        torch.manual_seed(number)
        x, y = samples(120)
        if align is None:
            logits = net(x)[1]
        else:
            with align.scope(0):
                logits = net(x)[1]
        optimiser.zero_grad()
        F.cross_entropy(logits, y).backward()
        optimiser.step()
    return net.eval()


def attached(net: nn.Module | None = None, targets: int = 1) -> tuple[nn.Module, AdaBN]:
    net, align = net or Net(), AdaBN()
    align.attach(net, Setup(8, 1, targets, 3))
    return net, align


def look(net: nn.Module, align: AdaBN, x: Tensor, domain: int) -> Tensor:
    with torch.no_grad(), align.scope(domain):
        return net(x)[1]


def by_hand(net: nn.Module, batches: list[Tensor]) -> nn.Module:
    """A plain network with each batch norm's statistics of a pass in which it and all before it see the batch alone."""
    plain = copy.deepcopy(net)
    norms = [m for m in plain.modules() if isinstance(m, nn.BatchNorm1d)]
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}
    hooks = [norm.register_forward_pre_hook(lambda m, given: seen[m].append(given[0])) for norm in norms]
    plain.train()
    with torch.no_grad():
        for x in batches:
            plain(x)
        for hook in hooks:
            hook.remove()
        for norm in norms:
            norm.running_mean.copy_(torch.stack([x.double().mean(0) for x in seen[norm]]).mean(0))
            norm.running_var.copy_(torch.stack([x.double().var(0) for x in seen[norm]]).mean(0))
    return plain.eval()


def test_a_loop_without_align_eval_trains_as_the_source_and_predicts_as_the_target() -> None:
    start = Net()
    theirs = fit(copy.deepcopy(start))
    net, align = attached(copy.deepcopy(start))
    fit(net, align)
    assert align.training, "the point of this test"
    assert all(torch.equal(a, b) for a, b in zip(theirs.parameters(), net.parameters(), strict=True))
    x, y = samples(300, shifted=True)
    batches = [x[:150], x[150:]]
    align.settle(net, {}, {1: batches})
    expected = by_hand(theirs, batches)(x)[1]
    torch.testing.assert_close(look(net, align, x, 1), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(align.export(net, 1)(x)[1], expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(look(net, align, x, 0), theirs(x)[1])
    hits = [(logits.argmax(1) == y).float().mean() for logits in (theirs(x)[1], look(net, align, x, 1))]
    assert hits[1] > hits[0] + 0.2


def test_the_modes_at_the_forward_pass_count() -> None:
    net, align = attached()
    fit(net, align, 5)
    x = samples(60, shifted=True)[0]
    align.settle(net, {}, {1: [x]})
    own, source = look(net, align, x, 1), look(net, align, x, 0)
    assert not torch.allclose(own, source, atol=0.1)
    net.train()
    with align.scope(1):  # entered in train mode
        net.eval()
        assert torch.equal(net(x)[1], own)
    align.eval()
    assert torch.equal(look(net, align, x, 1), own)
    align.train(), net.train()
    before = [norm.norms[1].running_mean.clone() for norm in net.modules() if isinstance(norm, DomainNorm)]
    look(net, align, x, 1)  # a training pass over the target, as beside other methods: the pooled statistics move
    after = [norm.norms[1].running_mean for norm in net.modules() if isinstance(norm, DomainNorm)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(look(net.eval(), align, x, 0), source)


def test_a_copy_of_both_follows_its_own_network() -> None:
    net, align = attached()
    x = samples(60, shifted=True)[0]
    align.settle(net, {}, {1: [x]})
    both = copy.deepcopy(nn.ModuleDict({"net": net, "align": align}))
    net.train()
    both.eval()
    both["align"].train()
    assert torch.equal(look(both["net"], both["align"], x, 1), look(net.eval(), align, x, 1))


def test_a_target_that_was_not_settled_is_refused_and_not_answered_by_the_source() -> None:
    net, align = attached(targets=2)
    fit(net, align, 3)
    x = samples(60)[0]
    align.settle(net, {}, {1: [x]})
    look(net, align, x, 1)
    said = (
        r"not measured the statistics of domain 2 yet: call alignment\.settle\(model, \{\}, \{2: batches of its inputs"
    )
    with pytest.raises(RuntimeError, match=said):
        look(net, align, x, 2)
    with pytest.raises(RuntimeError, match=said):
        align.export(net, 2)
    align.settle(net, {}, {2: [x]})
    look(net, align, x, 2)


def test_in_a_stack_it_settles_first() -> None:
    for order in (("adabn", "label_shift"), ("label_shift", "adabn")):
        parts = {"adabn": AdaBN(), "label_shift": LabelShift()}
        net, stack = Net(), Stack({name: parts[name] for name in order})
        stack.attach(net, Setup(8, 1, 1, 3))
        samples_of = {0: [samples(60)]}, {1: [samples(60, shifted=True)[0]]}
        net.eval()
        if order[0] == "adabn":
            stack.settle(net, *samples_of)
        else:
            with pytest.raises(RuntimeError, match="in a stack, adabn comes before what settles, too"):
                stack.settle(net, *samples_of)


def state(net: nn.Module, align: AdaBN) -> list[Tensor]:
    return [x.clone() for x in (*net.state_dict().values(), *align.state_dict().values())]


@pytest.mark.parametrize("settled", [False, True])
def test_a_pass_that_fails_leaves_everything_as_it_was(settled: bool) -> None:
    net, align = attached()
    x, bad = samples(60, shifted=True)[0], samples(60, shifted=True)[0]
    bad[7, 2] = torch.nan
    if settled:
        align.settle(net, {}, {1: [x]})
    before = state(net, align)
    used_up = iter([])
    for batches, said in (
        ([], "no batch of domain 1; give at least one"),
        (used_up, "a generator that was used up gives none"),
        ([x, bad, x], "batch 2 of domain 1 makes batch-norm statistics NaN or infinite"),
        ([x * torch.inf], "batch 1 of domain 1 makes batch-norm statistics NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=said):
            align.settle(net, {}, {1: batches})
        assert all(torch.equal(a, b) for a, b in zip(before, state(net, align), strict=True))
        assert not [norm for norm in net.modules() if isinstance(norm, nn.BatchNorm1d) and norm.momentum != 0.1]
        assert all(layer.training for layer in net.modules())
    with pytest.raises(ValueError, match=r"no target; give \{number of the target: batches of its inputs\}"):
        align.settle(net, {}, {})
    with pytest.raises(ValueError, match="this one's batch norms are plain"):
        align.settle(Net(), {}, {1: [x]})


def test_settling_asks_for_no_mode_and_leaves_no_graph() -> None:
    class Dropped(Net):
        def __init__(self):
            super().__init__()
            self.encoder.insert(0, nn.Dropout(0.5))
            self.encoder[2].eval()  # somebody keeps this one in eval mode

    found = []
    for mode in (True, False):
        torch.manual_seed(1)
        net, align = attached(Dropped())
        net.train(mode)
        net.encoder[2].eval()
        modes = [layer.training for layer in net.modules()]
        align.settle(net, {}, {1: [samples(60, shifted=True)[0]]})
        assert [layer.training for layer in net.modules()] == modes
        found.append(net.encoder[2].norms[1].running_mean)
        assert found[-1].grad_fn is None
    assert torch.equal(*found), "dropout acted"
