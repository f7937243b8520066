"""ADDA: source-only first, a copy that is taken once and stays, a critic of its own, and target features that move."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from adversaries import gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.adda import ADDA, invert, tell_apart
from eo_adapt.align.csn import CSN
from eo_adapt.align.stack import Stack


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


class Net(nn.Module):
    """(features, logits); the norm and the dropout tell train from eval mode."""

    def __init__(self, maps: bool = False):
        super().__init__()
        kind, norm = (nn.Conv2d, nn.BatchNorm2d) if maps else (nn.Linear, nn.BatchNorm1d)
        ends = (1,) if maps else ()
        self.encoder = nn.Sequential(kind(3, 8, *ends), norm(8), nn.Dropout(0.5), kind(8, 4, *ends))
        self.head = kind(4, 2, *ends)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


class Run:
    """A network and the method in somebody's loop."""

    def __init__(self, align=None, sources: int = 1, targets: int = 1, maps: bool = False, **options):
        self.net, self.align = Net(maps), align or ADDA(**({"hidden": 16} | options))
        self.sources = sources
        self.align.attach(self.net, Setup(4, sources, targets))
        self.entered: list[int] = []

    @contextmanager
    def scope(self, domain: int):
        self.entered.append(domain)
        with self.align.scope(domain):
            yield

    def view(self, x: Tensor, domain: int) -> View:
        with self.align.scope(domain):
            return View(*self.net(x), x, domain)

    def term(self, xs: list[Tensor], progress: float = 1.0) -> Tensor:
        return self.of([self.view(x, i) for i, x in enumerate(xs)], progress)

    def of(self, views: list[View], progress: float = 1.0) -> Tensor:
        step = Step(self.net, nn.CrossEntropyLoss(), self.scope, progress)
        (term,) = self.align(tuple(views[: self.sources]), tuple(views[self.sources :]), step).values()
        return term

    def move(self) -> None:
        """What an optimiser does."""
        with torch.no_grad():
            for p in self.net.parameters():
                p.add_(0.1 * torch.randn_like(p))

    def copied(self) -> list[Tensor]:
        return list(self.align.frozen.network.state_dict().values())


def same(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(ours, theirs, strict=True))


def snapshot(net: nn.Module) -> list[Tensor]:
    return [x.clone() for x in net.state_dict().values()]


def pair(n: int = 6, m: int = 9) -> list[Tensor]:
    return [torch.randn(n, 3), torch.randn(m, 3) + 1]


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=1, max_size=2))
def test_cross_entropies_equal_numpy(sources, targets):
    real, fake = ([3 * torch.randn(n, 1) for n in side] for side in (sources, targets))

    def sure(x: Tensor) -> np.ndarray:
        return 1 / (1 + np.exp(-x.double().numpy()))

    kept = [-np.log(sure(x)).mean() for x in real], [-np.log(1 - sure(x)).mean() for x in fake]
    expected = np.mean([np.mean(side) for side in kept])
    assert tell_apart(lambda x: x, real, fake).item() == pytest.approx(expected, rel=1e-4)
    assert invert(fake[0]).item() == pytest.approx(-np.log(sure(fake[0])).mean(), rel=1e-4)


def test_terms_of_a_critic_that_knows_nothing_and_one_that_is_sure():
    unsure, sure = torch.zeros(5, 1), torch.full((5, 1), 200.0)
    assert tell_apart(lambda x: x, [unsure], [unsure]).item() == pytest.approx(np.log(2))
    assert tell_apart(lambda x: x, [sure], [-sure]).item() == 0
    assert invert(-sure).item() == pytest.approx(200), "the inverted label must not saturate where the critic has won"


def test_before_the_start_nothing_moves_and_nothing_is_kept():
    run = Run(start=0.3)
    frozen, critic = run.copied(), snapshot(run.align.critic)
    for progress in (0.0, 0.29):
        term = run.term(pair(), progress)
        assert term.item() == 0
        grads = torch.autograd.grad(term, list(run.net.encoder.parameters()))
        assert not any(grad.any() for grad in grads)
        run.move()
        run.align.after_step(run.net)
    assert same(run.copied(), frozen)
    assert same(snapshot(run.align.critic), critic)
    assert not run.entered, "the copy was asked before there was any"
    assert not run.align._started


def test_the_copy_is_the_network_at_the_first_step_after_the_start_and_stays():
    run = Run(start=0.5)
    run.move()
    then, attached = None, run.copied()
    for number in range(4):
        views = [run.view(x, i) for i, x in enumerate(pair())]
        then = then or snapshot(run.net)
        assert same(run.copied(), attached if number == 0 else then)
        run.of(views, 0.5 + number / 10)
        run.move()
        run.align.after_step(run.net)
        assert run.align._started
        assert not run.align._first, "a second copy of the network stays in memory"
        assert same(run.copied(), then)
    assert not same(run.copied(), snapshot(run.net))


def test_with_accumulation_the_copy_is_of_before_the_step():
    run, data = Run(), pair()
    views = [run.view(x, i) for i, x in enumerate(data)]
    then = snapshot(run.net)
    run.of(views)
    run.term(data)
    run.align.after_step(run.net)
    assert same(run.copied(), then)


