"""DANN: which knob turns what, a critic that can learn, and domains that count alike."""

import copy
import io
import math
from contextlib import nullcontext

import pytest
import torch
from adversaries import gain
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.dann import DANN, ramp, reverse_gradient


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def step(progress: float = 1.0) -> Step:
    return Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), progress)


def view(features: Tensor, domain: int) -> View:
    return View(features, features, None, domain)


def attached(domains: int = 2, width: int = 4, **options) -> DANN:
    dann = DANN(hidden=16, **options)
    dann.attach(nn.Identity(), Setup(width, 1, domains - 1))
    return dann


def by_hand(dann: DANN, features: list[Tensor]) -> Tensor:
    """Mean over domains of the mean of -log p(domain), without reversal."""
    return sum(-dann.critic(x).log_softmax(1)[:, domain].mean() for domain, x in enumerate(features)) / len(features)


def gradients(dann: DANN, features: list[Tensor], progress: float = 1.0) -> tuple[list[Tensor], list[Tensor]]:
    """Of the weighted term: to the features, to the critic."""
    leaves = [x.clone().requires_grad_() for x in features]
    views = tuple(view(x, i) for i, x in enumerate(leaves))
    term = dann(views[:1], views[1:], step(progress))["domain"]
    grads = torch.autograd.grad(term, [*leaves, *dann.critic.parameters()])
    return list(grads[: len(leaves)]), list(grads[len(leaves) :])


def test_ramp_of_the_paper():
    assert ramp(0.0) == 0
    assert ramp(1.0) == pytest.approx(0.99991, abs=1e-5)
    assert ramp(0.1) == pytest.approx(0.46212, abs=1e-5)
    assert ramp(1 / 1000) < 0.05
    assert ramp(0.7, gamma=0.0) == 0


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.1, 50))
def test_ramp_never_falls_and_stays_in_the_unit_interval(p, q, gamma):
    low, high = sorted((p, q))
    assert 0 <= ramp(low, gamma) <= ramp(high, gamma) <= 1
    if high - low > 0.01 and gamma * high < 10:
        assert ramp(low, gamma) < ramp(high, gamma)


def test_reversal_is_the_identity_forward():
    x = torch.randn(3, 4, requires_grad=True)
    out = reverse_gradient(x, 0.3)
    assert torch.equal(out, x)
    (grad,) = torch.autograd.grad((out * torch.arange(4.0)).sum(), x)
    torch.testing.assert_close(grad, -0.3 * torch.arange(4.0).expand(3, 4))


@pytest.mark.parametrize("strength", [0.1, 1.0, 2.5])
def test_features_get_minus_strength_times_the_critics_gradient(strength):
    features = [torch.randn(6, 4), torch.randn(9, 4) + 1]
    dann = attached(strength=strength, gamma=1e4)  # ramp(1) = 1
    leaves = [x.clone().requires_grad_() for x in features]
    plain = torch.autograd.grad(by_hand(dann, leaves), leaves)
    reversed_, _ = gradients(dann, features)
    for ours, theirs in zip(reversed_, plain, strict=True):
        assert theirs.norm() > 0
        torch.testing.assert_close(ours, -strength * theirs)


def test_strength_and_progress_leave_the_critics_gradient_alone():
    features, dann = [torch.randn(6, 4), torch.randn(9, 4) + 1], attached(strength=1.0)
    _, reference = gradients(dann, features)
    plain = torch.autograd.grad(by_hand(dann, features), list(dann.critic.parameters()))
    torch.testing.assert_close(reference, list(plain))
    for strength, progress in ((0.0, 1.0), (5.0, 1.0), (1.0, 0.0)):
        dann.strength = strength
        torch.testing.assert_close(gradients(dann, features, progress)[1], reference)


def test_weight_scales_both_gradients():
    features, dann = [torch.randn(6, 4), torch.randn(9, 4) + 1], attached(weight=1.0)
    one = gradients(dann, features)
    dann.weight = 0.1
    for ours, theirs in zip(gradients(dann, features), one, strict=True):
        torch.testing.assert_close(ours, [0.1 * x for x in theirs])


def test_the_encoder_is_left_alone_at_the_start():
    features, _ = gradients(attached(), [torch.randn(6, 4), torch.randn(6, 4)], progress=0.0)
    assert all((grad == 0).all() for grad in features)


def test_every_domain_is_a_class_of_its_own():
    """Two sources and two targets of unequal size; the label is the view's domain and each domain counts alike."""
    features = [torch.randn(n, 4) + n for n in (3, 40, 7, 2)]
    dann = attached(domains=4)
    views = tuple(view(x, i) for i, x in enumerate(features))
    term = dann(views[:2], views[2:], step())["domain"]
    torch.testing.assert_close(term, by_hand(dann, features))
    torch.testing.assert_close(dann((views[1], views[0]), (views[3], views[2]), step())["domain"], term)


def test_repeating_a_domains_rows_changes_nothing():
    small, large, dann = torch.randn(5, 4), torch.randn(5, 4), attached()
    once = dann((view(small, 0),), (view(large, 1),), step())["domain"]
    many = dann((view(small, 0),), (view(large.repeat(30, 1), 1),), step())["domain"]
    torch.testing.assert_close(many, once)


