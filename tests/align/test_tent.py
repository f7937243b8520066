"""Tent: what it changes at test time, what it leaves alone, and when it had better not adapt."""

import copy

import pytest
import torch
from intervals import gain_over
from sensors import CLASSES, Net, answers, frozen, samples, trained
from torch import Tensor, nn

from eo_adapt.align import Setup
from eo_adapt.align.entropy import entropies
from eo_adapt.align.tent import Tent


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def test_it_helps_on_another_sensor():
    plain, ours = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        net, tent = trained(Tent(lr=0.01))
        stream = [samples(120, shifted=True) for _ in range(8)]
        before = [accuracy(net(x)[1], y) for x, y in stream]
        after = [accuracy(answers(net, tent, x, 1), y) for x, y in stream]
        plain.append(sum(before) / 8)
        ours.append(sum(after) / 8)
    assert gain_over(plain, ours)[0] > 0.05


def test_steps_lower_the_entropy_of_what_is_seen_again_and_again():
    net, tent = trained(Tent(lr=0.01, confident=1.0))
    x = samples(120, shifted=True)[0]
    values = [entropies(answers(net, tent, x, 1)).mean().item() for _ in range(15)]
    assert values[-1] < 0.8 * values[0]
    assert values[-1] < values[7] < values[0]


