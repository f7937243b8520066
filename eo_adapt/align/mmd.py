"""Maximum mean discrepancy with a mixture of Gaussian kernels, computed in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import PAIRS, Alignment, Pairing, Step, Views, pairs
from .options import check_choice, check_number

Estimator = Literal["u", "v"]
ESTIMATORS = ("u", "v")
SAMPLE = 2048  # rows whose distances give the bandwidth
CELLS = 2**21  # of the kernel matrix that are held at a time: 8 MB a matrix in float32


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """(N, M) squared Euclidean distances, after removing the joint mean (keeps float32 digits of offset features)."""
    centre = torch.cat([x, y]).mean(0)
    x, y = x - centre, y - centre
    return (x.square().sum(1)[:, None] + y.square().sum(1)[None] - 2 * x @ y.T).clamp_min(0)


def median_bandwidth(x: Tensor) -> Tensor:
    """Median squared distance between different rows of x (N, D), detached.

    Of more than 2048 rows, 2048 drawn at random are looked at. Never below what rounding makes of such rows: it grows
    with their scale as the distances do, so a collapsed batch gives no huge gradient and features in small units are
    not taken for a collapsed batch.
    """
    x = draw(x.detach(), SAMPLE)
    n, eps = len(x), torch.finfo(x.dtype).eps
    distances = squared_distances(x, x).fill_diagonal_(torch.inf)  # last in order: the median of the rest
    median = distances.flatten().kthvalue((n * (n - 1) - 1) // 2 + 1).values
    rounding = eps * x.square().sum(1).mean()
    return torch.maximum(median, rounding).clamp_min(eps**2)


class _KernelSums(torch.autograd.Function):
    """W^T K W for weights W (N, C) and the kernel matrix K (N, N) of N rows, of which only a few rows exist at a time.

    K is the product over layers of means of Gaussians. Each layer is given as rows z (N, D), centred, and the divisors
    of its squared distances (S,). Gradients reach z alone; they recompute K block by block.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, *layers: Tensor) -> Tensor:
        ctx.save_for_backward(weights, *layers)
        sums = weights.new_zeros(weights.shape[1], weights.shape[1])
        for rows in _blocks(len(weights)):
            factors = [_gaussians(_distances(z, rows), s) for z, s in zip(layers[::2], layers[1::2], strict=True)]
            part = weights[rows].T @ (_half_own(reduce(torch.mul, factors)) @ weights[rows.start :])
            sums += part + part.T
        return sums

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weights, *layers = ctx.saved_tensors
        both = grads[0] + grads[0].T
        slopes = [torch.zeros_like(z) for z in layers[::2]]
        with torch.autocast(weights.device.type, enabled=False):
            for rows in _blocks(len(weights)):
                pull = _half_own(2 * weights[rows] @ (both @ weights[rows.start :].T))  # d value / d K, times 4
                apart = [_distances(z, rows) for z in layers[::2]]
                for i, (z, divisors) in enumerate(zip(layers[::2], layers[1::2], strict=True)):
                    force = pull * _gaussians(apart[i], divisors, slope=True)
                    for j in range(len(apart)):
                        force = force * _gaussians(apart[j], layers[2 * j + 1]) if j != i else force
                    near, far = z[rows], z[rows.start :]
                    slopes[i][rows] += force.sum(1)[:, None] * near - force @ far
                    slopes[i][rows.start :] += force.sum(0)[:, None] * far - force.T @ near
        return None, *(grad for slope in slopes for grad in (slope, None))


