"""Rows of two processes count as one batch; outputs of any size find the features they belong to."""

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch import multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.base import pairs
from eo_adapt.align.class_mmd import ClassMMD
from eo_adapt.align.coral import CORAL
from eo_adapt.align.deepjdot import DeepJDOT
from eo_adapt.align.gather import joined, matched, on_features
from eo_adapt.align.jan import JAN
from eo_adapt.align.mmd import MMD
from eo_adapt.align.swd import SWD

METHODS = {
    "coral": lambda: CORAL(),
    "coral_few_rows": lambda: CORAL(pairing="each"),  # fewer rows than features: the other way of computing it
    "mmd_u": lambda: MMD(estimator="u"),
    "mmd_v": lambda: MMD(estimator="v", pairing="each"),
    "swd": lambda: SWD(directions=16),
    "jan": lambda: JAN(),
    "class_mmd": lambda: ClassMMD(confidence=0.0),
    "deepjdot": lambda: DeepJDOT(),
}
WORLD = 2
ROWS = ((7, 4, 9), (5, 6, 3))  # of two sources and a target, in each process


class Tiny(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 12), nn.Tanh(), nn.Linear(12, width))
        self.head = nn.Linear(width, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, self.head(features)


def inputs(rank: int) -> list[tuple[Tensor, Tensor]]:
    """Inputs and labels of each domain in one process."""
    draw = torch.Generator().manual_seed(rank)
    return [
        ((1 + d) * torch.randn(n, 3, generator=draw) + d, torch.randint(2, (n,), generator=draw))
        for d, n in enumerate(ROWS[rank])
    ]


def gradients(name: str, ranks: list[int], wrap=lambda model: model) -> tuple[float, Tensor]:
    """Value of the term, and its gradient on all parameters, for the rows of these processes."""
    torch.manual_seed(0)
    width = 40 if name == "coral_few_rows" else 5
    plain = Tiny(width)
    model = wrap(plain)
    align: Alignment = METHODS[name]()
    align.attach(model, Setup(width, 2, 1, 2))
    domains = [
        [torch.cat(parts) for parts in zip(*cases, strict=True)] for cases in zip(*map(inputs, ranks), strict=True)
    ]
    sizes = [len(x) for x, _ in domains]
    features, logits = (out.split(sizes) for out in model(torch.cat([x for x, _ in domains])))
    views = tuple(
        View(f, z, x, d, y if d < 2 else None)
        for d, (f, z, (x, y)) in enumerate(zip(features, logits, domains, strict=True))
    )
    torch.manual_seed(1)  # as the trainer does, alike in all processes
    [term] = align(views[:2], views[2:], Step(model, nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)).values()
    (term + 0.0 * sum(out.sum() for out in (*features, *logits))).backward()  # so that every parameter takes part
    return term.item(), torch.cat([p.grad.flatten() for p in plain.parameters()])


def work(rank: int, folder: str) -> None:
    """One of the processes."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=WORLD)
    found = {name: gradients(name, [rank], DistributedDataParallel) for name in METHODS}
    empty = torch.ones(3 * rank, 2, requires_grad=True)  # the first process has no rows
    whole = joined(empty)
    (whole * (1 + rank)).sum().backward()
    found["empty"] = len(whole), empty.grad
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict[str, tuple[float, Tensor]]]:
    """What each process found."""
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(work, (str(folder),), WORLD)
    return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(WORLD)]


@pytest.mark.parametrize("name", METHODS)
def test_two_processes_are_one_with_the_joint_batch(name, processes):
    value, gradient = gradients(name, [0, 1])
    assert gradient.abs().max() > 1e-4
    for found in processes:
        assert found[name][0] == pytest.approx(value, rel=1e-5, abs=1e-6)
        torch.testing.assert_close(found[name][1], gradient, rtol=1e-4, atol=1e-5)
    alone = gradients(name, [0])[1], gradients(name, [1])[1]
    assert not torch.allclose(sum(alone) / 2, gradient, rtol=1e-3, atol=1e-4), "a mean over processes would do as well"


def test_a_process_may_have_no_rows_and_gradients_are_summed_over_processes(processes):
    assert [found["empty"][0] for found in processes] == [3, 3]
    assert processes[0]["empty"][1].shape == (0, 2)
    assert torch.equal(processes[1]["empty"][1], torch.full((3, 2), 3.0))  # 1 + 2


def test_one_process_joins_nothing():
    x = torch.randn(3, 2)
    assert joined(x) is x


def test_matched_pools_or_takes_each_with_each():
    s, t = [torch.randn(2, 3), torch.randn(4, 3)], [torch.randn(5, 3), torch.randn(1, 3)]
    [(left, right)] = matched(s, t, "pooled")
    assert torch.equal(left, torch.cat(s))
    assert torch.equal(right, torch.cat(t))
    each = matched(s, t, "each")
    assert [(a is x, b is y) for (a, b), (x, y) in zip(each, [(x, y) for x in s for y in t], strict=True)] == [
        (True, True)
    ] * 4


def test_pairs_are_the_rows_of_views():
    views = [View(torch.randn(2, 3, 4, 5), torch.zeros(2, 2), None, d) for d in range(2)]
    [(left, _)] = pairs(tuple(views[:1]), tuple(views[1:]), "pooled")
    assert torch.equal(left, views[0].rows())


def test_outputs_of_the_size_of_the_features_are_their_rows():
    values, features = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 4, 5)
    assert torch.equal(on_features(values, features), View(values, values, None, 0).rows())
    assert on_features(values[:, :, 0, 0], features[:, :, 0, 0]).shape == (2, 3)


def test_larger_outputs_are_averaged_over_the_area_of_a_feature_cell():
    values, features = torch.randn(2, 3, 8, 6), torch.randn(2, 7, 4, 2)
    rows = on_features(values, features).reshape(2, 4, 2, 3)
    for i in range(4):
        for j in range(2):
            block = values[:, :, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
            torch.testing.assert_close(rows[:, i, j], block.mean((2, 3)))
    torch.testing.assert_close(on_features(values, features[:, :, 0, 0]), values.mean((2, 3)))


def test_smaller_outputs_are_repeated():
    values = torch.randn(2, 3, 2, 2)
    rows = on_features(values, torch.randn(2, 7, 4, 4)).reshape(2, 4, 4, 3)
    torch.testing.assert_close(rows, values.repeat_interleave(2, 2).repeat_interleave(2, 3).movedim(1, -1))
    one = on_features(values[:, :, 0, 0], torch.randn(2, 7, 4, 4)).reshape(2, 16, 3)
    assert torch.equal(one, values[:, None, :, 0, 0].expand(2, 16, 3))
