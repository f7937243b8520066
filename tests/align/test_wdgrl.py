"""WDGRL: a penalty with a closed form, a distance with a known value, and an encoder that makes it smaller."""

import pytest
import torch
from adversaries import gain, step, view
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup
from eo_adapt.align.wdgrl import WDGRL, between, distance, slope_penalty


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(sources: int = 1, targets: int = 1, width: int = 4, **options) -> WDGRL:
    wdgrl = WDGRL(**({"hidden": 16} | options))
    wdgrl.attach(nn.Identity(), Setup(width, sources, targets))
    return wdgrl


def term(wdgrl: WDGRL, sources: list[Tensor], targets: list[Tensor]) -> Tensor:
    views = [view(x, i) for i, x in enumerate((*sources, *targets))]
    return wdgrl(tuple(views[: len(sources)]), tuple(views[len(sources) :]), step())["wasserstein"]


def learnt(wdgrl: WDGRL, make, steps: int) -> float:
    """The distance that the critic measures after so many optimiser steps on fresh batches."""
    for _ in range(steps):
        term(wdgrl, *make(64))
        wdgrl.after_step(nn.Identity())
    return term(wdgrl, *make(4000)).item()


def weights(wdgrl: WDGRL) -> Tensor:
    return nn.utils.parameters_to_vector(wdgrl.critic.parameters())


@settings(deadline=None, max_examples=25, derandomize=True)
@given(n=st.integers(1, 9), d=st.integers(1, 6), seed=st.integers(0, 99))
def test_penalty_of_a_plane_and_of_a_bowl(n, d, seed):
    torch.manual_seed(seed)
    x, w = torch.randn(n, d, dtype=torch.float64), torch.randn(d, 2, dtype=torch.float64, requires_grad=True)
    for output in range(2):
        length = w[:, output].norm()
        value = slope_penalty(lambda z: z @ w, x, output)
        assert value.item() == pytest.approx(((length - 1) ** 2).item())
        (grad,) = torch.autograd.grad(value, w)
        torch.testing.assert_close(grad[:, output], (2 * (length - 1) * w[:, output] / length).detach())
        assert not grad[:, 1 - output].any()
    bowl = slope_penalty(lambda z: z.square().sum(1, keepdim=True) / 2, x)
    assert bowl.item() == pytest.approx((x.norm(dim=1) - 1).square().mean().item())


@pytest.mark.parametrize(("n", "m"), [(5, 5), (3, 40), (17, 2)])
def test_places_between_lie_on_lines_between_pairs(n, m):
    s, t = torch.randn(n, 1), torch.randn(m, 1) + 10
    places = between(torch.cat([s, 2 * s], 1), torch.cat([t, 2 * t], 1))
    assert places.shape == (max(n, m), 2)
    torch.testing.assert_close(places[:, 1], 2 * places[:, 0])
    assert s.min() <= places[:, 0].min()
    assert places[:, 0].max() <= t.max()
    assert len({round(x, 4) for x in places[:, 0].tolist()}) > max(n, m) / 2, "one place for all pairs"


@settings(deadline=None, max_examples=25, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=3), m=st.integers(1, 9), d=st.integers(1, 5))
def test_equals_a_loop_over_sources(sizes, m, d):
    wdgrl = attached(len(sizes), 2, d)
    sources, targets = [torch.randn(n, d) for n in sizes], [torch.randn(m, d), torch.randn(m + 3, d)]
    net = wdgrl.critic.net.double()
    pooled = torch.cat(targets).double()
    loop = [net(s.double())[:, i].mean().item() - net(pooled)[:, i].mean().item() for i, s in enumerate(sources)]
    wdgrl.critic.net.float()
    assert term(wdgrl, sources, targets).item() == pytest.approx(sum(loop) / len(loop), abs=1e-5)


def test_same_rows_are_no_distance_apart():
    x = torch.randn(20, 4)
    assert term(attached(), [x], [x]).item() == 0
    assert term(attached(), [x], [x.repeat(7, 1)]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("far", "penalty"), [(1.0, 10.0), (5.0, 10.0), (5.0, 100.0)])