def test_the_critic_hears_frozen_source_and_moving_target_features():
    """At the first step, before the copy is written, and at later ones; in eval mode, while the network trains."""
    run, data = Run(), pair()
    for number in range(3):
        views = [run.view(x, i) for i, x in enumerate(data)]
        run.of(views)
        ((real,), (fake,)) = run.align.critic._collected[0]
        if number == 0:
            run.net.eval()
            frozen = run.net(data[0])[0].detach()
            run.net.train()
        torch.testing.assert_close(real, frozen)
        assert torch.equal(fake, views[1].features)
        assert not fake.requires_grad
        run.move()
        run.align.after_step(run.net)
    assert run.entered == [0, 0, 0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_copy_never_trains(wrapped):
    adda = ADDA(hidden=16)
    run = Run(Stack({"adda": adda}) if wrapped else adda)
    assert not adda.frozen.network.training
    run.align.eval()
    run.align.train()
    assert adda.critic.training
    assert not any(module.training for module in adda.frozen.modules())
    assert not any(p.requires_grad for p in adda.frozen.parameters())
    before = snapshot(adda.frozen)
    run.term(pair())
    assert same(snapshot(adda.frozen), before)


def test_a_copy_of_a_network_with_norms_per_domain_follows_the_scope():
    adda = ADDA(hidden=16)
    run = Run(Stack({"csn": CSN(), "adda": adda}), sources=2)
    for _ in range(2):
        run.term([torch.randn(5, 3), torch.randn(6, 3) + 4, torch.randn(7, 3)])
        run.align.after_step(run.net)
    assert run.entered == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="put csn before adda"):
        Stack({"adda": ADDA(), "csn": CSN()})


def test_the_term_moves_target_features_towards_what_the_critic_calls_source():
    run = Run(lr=0.01)
    s, t = torch.randn(32, 4, requires_grad=True), (torch.randn(32, 4) + 2).requires_grad_()
    views = [View(x, x, torch.randn(32, 3), i) for i, x in enumerate((s, t))]
    for _ in range(20):
        run.of(views)
        run.align.after_step(run.net)
    to_s, to_t = torch.autograd.grad(run.of(views), [s, t], allow_unused=True)
    assert to_s is None
    critic = run.align.critic
    assert (critic(t - 10 * to_t) - critic(t)).mean() > 0.1
    assert all(p.grad is None for p in (*run.net.parameters(), *run.align.parameters()))


def test_domains_count_alike():
    run = Run(sources=2, targets=2)
    views = [View(x, x, torch.randn(5, 3), i) for i, x in enumerate(torch.randn(n, 4) + n for n in (5, 5, 2, 30))]
    expected = torch.stack([invert(run.align.critic(v.features)) for v in views[2:]]).mean()
    torch.testing.assert_close(run.of(views), expected)


def test_micro_batches_make_one_critic_step_on_the_joint_batch():
    joint, parts = Run(), Run()
    parts.net.load_state_dict(joint.net.state_dict())
    parts.align.load_state_dict(joint.align.state_dict())
    (s, t), (u, v) = pair(5, 4), pair(2, 8)
    for run, batches in ((joint, [[torch.cat([s, u]), torch.cat([t, v])]]), (parts, [[s, t], [u, v]])):
        run.net.eval()  # the same features for a row whatever batch it is in
        for batch in batches:
            run.term(batch)
        run.align.after_step(run.net)
        assert run.align.critic.count == 1
    for ours, theirs in zip(snapshot(joint.align.critic), snapshot(parts.align.critic), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_critic_learns_separable_domains():
    run = Run(lr=0.01)
    for _ in range(200):
        views = [View(f, f, torch.randn(32, 3), i) for i, f in enumerate((torch.zeros(32, 4), torch.randn(32, 4) + 6))]
        run.of(views)  # the source's features are the copy's, of random inputs: near 0
        run.align.after_step(run.net)
    assert run.align.monitors()["critic_accuracy"] > 0.95
    assert run.of(views) > 3, "the critic is sure, so the wrong label costs"


def test_maps_are_judged_cell_by_cell():
    run = Run(maps=True)
    run.net.eval()
    xs = [torch.randn(2, 3, 4, 5), torch.randn(3, 3, 2, 2)]
    rows = run.net(xs[1])[0].permute(0, 2, 3, 1).reshape(-1, 4)
    torch.testing.assert_close(run.term(xs), invert(run.align.critic(rows)))
    assert [len(x) for side in run.align.critic._collected[0] for x in side] == [40, 12]
    run.align.after_step(run.net)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_batches_are_finite(dtype):
    for x in (torch.randn(6, 4) + 1e3, torch.ones(6, 4), torch.zeros(6, 4)):
        run, f = Run(), x.to(dtype).requires_grad_()
        for _ in range(2):
            term = run.of([View(f, f, torch.randn(6, 3, dtype=dtype), i) for i in range(2)])
            assert term.dtype == torch.float32
            assert torch.autograd.grad(term, f)[0].isfinite().all()
            run.align.after_step(run.net)
        assert all(x.isfinite().all() for x in snapshot(run.align.critic))


def test_missing_numbers_are_refused():
    run, f = Run(), torch.randn(6, 4)
    f[2, 1] = float("nan")
    with pytest.raises(ValueError, match="feature rows with NaN or infinite numbers: 1 of 6 in target 0"):
        run.of([View(x, x, torch.randn(6, 3), i) for i, x in enumerate((torch.randn(6, 4), f))])


@pytest.mark.parametrize(
    "options", [{"start": 1.0}, {"start": -0.1}, {"steps": 0}, {"lr": 0.0}, {"hidden": 0}, {"weight": -1.0}]
)
def test_wrong_options_are_refused_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ADDA(**options)


def test_without_a_target_there_is_nobody_to_move():
    with pytest.raises(ValueError, match="needs a target domain"):
        ADDA().attach(nn.Identity(), Setup(4, targets=0))


def test_helps_where_only_one_feature_is_shifted():
    assert gain(lambda: ADDA(hidden=32, steps=5))[0] > 0.1
