"""CSN where blocks run again in the backward pass, to save memory: outside of the scope, maybe in another thread."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch
from sensors import CLASSES, samples
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eo_adapt.align import Alignment, Setup, csn
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN

pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")  # a pass without gradients
both_ways = pytest.mark.parametrize("reentrant", [True, False])


class Checkpointed(nn.Module):
    """(features, logits); ``keep`` says how the block is handed to ``checkpoint``, None = no checkpointing."""

    def __init__(self, reentrant: bool, keep: Callable[[nn.Module], Callable[..., Tensor]] | None):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.block = nn.Sequential(nn.BatchNorm1d(8, momentum=None), nn.Tanh(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        self.head = nn.Linear(8, CLASSES)
        self.reentrant, self.keep = reentrant, keep

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(x)
        features = checkpoint(self.keep(self.block), x, use_reentrant=self.reentrant) if self.keep else self.block(x)
        return features, self.head(features)


def as_is(block: nn.Module) -> nn.Module:
    return block


def made(keep: Callable | None, reentrant: bool, align: Alignment | None = None) -> tuple[nn.Module, Alignment]:
    torch.manual_seed(0)
    net, align = Checkpointed(reentrant, keep), align or CSN("per_domain")
    align.attach(net, Setup(8, 1, 1, CLASSES))
    return net, align


def loss_of(net: nn.Module, align: Alignment) -> Tensor:
    """One step over both domains, one backward pass to come."""
    torch.manual_seed(1)
    total = torch.zeros(())
    for domain in (0, 1):
        with align.scope(domain):
            total = total + net(samples(30, shifted=domain == 1)[0])[1].exp().mean()
    return total


def gradients(net: nn.Module) -> list[Tensor]:
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in net.parameters()]


def in_a_thread(call: Callable[[], None]) -> None:
    """As autograd does for an accelerator; context variables of the caller are not seen there."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            call()
        except RuntimeError as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


@both_ways
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("run", [lambda call: call(), in_a_thread], ids=["here", "in a thread"])
@pytest.mark.parametrize("kind", [lambda: CSN("per_domain"), AdaBN], ids=["csn", "adabn"])
def test_gradients_are_those_without_checkpointing(reentrant, training, run, kind):
    plain, checked = made(None, reentrant, kind()), made(csn.in_this_scope, reentrant, kind())
    if kind is AdaBN:
        x = samples(90, shifted=True)[0]
        for net, align in (plain, checked):
            align.settle(net, {}, {1: [x]})
    for net, align in (plain, checked):
        net.train(training)
        run(loss_of(net, align).backward)
    for ours, theirs in zip(gradients(checked[0]), gradients(plain[0]), strict=True):
        torch.testing.assert_close(ours, theirs)
    # Running again counts a batch twice, as in any batch norm that is checkpointed; domains are not mixed.
    for name, ours in checked[0].state_dict().items():
        theirs = plain[0].state_dict()[name]
        if "norms" in name and "running" in name and "block.0" in name:  # a plain mean: twice changes nothing
            torch.testing.assert_close(ours, theirs)


@both_ways
@pytest.mark.parametrize("run", [lambda call: call(), in_a_thread], ids=["here", "in a thread"])
def test_without_it_the_message_names_checkpointing_and_what_to_do(reentrant, run):
    net, align = made(as_is, reentrant)
    with pytest.raises(RuntimeError, match=r"activation checkpointing.*`checkpoint\(csn\.in_this_scope\(block\), x\)`"):
        run(loss_of(net, align).backward)


@both_ways
def test_a_scope_around_backward_does_not_lead_astray(reentrant):
    """What it does to a block handed over as it is: the source's batch would enter the target's statistics."""
    found = []
    for keep in (None, csn.in_this_scope, as_is):
        net, align = made(keep, reentrant)
        loss = loss_of(net, align)
        with align.scope(1):
            loss.backward()
        found.append([norm.running_mean for norm in net.block[0].norms])
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs)
    assert not torch.allclose(found[2][1], found[0][1], atol=0.1)


@both_ways
def test_a_network_that_is_not_split_needs_no_scope(reentrant):
    torch.manual_seed(0)
    net = Checkpointed(reentrant, csn.in_this_scope)
    twin = copy.deepcopy(net)
    twin.keep = None
    x = torch.randn(9, 4)
    for each in (net, twin):
        each(x)[1].exp().mean().backward()
    assert all(torch.equal(a, b) for a, b in zip(gradients(net), gradients(twin), strict=True))
    assert csn.in_this_scope(net.block) is net.block


def test_it_leaves_the_scope_as_it_was_and_takes_all_arguments():
    layer = csn.replace_bn_with_csn(nn.BatchNorm1d(2))

    def block(x: Tensor, factor: float = 1.0) -> tuple[Tensor, int]:
        return layer(x) * factor, layer.active()

    with csn.scope("source"):
        kept = csn.in_this_scope(block)
    with csn.scope("target"):
        out, domain = kept(torch.randn(5, 2), factor=0.0)
        assert layer.active() == 1
    assert domain == 0
    assert not out.any()
    with pytest.raises(RuntimeError, match="scope"):
        layer.active()
