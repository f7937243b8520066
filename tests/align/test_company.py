"""Methods in company: one to three sources, no to two targets, maps, two processes; pairs are in test_pairs."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from bench import CLASSES, METHODS, Bench, make
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from eo_adapt.align import Alignment

ALONE = {"source_only", "target_only", "few_shot", "stack"}  # baselines, oracles, and the stack itself
SINGLE = [name for name in METHODS if name not in ALONE]
PATIENCE = timedelta(minutes=2)  # processes that wait for each other are an error, not a hang


@pytest.mark.parametrize("name", [n for n in METHODS if n not in {"target_only", "few_shot"}])
def test_any_number_of_domains_works_or_is_refused_at_once(name: str) -> None:
    reasons, worked = [], 0
    for sources, targets in itertools.product((1, 2, 3), (0, 1, 2)):
        try:
            bench = Bench(name, sources=sources, targets=targets)
        except ValueError as error:
            reasons.append(str(error))
            continue
        bench.fit(last=2)
        assert bench.weights().isfinite().all()
        worked += 1
    assert worked >= 4
    assert all("target" in reason or "source" in reason for reason in reasons), reasons


@pytest.mark.parametrize("name", [n for n in METHODS if n not in {"target_only", "few_shot"}])
def test_maps_work_like_parcels(name: str) -> None:
    bench = Bench(name, maps=True).fit(last=2)
    assert bench.weights().isfinite().all()
    bench.model.eval()
    x = bench.batch(2, 9)[0]
    with torch.set_grad_enabled(bench.align.learns_at_test), bench.align.scope(2):
        assert bench.align.predict(bench.model, x).shape == (len(x), CLASSES, *x.shape[2:])


class Both(nn.Module):
    """Model and method as one module, as Lightning wraps them: its forward pass is the training step."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.model, self.align = bench.model, bench.align
        self.loss = bench.loss

    def forward(self, number: int) -> Tensor:
        return self.loss(number)


def two_steps(rank: int, place: str, names: list[str], found: Any) -> None:
    """One of two processes: trains every method on batches of its own."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2, timeout=PATIENCE)
    for name in names:
        bench = Bench(name, rank=rank)
        both = DistributedDataParallel(Both(bench), find_unused_parameters=True)
        for step in (1, 2):
            bench.optimiser.zero_grad()
            both(step).backward()
            bench.optimiser.step()
            bench.align.after_step(bench.model)
        trained = [p.detach().flatten() for p in both.module.parameters()]
        mine = torch.cat(trained)
        theirs = [torch.empty_like(mine) for _ in range(2)]
        dist.all_gather(theirs, mine)
        if rank == 0:
            found[name] = (bool(torch.equal(*theirs)), bool(mine.isfinite().all()))
    dist.destroy_process_group()


def test_two_processes_stay_one_model(tmp_path: Any) -> None:
    names = [name for name in METHODS if not make(name).uses_target_labels]
    with torch.multiprocessing.get_context("spawn").Manager() as manager:
        found = manager.dict()
        torch.multiprocessing.spawn(two_steps, (str(tmp_path / "meet"), names, found), nprocs=2)
        result = dict(found)
    assert set(result) == set(names)
    assert not (apart := [name for name, (equal, _) in result.items() if not equal]), apart
    assert all(finite for _, finite in result.values())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", [n for n in SINGLE if type(make(n)).loss is not Alignment.loss])
def test_impossible_weights_are_refused(name: str, weight: float) -> None:
    with pytest.raises(ValueError, match="weight"):
        make(name, weight)
