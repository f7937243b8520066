"""Sliced Wasserstein distance: match features along random directions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import PAIRS, Alignment, Pairing, Step, Views, pairs
from .options import check_choice, check_number


def wasserstein_1d(x: Tensor, y: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance of the samples x (N, P) and y (M, P), column by column: (P,).

    It is the integral over u in (0, 1) of the squared difference of the two quantile functions. Those of samples are
    steps: the u-th quantile of N values is the ceil(u N)-th smallest. The integral is summed over the pieces between
    all steps of either side, cut at i / N and j / M, so it is exact for any N and M. For N = M it is the mean squared
    difference of the sorted values.
    """
    n, m = len(x), len(y)
    x, y = x.sort(0).values, y.sort(0).values
    if n == m:
        return (x - y).square().mean(0)
    cuts = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values  # of u n m: whole numbers
    widths = cuts.diff(prepend=cuts.new_zeros(1)).to(x) / (n * m)
    below = (cuts - 1).to(x.device)
    return widths @ (x[below // m] - y[below // n]).square()


def sliced_wasserstein(source: Tensor, target: Tensor, directions: int = 128) -> Tensor:
    """Mean squared 2-Wasserstein distance of rows projected on random unit vectors.

    Args:
        source: Feature rows, (N, D), N >= 1.
        target: Feature rows, (M, D), M >= 1; M need not equal N.
        directions: Number of unit vectors, drawn anew at each call by torch's generator.

    Returns:
        Scalar >= 0, in squared units of the features; 0 for the same rows. An offset c of one side alone adds
        |c|^2 / D on average over directions.

    Source: Rabin et al. 2012 (SSVM 2011), the sliced distance of two point sets, with a finite number of
    directions. Not the sliced Wasserstein *discrepancy* of Lee et al. 2019 (arXiv:1903.04064), which compares the
    outputs of two classifiers on the target.
    """
    if min(len(source), len(target)) < 1:
        raise ValueError(f"a distance needs rows on both sides; got {len(source)} and {len(target)}")
    centre = source.detach().mean(0)  # both move alike: keeps float32 digits of offset features
    axes = F.normalize(torch.randn(source.shape[1], directions, device=source.device, dtype=source.dtype), dim=0)
    return wasserstein_1d((source - centre) @ axes, (target - centre) @ axes).mean()


class SWD(Alignment):
    """Sliced Wasserstein distance of the aligned feature map; all rows count.

    Args:
        weight: Factor of the term.
        directions: See :func:`sliced_wasserstein`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
    """

    needs_target = True
    on_branches = "each"

    def __init__(self, weight: float = 1.0, directions: int = 128, pairing: Pairing = "pooled") -> None:
        super().__init__(weight)
        check_number("swd.directions", directions, least=1, whole=True)
        check_choice("swd.pairing", pairing, PAIRS)
        self.directions, self.pairing = directions, pairing

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        gaps = [sliced_wasserstein(s, t, self.directions) for s, t in pairs(sources, targets, self.pairing)]
        return {"swd": torch.stack(gaps).mean()}
