"""A critic that learns by itself: its Adam, its joint batch, its silence towards everybody else."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from eo_adapt.align import Setup
from eo_adapt.align.critic import PATIENCE, Critic


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def made(**options) -> Critic:
    torch.manual_seed(1)
    return Critic(Setup(3), nn.Identity(), **({"hidden": 8, "outputs": 1, "lr": 0.01} | options))


def apart(judge, sources: list[Tensor], targets: list[Tensor]) -> Tensor:
    sides = [F.softplus(-judge(x)).mean() for x in sources], [F.softplus(judge(x)).mean() for x in targets]
    return torch.stack([torch.stack(side).mean() for side in sides]).sum()


def weights(critic: Critic) -> Tensor:
    return nn.utils.parameters_to_vector(critic.parameters())


def batches(n: int) -> list[tuple[Tensor, Tensor]]:
    return [(torch.randn(5 + i, 3), torch.randn(4, 3) + 1) for i in range(n)]


def test_learns_as_torch_adam_would():
    critic = made()
    twin = copy.deepcopy(critic.net).requires_grad_()
    optimiser = torch.optim.Adam(twin.parameters(), 0.01)
    for source, target in batches(30):
        critic.collect([source], [target])
        critic.learn(apart, 2)
        for _ in range(2):
            optimiser.zero_grad()
            apart(twin, [source], [target]).backward()
            optimiser.step()
    for ours, theirs in zip(critic.net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-4, atol=1e-5)
    assert critic.count == 60


def test_micro_batches_make_one_step_on_the_joint_batch():
    """Means over domains of joint rows: neither two small steps nor one on the last micro-batch."""
    joint, parts, last, twice = (made() for _ in range(4))
    (s, t), (u, v) = batches(2)
    joint.collect([torch.cat([s, u]), s], [torch.cat([t, v])])
    joint.learn(apart, 1)
    for sources, targets in (([s, s[:2]], [t]), ([u, s[2:]], [v])):
        parts.collect(sources, targets)
        twice.collect(sources, targets)
        twice.learn(apart, 1)
    parts.learn(apart, 1)
    last.collect([u, s[2:]], [v])
    last.learn(apart, 1)
    assert torch.equal(weights(parts), weights(joint))
    assert parts.count == 1
    assert not torch.allclose(weights(last), weights(joint), rtol=1e-4)
    assert not torch.allclose(weights(twice), weights(joint), rtol=1e-4)


def test_a_batch_is_learnt_once():
    critic = made()
    critic.collect([torch.randn(4, 3)], [torch.randn(4, 3)])
    critic.learn(apart, 1)
    once = weights(critic).clone()
    critic.learn(apart, 1)
    assert torch.equal(weights(critic), once)
    assert not torch.equal(once, weights(made()))


def test_only_rows_get_a_gradient_and_nobody_keeps_one():
    critic, x = made(), torch.randn(6, 3, requires_grad=True)
    critic.collect([x * 2], [x + 1])
    with torch.no_grad():  # as some loops call it
        critic.learn(apart, 3)
    assert x.grad is None
    assert all(p.grad is None and not p.requires_grad for p in critic.parameters())
    (grad,) = torch.autograd.grad(critic(x).sum(), x)
    assert grad.any()


def test_an_optimiser_that_was_given_the_critic_leaves_it_alone():
    critic, x = made(), torch.randn(6, 3, requires_grad=True)
    before = weights(critic).clone()
    optimiser = torch.optim.AdamW([x, *critic.parameters()], 0.1, weight_decay=0.5)
    critic(x).sum().backward()
    optimiser.step()
    assert torch.equal(weights(critic), before)


def test_autocast_outside_rounds_nothing():
    plain, mixed = made(), made()
    ((s, t),) = batches(1)
    for critic, on in ((plain, False), (mixed, True)):
        critic.collect([s], [t])
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=on):
            critic.learn(apart, 3)
    assert torch.equal(weights(plain), weights(mixed))


def test_goes_on_to_the_bit_after_a_stop():
    whole, file = made(), io.BytesIO()
    data = batches(6)
    for number, (s, t) in enumerate(data):
        if number == 3:
            torch.save(whole.state_dict(), file)
        whole.collect([s], [t])
        whole.learn(apart, 2)
    file.seek(0)
    resumed = made()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for s, t in data[3:]:
        resumed.collect([s], [t])
        resumed.learn(apart, 2)
    assert all(torch.equal(x, resumed.state_dict()[name]) for name, x in whole.state_dict().items())


def test_eval_mode_keeps_nothing():
    critic = made().eval()
    for _ in range(PATIENCE + 1):
        critic.collect([torch.randn(4, 3)], [torch.randn(4, 3)])
    critic.train().learn(apart, 1)
    assert torch.equal(weights(critic), weights(made()))


def test_rows_that_are_not_finite_are_refused_and_leave_the_critic_alone():
    critic, twin, good = made(), made(), torch.randn(4, 3)
    bad = good.clone()
    bad[1, 2] = torch.nan
    for sources, targets, where in (([good, bad], [good], "source 1"), ([good, good], [bad], "target 0")):
        with pytest.raises(ValueError, match=f"a critic was given feature rows .*: 1 of 4 in {where}"):
            critic.collect(sources, targets)
    critic.eval()
    critic.collect([bad], [bad])  # where nothing is learnt nothing is spoilt
    critic.train()
    for each in (critic, twin):
        each.collect([good], [good + 1])
        each.learn(apart, 2)
    assert torch.equal(weights(critic), weights(twin))


def test_a_loop_that_forgets_after_step_is_told():
    critic, rows = made(), [torch.randn(4, 3)]
    for _ in range(PATIENCE):
        critic.collect(rows, rows)
    with pytest.raises(RuntimeError, match=r"after_step\(model\) after each optimizer.step"):
        critic.collect(rows, rows)
    critic.learn(apart, 1)
    critic.collect(rows, rows)


def test_lives_where_the_model_does():
    critic = Critic(Setup(3), nn.Linear(2, 2, device="meta"), 8, 1, 0.01)
    assert {x.device.type for x in critic.state_dict().values()} == {"meta"}


def test_processes_average_their_gradients(monkeypatch):
    """Two processes with half of the rows each take the step of one process with all rows."""
    (s, t), sent = (torch.randn(10, 3), torch.randn(8, 3) + 1), []

    def all_reduce(grad: Tensor) -> None:
        sent.append(grad.clone())
        grad += sent[0] if len(sent) == 2 else 0

    joint, other, ours = made(), made(), made()
    joint.collect([s], [t])
    joint.learn(apart, 1)
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    for rank, critic in enumerate((other, ours)):
        critic.collect([s[rank::2]], [t[rank::2]])
        critic.learn(apart, 1)
    assert not torch.allclose(sent[0], sent[1], rtol=1e-2)
    torch.testing.assert_close(ours.mean, joint.mean)
    torch.testing.assert_close(weights(ours), weights(joint))
