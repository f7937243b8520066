"""Time and peak memory of each alignment term, forward and backward, against the same formula written naively.

python benchmarks/align.py --quick                # CPU, 512 and 2,048 rows, 128 features
python benchmarks/align.py --device cuda          # GPU, up to 32,768 rows a side and 2,048 features
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Setup, Step, View
from eo_adapt.registry import build, names

CLASSES = 20
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0)
WANTED = ("coral", "mmd", "swd", "jan", "class_mmd", "deepjdot", "dann", "cdan", "entropy", "infomax", "mcc", "bnm")
Term = Callable[["Batch"], Tensor]


class Batch:
    """Random features and logits of a source and a target, with an offset between them."""

    def __init__(self, rows: int, width: int, device: str) -> None:
        torch.manual_seed(0)
        self.source, self.target = (torch.randn(rows, width, device=device) + d for d in (0, 0.1))
        self.zs, self.zt = (2 * torch.randn(rows, CLASSES, device=device) for _ in range(2))
        self.labels = torch.randint(CLASSES, (rows,), device=device)
        for leaf in self.leaves:
            leaf.requires_grad_()

    @property
    def leaves(self) -> list[Tensor]:
        """What gradients are taken of."""
        return [self.source, self.target, self.zs, self.zt]

    def views(self) -> tuple[View, View]:
        """As a trainer gives them to an alignment."""
        return View(self.source, self.zs, None, 0, self.labels), View(self.target, self.zt, None, 1)


def ours(name: str, rows: int, width: int, device: str) -> Term:
    """The method as configured, but with all rows."""
    options = {"max_rows": rows} if name in ("mmd", "jan", "class_mmd") else {}
    align = build("method", name, **options)
    align.attach(nn.Linear(1, 1, device=device), Setup(width, 1, 1, CLASSES))
    align.to(device)
    lent = Step(nn.Identity(), nn.CrossEntropyLoss(), lambda domain: nullcontext(), 0.5)

    def term(batch: Batch) -> Tensor:
        source, target = batch.views()
        return torch.stack(list(align((source,), (target,), lent).values())).sum()

    return term


def naive_coral(batch: Batch) -> Tensor:
    """Uncentred products, the mean taken off afterwards; always D x D."""

    def covariance(x: Tensor) -> Tensor:
        total = x.sum(0, keepdim=True)
        return (x.T @ x - total.T @ total / len(x)) / (len(x) - 1)

    return (covariance(batch.source) - covariance(batch.target)).square().sum() / (4 * batch.source.shape[1] ** 2)


def naive_kernel(x: Tensor, scales: tuple[float, ...], broadcast: bool) -> Tensor:
    """(2 N, 2 N) sum of Gaussians around the mean distance, every scale a matrix of its own."""
    apart = (x[:, None] - x[None]).square().sum(2) if broadcast else torch.cdist(x, x).square()
    bandwidth = apart.detach().mean()
    return torch.stack([torch.exp(-apart / (scale * bandwidth)) for scale in scales]).sum(0)


def quarters(kernel: Tensor, n: int) -> Tensor:
    """MMD from a kernel matrix."""
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def naive_mmd(batch: Batch, broadcast: bool) -> Tensor:
    """From the whole kernel matrix."""
    return quarters(naive_kernel(torch.cat([batch.source, batch.target]), SCALES, broadcast), len(batch.source))


def naive_jan(batch: Batch, broadcast: bool) -> Tensor:
    """From the product of two whole kernel matrices."""
    features = naive_kernel(torch.cat([batch.source, batch.target]), SCALES, broadcast)
    outputs = naive_kernel(torch.cat([batch.zs, batch.zt]).softmax(1), (1.0,), broadcast)
    return quarters(features * outputs, len(batch.source))


def naive_class_mmd(batch: Batch, broadcast: bool) -> Tensor:
    """Whole weight matrices, one class after the other."""
    kernel, n = naive_kernel(torch.cat([batch.source, batch.target]), SCALES, broadcast), len(batch.source)
    p, q = F.one_hot(batch.labels, CLASSES).float(), batch.zt.detach().softmax(1)
    value = kernel.new_zeros(())
    for c in range(CLASSES):
        a, b = p[:, c] / p[:, c].sum(), q[:, c] / q[:, c].sum()
        value = value + (torch.outer(a, a) * kernel[:n, :n] + torch.outer(b, b) * kernel[n:, n:]).sum()
        value = value - 2 * (torch.outer(a, b) * kernel[:n, n:]).sum()
    return value / CLASSES


def naive_swd(batch: Batch) -> Tensor:
    """Sorted projections of equal batches."""
    axes = F.normalize(torch.randn(batch.source.shape[1], 128, device=batch.source.device), dim=0)
    return ((batch.source @ axes).sort(0).values - (batch.target @ axes).sort(0).values).square().mean()


def naive(name: str, rows: int, width: int, limit: float) -> tuple[str, Term | None]:
    """How it is written, and the term; None where its largest tensors would not fit into ``limit`` bytes."""
    if name in ("coral", "swd"):
        return "plain", {"coral": naive_coral, "swd": naive_swd}[name]
    kinds = {"mmd": naive_mmd, "jan": naive_jan, "class_mmd": naive_class_mmd}
    if name not in kinds:
        return "", None
    pairs = 4 * (2 * rows) ** 2  # bytes of a (2 N, 2 N) matrix
    for how, matrices in (("broadcast", 4 * width), ("matrix", 40)):  # about what backward keeps
        if pairs * matrices < limit:
            return how, partial(kinds[name], broadcast=how == "broadcast")
    return "does not fit", None


def peak(device: str) -> float:
    """Largest memory so far, bytes."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def wait(device: str) -> None:
    """Until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def step(term: Term, batch: Batch, device: str) -> float:
    """Seconds of forward and backward."""
    wait(device)
    start = time.perf_counter()
    torch.autograd.grad(term(batch), batch.leaves, allow_unused=True)
    wait(device)
    return time.perf_counter() - start


def times(name: str, rows: int, width: int, device: str, limit: float, repeats: int) -> list[float]:
    """Fastest step of ours, and of the naive formula if it fits; in turns, so that a busy machine hurts both alike."""
    terms = [ours(name, rows, width, device), naive(name, rows, width, limit)[1]]
    batch = Batch(rows, width, device)
    taken = [[step(term, batch, device) for term in terms if term] for _ in range(repeats)]
    return [min(column) for column in zip(*taken, strict=True)]


def memory(name: str, which: str, rows: int, width: int, device: str, limit: float) -> float:
    """Peak bytes of one step over the batch."""
    step(ours(name, 64, 8, device), Batch(64, 8, device), device)  # loads libraries and kernels
    term = ours(name, rows, width, device) if which == "ours" else naive(name, rows, width, limit)[1]
    assert term is not None
    batch = Batch(rows, width, device)
    before = peak(device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
    step(term, batch, device)
    return peak(device) - before


def alone(work: Callable[..., Any], *asked: object) -> Any:
    """In a forked process, whose peak memory is then that of this work; a GPU is not to be forked and counts itself."""
    if "cuda" in asked:
        return work(*asked)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, asked)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="512 and 2048 rows, 128 features")
    parser.add_argument("--methods", nargs="+", default=[name for name in WANTED if name in names("method")])
    parser.add_argument("--memory", type=float, default=8.0, help="GB that a naive formula may take")
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    machine = torch.cuda.get_device_name() if asked.device == "cuda" else f"{os.cpu_count()} cores, no GPU"
    print(f"torch {torch.__version__}, {platform.machine()}, {machine}; rows are those of a side, fastest of ", end="")
    print(f"{asked.repeats} in turns, MB above the batch\n")
    print("| method | rows | D | seconds | MB | naive | seconds | MB | times faster | times smaller |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in asked.methods:
        for rows in (512, 2048) if asked.quick else (2048, 8192, 32768):
            for width in (128,) if asked.quick else (128, 512, 2048):
                print(line(name, rows, width, asked.device, 1e9 * asked.memory, asked.repeats), flush=True)


def line(name: str, rows: int, width: int, device: str, limit: float, repeats: int) -> str:
    """One row of the table."""
    seconds = alone(times, name, rows, width, device, limit, repeats)
    used = alone(memory, name, "ours", rows, width, device, limit)
    cells = [name, rows, width, f"{seconds[0]:.4f}", f"{used / 1e6:.0f}", naive(name, rows, width, limit)[0] or "none"]
    if len(seconds) == 1:
        cells += [""] * 4
    else:
        theirs = alone(memory, name, "naive", rows, width, device, limit)
        cells += [f"{seconds[1]:.4f}", f"{theirs / 1e6:.0f}", f"{seconds[1] / seconds[0]:.1f}"]
        cells += [f"{theirs / max(used, 1e6):.1f}"]
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