def test_measures_how_far_a_cloud_was_moved(far, penalty):
    """A cloud and its copy moved by v have earth mover's distance |v|, however far apart they are.

    The penalty gives way a little: slope * |v| - penalty * (slope - 1)^2 is largest at slope 1 + |v| / (2 penalty).
    """
    move = far * torch.tensor([0.6, 0.0, 0.8, 0.0])
    wdgrl = attached(hidden=64, lr=0.01, penalty=penalty)
    found = learnt(wdgrl, lambda n: ([torch.randn(n, 4)], [torch.randn(n, 4) + move]), 150)
    assert found == pytest.approx(far * (1 + far / (2 * penalty)), rel=0.05)


def test_every_source_has_a_distance_of_its_own():
    """Two sources on opposite sides of the target: one function cannot be high on both and have slope 1 to both."""
    wdgrl = attached(2, hidden=64, lr=0.01)
    move = torch.tensor([2.0, 0.0, 0.0, 0.0])

    def make(n: int):
        return [torch.randn(n, 4) + move, torch.randn(n, 4) - move], [torch.randn(n, 4)]

    assert learnt(wdgrl, make, 150) == pytest.approx(2 * 1.1, rel=0.1)
    sources, (target,) = make(2000)
    own = [distance(lambda x, i=i: wdgrl.critic(x)[:, i : i + 1], [s], target) for i, s in enumerate(sources)]
    assert torch.stack(own).min() > 1.7


def test_a_gradient_step_brings_both_sides_closer():
    wdgrl = attached(hidden=64, lr=0.01)
    learnt(wdgrl, lambda n: ([torch.randn(n, 4)], [torch.randn(n, 4) + 1]), 60)
    s, t = torch.randn(64, 4, requires_grad=True), (torch.randn(64, 4) + 1).requires_grad_()
    to_s, to_t = torch.autograd.grad(term(wdgrl, [s], [t]), [s, t])
    gap = (t.mean(0) - s.mean(0)).norm()
    for a, b in ((s - 10 * to_s, t), (s, t - 10 * to_t)):
        assert (b.mean(0) - a.mean(0)).norm() < gap - 0.05


def test_micro_batches_make_one_learning_moment_on_the_joint_batch():
    joint, parts = attached(steps=3), attached(steps=3)
    parts.load_state_dict(joint.state_dict())
    (s, t), (u, v) = ([torch.randn(5, 4), torch.randn(n, 4) + 1] for n in (7, 2))
    term(joint, [torch.cat([s, u])], [torch.cat([t, v])])
    for source, target in ((s, t), (u, v)):
        term(parts, [source], [target])
    for align in (joint, parts):
        torch.manual_seed(3)
        align.after_step(nn.Identity())
        assert align.critic.count == 3
        assert all(p.grad is None for p in align.parameters())
    assert torch.equal(weights(joint), weights(parts))


def test_a_map_is_judged_cell_by_cell():
    maps, wdgrl = [torch.randn(2, 4, 3, 5), torch.randn(3, 4, 2, 2)], attached()
    flat = [x.permute(0, 2, 3, 1).reshape(-1, 4) for x in maps]
    torch.testing.assert_close(term(wdgrl, maps[:1], maps[1:]), term(wdgrl, flat[:1], flat[1:]))
    wdgrl.after_step(nn.Identity())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_batches_leave_a_finite_critic(dtype):
    for x in (torch.randn(6, 4) + 1e3, torch.ones(6, 4), torch.zeros(6, 4)):
        wdgrl, s = attached(), x.to(dtype).requires_grad_()
        for t in (s, s[:1]):
            value = term(wdgrl, [s], [t])
            assert value.dtype == torch.float32
            assert torch.autograd.grad(value, s)[0].isfinite().all()
            wdgrl.after_step(nn.Identity())
        assert weights(wdgrl).isfinite().all()


def test_missing_numbers_are_refused():
    x = torch.randn(6, 4)
    x[2, 1] = float("nan")
    with pytest.raises(ValueError, match="feature rows with NaN or infinite numbers: 1 of 6 in source 0"):
        term(attached(), [x], [torch.randn(5, 4)])


@pytest.mark.parametrize("options", [{"penalty": -1.0}, {"steps": 0}, {"lr": 0.0}, {"hidden": 0}, {"weight": -1.0}])
def test_wrong_options_are_refused_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        WDGRL(**options)


def test_without_a_target_there_is_no_distance():
    with pytest.raises(ValueError, match="needs a target domain"):
        WDGRL().attach(nn.Identity(), Setup(4, targets=0))


def test_helps_where_only_one_feature_is_shifted():
    assert gain(lambda: WDGRL(hidden=32, steps=1, lr=0.02))[0] > 0.1
