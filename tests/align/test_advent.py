"""AdvEnt: information maps against numpy, a critic of maps of any size that learns by itself, and surer predictions."""

import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from blobs import World, scores
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup, Step, View
from eo_adapt.align.advent import AdvEnt, information, patch_net
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.stack import Stack

STEP = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(1, 4), st.integers(2, 13), st.sampled_from([(), (3, 2)]), st.integers(0, 99))
def test_information_equals_numpy(n, k, size, seed):
    logits = 3 * torch.randn(n, k, *size, generator=torch.Generator().manual_seed(seed))
    z = logits.double().numpy()
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(information(logits).numpy(), -p * np.log2(p) / np.log2(k), atol=1e-5)


def test_information_at_its_ends():
    assert torch.allclose(information(torch.zeros(2, 5, 3, 3)).sum(1), torch.ones(2, 3, 3))
    sure = information(torch.tensor([[1e4, 0.0, -1e4]]))
    assert torch.equal(sure, torch.zeros(1, 3))
    assert information(torch.randn(2, 3).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 3), (16, 16)])
@pytest.mark.parametrize("halvings", [0, 1, 3])
def test_the_critic_takes_maps_of_any_size(halvings, size):
    judged = patch_net(3, 4, halvings)(torch.randn(2, 3, *size))
    expected = tuple(-(-side // 2**halvings) for side in size)
    assert judged.shape == (2, 1, *expected)


def attached(classes: int = 3, **options) -> AdvEnt:
    method = AdvEnt(**{"hidden": 4, "halvings": 1, **options})
    method.attach(nn.Linear(1, 1), Setup(0, 1, 1, classes))
    return method


def views(size: tuple[int, ...] = (6, 6)) -> tuple[View, View]:
    """Sure sources, unsure targets."""
    made = [(6 - 5 * i) * torch.randn(4 + i, 3, *size) for i in range(2)]
    return tuple(View(x.requires_grad_(), x, None, i) for i, x in enumerate(made))


@pytest.mark.parametrize("size", [(), (6, 6)])
def test_the_term_is_the_targets_cross_entropy_under_the_wrong_label(size):
    method, (source, target) = attached(weight=1.0), views(size)
    found = method((source,), (target,), STEP)["advent"]
    maps = information(target.logits).detach().view(5, 3, *(size or (1, 1)))
    z = method.critic.net(maps).double().numpy()
    assert found.item() == pytest.approx(-np.log(1 / (1 + np.exp(-z))).mean(), rel=1e-5)
    found.backward()
    assert source.logits.grad is None
    assert target.logits.grad.abs().sum() > 0
    assert all(p.grad is None for p in method.critic.parameters())


def test_the_critic_learns_between_steps_and_only_then():
    method, before = attached(lr=0.01), None
    for _ in range(60):
        source, target = views()
        method((source,), (target,), STEP)
        before = before or copy.deepcopy(method.critic.state_dict())
        method.after_step(nn.Identity())
    assert method.monitors()["critic_accuracy"] > 0.9
    assert not torch.equal(before["mean"], method.critic.mean)
    assert method.critic.mean.numel() == sum(p.numel() for p in method.critic.parameters())
    still = {key: value.clone() for key, value in method.critic.state_dict().items()}
    source, target = views()
    method((source,), (target,), STEP)
    assert all(torch.equal(value, still[key]) for key, value in method.critic.state_dict().items())


def test_a_step_down_makes_a_target_look_like_a_source_to_the_critic():
    method = attached(weight=1.0, lr=0.01)
    for _ in range(60):
        source, target = views()
        method((source,), (target,), STEP)
        method.after_step(nn.Identity())
    source, target = views()

    def entropy(logits: Tensor) -> float:
        return information(logits).sum(1).mean().item()

    method((source,), (target,), STEP)["advent"].backward()
    moved = target.logits - 50 * target.logits.grad
    assert entropy(source.logits) < entropy(moved) < entropy(target.logits)


@pytest.mark.parametrize("options", [{"halvings": -1}, {"halvings": 7}, {"hidden": 0}, {"steps": 0}, {"lr": 0.0}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AdvEnt(**options)
    with pytest.raises(ValueError, match=r"Setup\.classes must be at least 2"):
        attached(classes=1)


def test_colours_that_lose_contrast_are_told_apart_again():
    """Haze: all colours move towards one, within their classes. The critic sets in when the source is learnt."""
    source, target = World(), World(offset=(1.2, 1.2, 1.2), gain=(0.25, 0.25, 0.25), noise=0.12)

    def late() -> Stack:
        return Stack({"advent": AdvEnt(0.1, halvings=1, hidden=8, lr=0.003)}, ramps={"advent": "late"})

    plain, ours = scores(SourceOnly, source, target), scores(late, source, target)
    assert plain.min() < 0.7
    assert ours.min() > 0.95, (plain, ours)
