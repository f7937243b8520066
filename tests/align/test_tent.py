"""Tent: what it changes at test time, what it leaves alone, and when it had better not adapt."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Alignment, Setup
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.csn import CSN
from eo_adapt.align.entropy import entropies
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.stack import Stack
from eo_adapt.align.tent import Tent

CLASSES = 3


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Net(nn.Module):
    def __init__(self, maps: bool = False):
        super().__init__()
        layer, norm = (conv, nn.BatchNorm2d) if maps else (nn.Linear, nn.BatchNorm1d)
        self.encoder = nn.Sequential(layer(4, 16), norm(16), nn.ReLU(), layer(16, 8), norm(8), nn.ReLU())
        self.head = layer(8, CLASSES)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def conv(width: int, out: int) -> nn.Module:
    return nn.Conv2d(width, out, 1)


CENTRES = 1.5 * torch.eye(CLASSES, 4)


def samples(n: int, shifted: bool = False) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    x = CENTRES[labels] + 0.4 * torch.randn(n, 4)
    if shifted:  # another sensor: mixed bands, a gain and an offset
        x = (x + 0.45 * x.roll(1, 1)) * torch.tensor([3.0, 0.4, 1.5, 1.0]) + torch.tensor([1.0, -2.0, 0.5, 3.0])
    return x, labels


def trained(align: Alignment | None = None, sources: int = 1, targets: int = 1) -> tuple[Net, Alignment]:
    """A network fitted to the source; the target passes, too, where the method keeps statistics of it."""
    net, align = Net(), align or Tent()
    align.attach(net, Setup(8, sources, targets, CLASSES))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(80):
        x, y = samples(120)
        with align.scope(0):
            loss = F.cross_entropy(net(x)[1], y)
        if align.needs_target:
            with torch.no_grad(), align.scope(1):
                net(samples(120, shifted=True)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    align.eval()
    return net, align


def answers(net: nn.Module, align: Alignment, x: Tensor, domain: int) -> Tensor:
    with align.scope(domain):
        return align.predict(net, x).detach()


def accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def frozen(*modules: nn.Module) -> list[Tensor]:
    return [x.clone() for module in modules for x in module.state_dict().values()]


def test_it_helps_on_another_sensor():
    gains = []
    for seed in range(3):
        torch.manual_seed(seed)
        net, tent = trained(Tent(lr=0.01))
        stream = [samples(120, shifted=True) for _ in range(8)]
        before = [accuracy(net(x)[1], y) for x, y in stream]
        after = [accuracy(answers(net, tent, x, 1), y) for x, y in stream]
        gains.append(sum(after) / 8 - sum(before) / 8)
    assert min(gains) > 0.1, gains


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


def test_maps_adapt_by_their_pixels():
    net, tent = Net(maps=True).eval(), Tent(confident=1.0)
    tent.attach(net, Setup(8, 1, 1, CLASSES))
    x = torch.randn(1, 4, 6, 6) + 2
    out = answers(net, tent, x, 1)
    assert out.shape == (1, CLASSES, 6, 6)
    assert tent._counts[0].tolist() == [1, 1]


def test_under_no_grad_it_adapts_all_the_same():
    net, tent = trained()
    with torch.no_grad():
        answers(net, tent, samples(60, shifted=True)[0], 1)
    assert tent._counts[0].tolist() == [1, 1]


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
