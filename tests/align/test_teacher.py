"""The teacher: averages of parameters and buffers in closed form, never in training, at home in any domain."""

import copy
import io

import pytest
import torch
from nets import deep, fed, split
from torch import nn

from eo_adapt.align import View
from eo_adapt.align.csn import DomainNorm
from eo_adapt.align.teacher import Teacher, average, precision_of, untracked


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def net() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    layers.register_buffer("mask", torch.tensor([True, False]))
    return layers


def moved(network: nn.Module) -> nn.Module:
    """Every tensor of its state is another."""
    other = copy.deepcopy(network)
    for value in other.state_dict().values():
        value.copy_(~value if value.dtype == torch.bool else value + torch.randn(value.shape) + 3)
    return other


def test_decay_0_copies_all_with_buffers_and_1_freezes():
    teacher, student = net(), moved(net())
    before = copy.deepcopy(teacher.state_dict())
    average(teacher, student, 1.0)
    floating = {k for k, v in before.items() if v.is_floating_point()}
    assert floating != set(before)
    assert all(torch.equal(teacher.state_dict()[key], before[key]) for key in floating)
    average(teacher, student, 0.0)
    for key, value in student.state_dict().items():
        assert not torch.equal(before[key], value), key
        assert torch.equal(teacher.state_dict()[key], value), key


def test_a_fixed_student_is_approached_in_closed_form():
    """teacher_t = student + decay^t (teacher_0 - student), buffers included, in float64."""
    teacher, student = net().double(), moved(net()).double()
    start = copy.deepcopy(teacher.state_dict())
    for _ in range(7):
        average(teacher, student, 0.9)
    for key, goal in student.state_dict().items():
        if goal.is_floating_point():
            torch.testing.assert_close(teacher.state_dict()[key], goal + 0.9**7 * (start[key] - goal))


def test_first_steps_are_a_plain_mean_then_the_decay_rules():
    teacher = Teacher(net(), decay=0.75)  # 1 - 1 / (t + 1) reaches it at t = 3
    students = [moved(net()) for _ in range(6)]
    for student in students[:4]:
        teacher.follow(student)
    mean = torch.stack([s.state_dict()["1.running_var"] for s in students[:4]]).mean(0)
    torch.testing.assert_close(teacher.network[1].running_var, mean)
    for student in students[4:]:
        teacher.follow(student)
    last = [s[0].weight for s in students[4:]]
    first = torch.stack([s[0].weight for s in students[:4]]).mean(0)
    torch.testing.assert_close(teacher.network[0].weight, 0.75**2 * first + 0.75 * 0.25 * last[0] + 0.25 * last[1])


def test_decay_1_never_moves():
    network = net()
    teacher = Teacher(network, decay=1.0)
    before = copy.deepcopy(teacher.network.state_dict())
    teacher.follow(moved(network))
    assert all(torch.equal(value, before[key]) for key, value in teacher.network.state_dict().items())


def test_never_trains_and_wants_no_gradient():
    network = net().train()
    teacher = nn.ModuleDict({"part": Teacher(network)}).train()["part"]
    assert network.training
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    x = torch.randn(5, 3, requires_grad=True)
    assert not teacher(x).requires_grad
    assert torch.equal(teacher(x), teacher(x))  # dropout is off
    assert all(p.requires_grad for p in network.parameters())


def test_a_layer_in_two_places_is_averaged_once():
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, shared)
    teacher = Teacher(network, decay=0.5)
    start = shared.weight.detach().clone()
    teacher.steps += 9
    nn.init.constant_(shared.weight, 4.0)
    teacher.follow(network)
    assert teacher.network[0] is teacher.network[1]
    torch.testing.assert_close(teacher.network[0].weight, (start + 4) / 2)


def test_follows_the_domains_of_csn():
    network = deep()
    csn = split(network, 2)
    fed(network, csn, 2)
    teacher = Teacher(network)
    teacher.follow(network)
    network.eval()
    x = torch.randn(4, 4)
    answers = []
    for domain in (0, 1):
        with csn.scope(domain):
            answers.append(teacher(x))
            torch.testing.assert_close(answers[-1], network(x))
    assert not torch.allclose(*answers)
    with pytest.raises(RuntimeError, match="does not know which one"):
        teacher(x)


def test_comes_back_to_the_bit():
    first = Teacher(net(), 0.9)
    students = [moved(net()) for _ in range(4)]
    first.follow(students[0])
    first.follow(students[1])
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Teacher(net(), 0.9)
    second.load_state_dict(torch.load(file, weights_only=True))
    for student in students[2:]:
        first.follow(student)
        second.follow(student)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_refuses_a_decay_that_is_none(decay):
    with pytest.raises(ValueError, match=r"Teacher\.decay must be a finite number >= 0 and <= 1"):
        Teacher(net(), decay)


def test_untracked_normalises_by_the_batch_and_leaves_no_trace():
    network = deep().train()
    csn = split(network, 2)
    x = torch.randn(16, 4) + 5
    before = copy.deepcopy(network.state_dict())
    with csn.scope(1), untracked(network):
        silent = network(x)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    with csn.scope(1):
        loud = network(x)
    torch.testing.assert_close(silent, loud)
    assert any(not torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(n.track_running_stats for m in network.modules() if isinstance(m, DomainNorm) for n in m.norms)


def test_untracked_leaves_frozen_norms_to_their_statistics():
    network = nn.Sequential(nn.BatchNorm1d(3)).eval()
    x = torch.randn(8, 3) + 5
    expected = network(x)
    with untracked(network):
        assert torch.equal(network(x), expected)


def test_precision_is_that_of_the_first_look():
    layer, x = nn.Linear(3, 2), torch.randn(4, 3)
    for logits in (layer(x), layer(x).bfloat16()):
        with torch.autocast("cpu", enabled=False), precision_of(View(x, logits, x, 0)):
            assert layer(x).dtype == logits.dtype