def _blocks(n: int) -> Iterator[slice]:
    """Rows of the upper triangle of an (n, n) matrix, a few at a time; columns before the first row are left out."""
    step = max(1, CELLS // n)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _half_own(block: Tensor) -> Tensor:
    """Halves the square at the front of a block in place: block plus transpose then counts every pair once."""
    block[:, : len(block)] *= 0.5
    return block


def _distances(z: Tensor, rows: slice) -> Tensor:
    """Squared distances of some rows to themselves and all rows after them; exactly 0 to themselves."""
    near, far = z[rows], z[rows.start :]
    apart = torch.addmm(far.square().sum(1)[None], near, far.T, alpha=-2)
    apart.add_(near.square().sum(1)[:, None]).clamp_min_(0)
    apart[:, : len(near)].fill_diagonal_(0)
    return apart


def _gaussians(distances: Tensor, divisors: Tensor, slope: bool = False) -> Tensor:
    """Mean over divisors s of exp(-distance / s), or its derivative with respect to the distance."""
    total = torch.zeros_like(distances)
    for divisor in divisors:
        value = (distances / -divisor).exp_()
        total += value / -divisor if slope else value
    return total / len(divisors)


def mixture_distances(
    layers: Sequence[tuple[Tensor, Tensor]], source: Tensor, target: Tensor, estimator: Estimator
) -> Tensor:
    """Squared MMD between mixtures of rows, for several pairs of mixtures at once.

    Args:
        layers: For each factor of the kernel: rows of source and target (N + M, D), and the divisors (S,) of their
            squared distances in the mean of S Gaussians.
        source: (N, C) >= 0: column c says how much each source row counts in the c-th mixture.
        target: (M, C), the same.
        estimator: ``v`` takes all pairs of rows, ``u`` leaves out each row's pair with itself. With equal weights these
            are the usual two estimators. With ``u`` a mixture of one row has no pair and counts as 0 within itself.

    Returns:
        (C,). No gradient with respect to weights and divisors.
    """
    s, t = (w.detach() / w.detach().sum(0).clamp_min(torch.finfo(w.dtype).tiny) for w in (source, target))
    count = s.shape[1]
    weights = torch.cat([F.pad(s, (0, count)), F.pad(t, (count, 0))])  # (N + M, 2 C), a side in each half
    centred = [x for rows, divisors in layers for x in (rows - rows.detach().mean(0), divisors)]
    sums: Tensor = _KernelSums.apply(weights, *centred)
    within, across = sums.diagonal(), sums.diagonal(count)
    if estimator == "u":
        own = weights.square().sum(0)  # k(x, x) = 1
        within = (within - own) / (1 - own).clamp_min(torch.finfo(own.dtype).eps)
    return within[:count] + within[count:] - 2 * across


def mmd(
    source: Tensor, target: Tensor, scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0), estimator: Estimator = "u"
) -> Tensor:
    """Squared MMD under the mean of Gaussian kernels k(x, y) = exp(-|x - y|^2 / (scale * m)).

    m is the median squared distance between different rows of the joint sample, without gradient, so the value does
    not change when all features are multiplied by one number. Memory grows with N + M, time with its square.

    Args:
        source: Feature rows, (N, D), N >= 2.
        target: Feature rows, (M, D), M >= 2; M need not equal N.
        scales: Factors of the median bandwidth, each > 0.
        estimator: ``u`` leaves out the diagonals: unbiased, 0 on average under equal distributions, may be negative.
            ``v`` keeps them: never negative, exactly 0 on identical samples, biased upwards.

    Returns:
        Scalar.

    Source: Gretton et al. 2012 (JMLR 13), eq. 3 (u) and eq. 5 (v); kernels as in Long et al. 2015
    (arXiv:1502.02791), averaged here, not summed.
    """
    check_choice("estimator", estimator, ESTIMATORS)
    check_rows("MMD", source, target)
    joint = torch.cat([source, target])
    layers = [(joint, divisors(joint, scales))]
    return mixture_distances(layers, torch.ones_like(source[:, :1]), torch.ones_like(target[:, :1]), estimator)[0]


def divisors(rows: Tensor, scales: Sequence[float], floor: float = 0.0) -> Tensor:
    """(S,) what squared distances of rows (N, D) are divided by: scales times the median, which is at least floor."""
    return rows.new_tensor(list(scales)) * median_bandwidth(rows).clamp_min(floor)


def check_rows(name: str, source: Tensor, target: Tensor) -> None:
    """Refuse a side of less than two rows."""
    if min(len(source), len(target)) < 2:
        raise ValueError(
            f"{name} needs at least 2 rows a side; got {len(source)} and {len(target)} (take larger batches; command "
            "line: data.batch_size)"
        )


def check_kernel(name: str, estimator: str, max_rows: int, **scales: Sequence[float]) -> None:
    """Refuse impossible options of a kernel method, at construction."""
    check_choice(f"{name}.estimator", estimator, ESTIMATORS)
    for option, factors in scales.items():
        if not factors:
            raise ValueError(f"{name}.{option} needs at least one factor; got none")
        for factor in factors:
            check_number(f"each of {name}.{option}", factor, above=0)
    check_number(f"{name}.max_rows", max_rows, least=2, whole=True)


def draw(x: Tensor, count: int) -> Tensor:
    """At most ``count`` rows of x, at random."""
    return x if len(x) <= count else x[torch.randperm(len(x), device=x.device)[:count]]


class MMD(Alignment):
    """Multi-kernel MMD on the aligned feature map.

    Args:
        weight: Factor of the term.
        scales: See :func:`mmd`.
        estimator: See :func:`mmd`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
        max_rows: At most this many rows a side, drawn at random: time grows with their square (maps have many).
    """

    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 1.0,
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        estimator: Estimator = "u",
        pairing: Pairing = "pooled",
        max_rows: int = 2048,
    ) -> None:
        super().__init__(weight)
        check_kernel("mmd", estimator, max_rows, scales=scales)
        check_choice("mmd.pairing", pairing, PAIRS)
        self.scales, self.estimator, self.pairing, self.max_rows = tuple(scales), estimator, pairing, max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        gaps = [
            mmd(draw(s, self.max_rows), draw(t, self.max_rows), self.scales, self.estimator)
            for s, t in pairs(sources, targets, self.pairing)
        ]
        return {"mmd": torch.stack(gaps).mean()}