def test_a_map_is_judged_cell_by_cell():
    maps, dann = [torch.randn(2, 4, 3, 5), torch.randn(3, 4, 2, 2)], attached()
    term = dann((view(maps[0], 0),), (view(maps[1], 1),), step())["domain"]
    torch.testing.assert_close(term, by_hand(dann, [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in maps]))


@pytest.mark.parametrize("domains", [2, 4])
def test_the_critic_learns_separable_domains_without_reversal(domains):
    centres = 3 * torch.eye(domains, 4)
    dann = attached(domains=domains, strength=0.0)
    optimiser = torch.optim.Adam(dann.parameters(), 0.01)
    for _ in range(200):
        views = tuple(view(torch.randn(16, 4) + c, i) for i, c in enumerate(2 * centres))
        optimiser.zero_grad()
        dann(views[:1], views[1:], step())["domain"].backward()
        optimiser.step()
    logits = [dann.critic(torch.randn(200, 4) + c) for c in 2 * centres]
    hits = torch.cat([x.argmax(1) == i for i, x in enumerate(logits)])
    assert hits.float().mean() > 0.95
    assert torch.cat(logits).softmax(1).std(0).min() > 0.1, "outputs are constant"
    assert dann(views[:1], views[1:], step())["domain"] < 0.1, "probabilities were taken for logits"


def test_an_untrained_critic_is_at_chance_and_its_outputs_vary():
    dann, x = attached(domains=3), torch.randn(64, 4)
    views = tuple(view(torch.randn(64, 4), i) for i in range(3))
    assert dann(views[:2], views[2:], step())["domain"].item() == pytest.approx(math.log(3), abs=0.1)
    assert dann.critic(x).softmax(1).std(0).min() > 1e-3


def test_the_reversed_step_makes_the_critics_task_harder():
    features, dann = [torch.randn(32, 4), torch.randn(32, 4) + 1], attached()
    optimiser = torch.optim.Adam(dann.parameters(), 0.01)
    for _ in range(50):
        optimiser.zero_grad()
        by_hand(dann, features).backward()
        optimiser.step()
    moved = [x - 0.5 * grad for x, grad in zip(features, gradients(dann, features)[0], strict=True)]
    assert by_hand(dann, moved) > by_hand(dann, features)


def test_state_survives_saving():
    dann, twin, file = attached(domains=3), attached(domains=3), io.BytesIO()
    views = tuple(view(torch.randn(5, 4), i) for i in range(3))
    term = dann(views[:1], views[1:], step())["domain"]
    assert twin(views[:1], views[1:], step())["domain"] != term
    torch.save(dann.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(views[:1], views[1:], step())["domain"], term)
    assert torch.equal(copy.deepcopy(dann)(views[:1], views[1:], step())["domain"], term)


@pytest.mark.parametrize("options", [{"strength": -1.0}, {"gamma": -0.1}, {"hidden": 0}, {"weight": -1.0}])
def test_wrong_options_are_refused_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        DANN(**options)


def test_without_a_target_there_is_nothing_to_tell_apart():
    with pytest.raises(ValueError, match="needs a target domain"):
        DANN().attach(nn.Identity(), Setup(4, targets=0))


def test_the_critic_lives_where_the_model_does():
    dann = DANN()
    dann.attach(nn.Linear(2, 2, device="meta"), Setup(4))
    assert {p.device.type for p in dann.critic.parameters()} == {"meta"}


def test_monitors_the_share_of_rows_whose_domain_the_critic_names():
    dann = attached(domains=3)
    assert dann.monitors() == {}
    features = [torch.randn(n, 4) + n for n in (3, 40, 7)]
    views = tuple(view(x, i) for i, x in enumerate(features))
    dann(views[:1], views[1:], step())
    named = [(dann.critic(x).argmax(1) == i).float().mean() for i, x in enumerate(features)]
    torch.testing.assert_close(dann.monitors(), {"critic_accuracy": torch.stack(named).mean()})


@pytest.mark.parametrize("level", [0.0, 0.1, 1e3])
def test_collapsed_batches_are_finite_in_value_and_gradient(level):
    """All rows the same in both domains: the critic can only guess."""
    features, dann = [torch.full((n, 4), level) for n in (8, 5)], attached()
    optimiser = torch.optim.Adam(dann.parameters(), 0.01)
    for _ in range(20):
        to_features, to_critic = gradients(dann, features)
        assert all(grad.isfinite().all() for grad in (*to_features, *to_critic))
        for p, grad in zip(dann.critic.parameters(), to_critic, strict=True):
            p.grad = grad
        optimiser.step()
    value = dann((view(features[0], 0),), (view(features[1], 1),), step())["domain"]
    assert value.isfinite()
    assert value >= math.log(2) - 1e-5, "better than a guess, where there is nothing to see"


def test_bfloat16_features_are_judged_in_float32():
    dann, half = attached(), [(torch.randn(n, 4) + n).bfloat16().requires_grad_() for n in (6, 9)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        term = dann((view(half[0], 0),), (view(half[1], 1),), step())["domain"]
    assert term.dtype == torch.float32
    torch.testing.assert_close(term, by_hand(dann, [x.detach().float() for x in half]), rtol=1e-6, atol=1e-6)
    for grad in torch.autograd.grad(term, [*half, *dann.critic.parameters()]):
        assert grad.isfinite().all()
        assert grad.abs().max() > 0


def test_helps_where_only_one_feature_is_shifted():
    assert gain(lambda: DANN(hidden=64))[0] > 0.05
