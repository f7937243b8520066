"""Terms of target logits in two processes: gradients are those of one process with both batches."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from rotated import step, view
from torch import Tensor

from eo_adapt.align import Alignment
from eo_adapt.align.bnm import BNM
from eo_adapt.align.entropy import Entropy
from eo_adapt.align.infomax import InfoMax
from eo_adapt.align.mcc import MCC

SIZES = (7, 12)


def methods() -> dict[str, Alignment]:
    return {"entropy": Entropy(1.0), "infomax": InfoMax(1.0), "mcc": MCC(), "bnm": BNM()}


def batches() -> list[Tensor]:
    draw = torch.Generator().manual_seed(0)
    return [2 * torch.randn(n, 4, generator=draw) for n in SIZES]


def term(align: Alignment, logits: Tensor) -> Tensor:
    (value,) = align((), (view(logits),), step()).values()
    return value


def one_of_two(rank: int, place: str, found: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    for name, align in methods().items():
        logits = batches()[rank].requires_grad_()
        value = term(align, logits)
        (grad,) = torch.autograd.grad(value, logits)
        found[name, rank] = (value.item(), (grad / 2).tolist())  # DistributedDataParallel averages
    dist.destroy_process_group()


def test_two_processes_are_one_with_both_batches(tmp_path: Path) -> None:
    with torch.multiprocessing.get_context("spawn").Manager() as manager:
        shared = manager.dict()
        torch.multiprocessing.spawn(one_of_two, (str(tmp_path / "meet"), shared), nprocs=2)
        found = dict(shared)
    for name, align in methods().items():
        logits = torch.cat(batches()).requires_grad_()
        value = term(align, logits)
        grads = torch.autograd.grad(value, logits)[0].split(SIZES)
        for rank, grad in enumerate(grads):
            theirs, of_rank = found[name, rank]
            torch.testing.assert_close(torch.tensor(theirs), value.detach())
            torch.testing.assert_close(torch.tensor(of_rank), grad, msg=lambda text, name=name: f"{name}: {text}")
