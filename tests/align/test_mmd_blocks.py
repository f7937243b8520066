"""MMD on many rows: blocks of the kernel matrix give what the whole one does, and memory stays small."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import eo_adapt.align.mmd as module
from eo_adapt.align.mmd import median_bandwidth, mixture_distances, mmd


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def whole(layers: list[tuple[Tensor, Tensor]], s: Tensor, t: Tensor, estimator: str) -> Tensor:
    """Squared MMD of mixtures from the whole kernel matrix, by autograd; one column of shares after the other."""
    kernel = 1.0
    for rows, divisors in layers:
        distances = (rows[:, None] - rows[None]).square().sum(2)
        kernel = kernel * torch.stack([torch.exp(-distances / d) for d in divisors]).mean(0)
    values = []
    for a, b in zip(s.T, t.T, strict=True):
        value = 0.0
        for one, other, sign in ((a, a, 1), (b, b, 1), (a, b, -2)):
            first = torch.cat([one, 0 * b]) if one is a else torch.cat([0 * a, one])
            second = torch.cat([other, 0 * b]) if other is a else torch.cat([0 * a, other])
            shares = torch.outer(first, second)
            if estimator == "u" and sign == 1:
                shares = shares * (1 - torch.eye(len(first)))
            value = value + sign * (shares * kernel).sum() / shares.sum()
        values.append(value)
    return torch.stack(values)


@pytest.mark.parametrize("estimator", ["u", "v"])
@pytest.mark.parametrize("cells", [1, 40, 100, 10**6])
def test_blocks_give_value_and_gradient_of_the_whole_matrix(estimator, cells, monkeypatch):
    monkeypatch.setattr(module, "CELLS", cells)
    n, m = 9, 14
    layers = [
        (torch.randn(n + m, 4, dtype=torch.float64, requires_grad=True), torch.tensor([2.0, 9.0]).double()),
        (torch.randn(n + m, 2, dtype=torch.float64, requires_grad=True), torch.tensor([3.0]).double()),
    ]
    s, t = torch.rand(n, 3, dtype=torch.float64), torch.rand(m, 3, dtype=torch.float64)
    weights = torch.tensor([1.0, -2.0, 0.5]).double()  # classes get different gradients
    for some in (layers, layers[:1]):
        rows = [z for z, _ in some]
        found, expected = mixture_distances(some, s, t, estimator), whole(some, s, t, estimator)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        ours, theirs = (torch.autograd.grad((x * weights).sum(), rows) for x in (found, expected))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-12)


def test_second_derivatives_are_right_too():
    """Methods that differentiate through a training step need them."""
    divisors, ones = torch.tensor([1.0, 4.0]).double(), torch.ones(4, 1).double()
    rows = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)

    def value(x: Tensor) -> Tensor:
        return mixture_distances([(x, divisors), (x[:, :1], divisors)], ones, ones, "u")

    assert torch.autograd.gradcheck(value, rows)
    assert torch.autograd.gradgradcheck(value, rows)


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.seen = max([self.seen, *(x.numel() for x in (out,) if isinstance(x, Tensor))])
        return out


def test_no_tensor_is_larger_than_a_block(monkeypatch):
    monkeypatch.setattr(module, "CELLS", 8000)
    monkeypatch.setattr(module, "SAMPLE", 80)
    source, target = torch.randn(250, 4, requires_grad=True), torch.randn(350, 4)
    with Largest() as largest:
        mmd(source, target).backward()
    assert 600 * 4 <= largest.seen <= 8000, "the whole matrix has 360,000"


def test_eight_thousand_rows_a_side_stay_under_a_gigabyte():
    """Growth of the process over what it takes to import torch, forward and backward; the whole matrix has 1.1 GB."""
    code = """
import torch
from pathlib import Path
from eo_adapt.align.mmd import mmd

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1e6

torch.set_num_threads(1)
mmd(torch.randn(9, 64, requires_grad=True), torch.randn(9, 64)).backward()
before = peak()
source, target = torch.randn(8192, 64, requires_grad=True), torch.randn(8192, 64, requires_grad=True)
mmd(source, target, (1.0,)).backward()
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.3


def test_the_bandwidth_of_many_rows_is_that_of_a_sample(monkeypatch):
    x = torch.randn(600, 5)
    exact = median_bandwidth(x).item()
    assert exact == pytest.approx(torch.pdist(x).square().median().item(), rel=1e-5)
    monkeypatch.setattr(module, "SAMPLE", 200)
    found = [median_bandwidth(x).item() for _ in range(5)]
    assert len(set(found)) == 5
    assert all(value == pytest.approx(exact, rel=0.25) for value in found)