def by_hand(net: Net, x: Tensor, lr: float) -> Tensor:
    """One Adam step of the paper on a copy of the network, answered with the batch's running statistics."""
    twin = copy.deepcopy(net)
    norms = [layer for layer in twin.modules() if isinstance(layer, nn.BatchNorm1d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    optimiser = torch.optim.Adam([p for norm in norms for p in norm.parameters()], lr)
    logp = twin(x)[1].log_softmax(1)
    (-(logp.exp() * logp).sum(1).mean()).backward()
    optimiser.step()
    return twin.eval()(x)[1].detach()


def test_one_batch_equals_torchs_adam_on_a_copy():
    net, tent = trained(Tent(lr=0.03, confident=1.0, collapse=0.0))
    x = samples(60, shifted=True)[0]
    expected = by_hand(net, x, 0.03)
    torch.testing.assert_close(answers(net, tent, x, 1), expected, rtol=1e-4, atol=1e-5)


def test_several_batches_equal_torchs_adam_and_the_mean_of_their_statistics():
    net, tent = trained(Tent(lr=0.02, confident=1.0, collapse=0.0))
    batches = [samples(60, shifted=True)[0] + i for i in range(4)]
    ours = [answers(net, tent, x, 1) for x in batches]
    twin = copy.deepcopy(net)
    norms = [layer for layer in twin.modules() if isinstance(layer, nn.BatchNorm1d)]
    optimiser = torch.optim.Adam([p for norm in norms for p in norm.parameters()], 0.02)
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean
    for x, mine in zip(batches, ours, strict=True):
        for norm in norms:
            norm.train()
        optimiser.zero_grad()
        entropies(twin(x)[1]).mean().backward()
        optimiser.step()
        torch.testing.assert_close(mine, twin.eval()(x)[1].detach(), rtol=1e-3, atol=1e-4)


def test_the_network_and_its_sources_and_other_targets_stay_as_they_are():
    net, tent = trained(targets=2)
    x, small = samples(50)[0], samples(5)[0]
    before, kept = frozen(net), [answers(net, tent, x, 0), answers(net, tent, small, 2)]
    for _ in range(3):
        answers(net, tent, samples(64, shifted=True)[0], 1)
    assert tent._counts.tolist() == [[3, 3], [0, 0]]
    assert all(torch.equal(a, b) for a, b in zip(before, frozen(net), strict=True))
    assert not any(layer.training for layer in net.modules())
    assert torch.equal(answers(net, tent, x, 0), kept[0])
    assert torch.equal(answers(net, tent, small, 2), kept[1])


def test_no_gradients_are_left_behind():
    net, tent = trained()
    net.zero_grad()
    answers(net, tent, samples(64, shifted=True)[0], 1)
    assert all(p.grad is None for p in net.parameters())


def test_a_small_batch_is_predicted_and_not_learnt_from():
    net, tent = trained(Tent(min_batch=20))
    x = samples(19, shifted=True)[0]
    assert torch.equal(answers(net, tent, x, 1), net(x)[1])
    answers(net, tent, samples(60, shifted=True)[0], 1)
    state = frozen(tent)
    small = answers(net, tent, x, 1)
    assert all(torch.equal(a, b) for a, b in zip(state, frozen(tent), strict=True))
    assert not torch.allclose(small, net(x)[1]), "what was learnt before is not used"
    one = answers(net, tent, x[:1], 1)
    torch.testing.assert_close(one, small[:1])  # an answer does not depend on the rest of its batch


def test_only_confident_samples_count():
    net, tent = trained(Tent(confident=1e-6))
    answers(net, tent, samples(60, shifted=True)[0], 1)
    assert tent._counts[0].tolist() == [1, 0]  # statistics of a batch, no step
    layers = [m for m in net.modules() if isinstance(m, nn.BatchNorm1d)]
    assert torch.equal(tent._state[0, 0], torch.cat([m.weight for m in layers]))
    assert not torch.equal(tent._state[0, 2], torch.cat([m.running_mean for m in layers]))


def test_a_collapse_starts_anew_and_answers_as_the_network_does(monkeypatch):
    def collapse(self, grad, target):  # gains of 0 and large shifts: one answer to everything
        self._state[target, 0], self._state[target, 1] = 0, 50

    monkeypatch.setattr(Tent, "_descend", collapse)
    x = samples(60)[0]
    for guard, guarded in ((0.0, False), (0.5, True)):
        net, tent = trained(Tent(collapse=guard))
        plain, out = net(x)[1].detach(), answers(net, tent, x, 1)
        assert torch.equal(out, plain) is guarded
        assert (len(out.argmax(1).unique()) == 1) is not guarded
        assert bool(tent._counts.any()) is not guarded


def test_episodic_forgets():
    net, tent = trained(Tent(lr=0.05, episodic=True))
    x = samples(60, shifted=True)[0]
    first = answers(net, tent, x, 1)
    answers(net, tent, samples(60, shifted=True)[0] * 2, 1)
    assert torch.equal(answers(net, tent, x, 1), first)
    with pytest.raises(ValueError, match="no one network to export"):
        tent.export(net, 1)
    net, tent = trained(Tent(lr=0.05))
    first = answers(net, tent, x, 1)
    assert not torch.equal(answers(net, tent, x, 1), first)
    tent.reset()
    torch.testing.assert_close(answers(net, tent, x, 1), first)


def test_maps_adapt_by_their_pixels():
    net, tent = Net(maps=True).eval(), Tent(confident=1.0)
    tent.attach(net, Setup(8, 1, 1, CLASSES))
    x = torch.randn(1, 4, 6, 6) + 2
    out = answers(net, tent, x, 1)
    assert out.shape == (1, CLASSES, 6, 6)
    assert tent._counts[0].tolist() == [1, 1]


class Pooled(nn.Module):
    """A map whose deepest layer has a single cell."""

    def __init__(self):
        super().__init__()
        self.mix, self.norm = nn.Conv2d(4, CLASSES, 1), nn.BatchNorm2d(CLASSES)

    def forward(self, x):
        cell = self.norm(self.mix(x).mean((2, 3), keepdim=True))
        return cell, cell.expand(-1, -1, *x.shape[2:])


def test_one_image_with_a_single_cell_has_no_statistics():
    net, tent = Pooled().eval(), Tent(confident=1.0)
    tent.attach(net, Setup(CLASSES, 1, 1, CLASSES))
    with pytest.raises(ValueError, match=r"single value a channel .*at least 2 samples a batch"):
        answers(net, tent, torch.randn(1, 4, 6, 6), 1)
    assert answers(net, tent, torch.randn(2, 4, 6, 6), 1).shape == (2, CLASSES, 6, 6)


def test_under_no_grad_it_adapts_all_the_same():
    net, tent = trained()
    with torch.no_grad():
        answers(net, tent, samples(60, shifted=True)[0], 1)
    assert tent._counts[0].tolist() == [1, 1]


def test_outside_of_a_scope_it_asks_for_one():
    net, tent = trained()
    with pytest.raises(RuntimeError, match=r"Tent answers by domain .*alignment\.scope\(domain\)"):
        tent.predict(net, samples(60)[0])


def test_what_it_needs():
    with pytest.raises(ValueError, match="no BatchNorm layer with gain and shift"):
        Tent().attach(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False), nn.LayerNorm(2)), Setup(2))
    with pytest.raises(ValueError, match=r"shift\.targets is empty"):
        Tent().attach(Net(), Setup(8, 2, 0))


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"steps": 0}, {"min_batch": 1}, {"confident": 0.0}, {"confident": 1.1}, {"collapse": 1.0}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Tent(**options)
