"""Deep CORAL: match the covariances of source and target features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from .base import PAIRS, Alignment, Pairing, Step, Views, pairs
from .options import check_choice

Norm = Literal["paper", "mean"]
Estimator = Literal["biased", "split_half"]
NORMS, ESTIMATORS = ("paper", "mean"), ("biased", "split_half")


def _centred(x: Tensor) -> Tensor:
    """Rows (N, D), N >= 2, without their mean."""
    if x.shape[0] < 2:
        raise ValueError(
            f"a covariance needs at least 2 rows; got {x.shape[0]} (take larger batches; command line: data.batch_size)"
        )
    return x - x.mean(0)


def covariance(x: Tensor) -> Tensor:
    """Covariance (D, D) of rows (N, D), N >= 2, with n - 1; rows are centred first, so large means do no harm."""
    x = _centred(x)
    return x.T @ x / (x.shape[0] - 1)


def _inner(x: Tensor, y: Tensor) -> Tensor:
    """<X^T X / (n - 1), Y^T Y / (m - 1)> of centred rows X (N, D), Y (M, D), from their (N, M) products."""
    return (x @ y.T).square().sum() / ((x.shape[0] - 1) * (y.shape[0] - 1))


def _product(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """<C_s - C_t, C_s' - C_t'> of two (source, target) pairs of rows; with few rows no (D, D) matrix is formed."""
    if sum(map(len, first)) >= first[0].shape[1]:
        gap = covariance(first[0]) - covariance(first[1])
        other = gap if second is first else covariance(second[0]) - covariance(second[1])
        return (gap * other).sum()
    (s, t), (s_, t_) = ([_centred(x) for x in pair] for pair in (first, second))
    return _inner(s, s_) + _inner(t, t_) - (_inner(s, t_) + _inner(t, s_))


def coral(source: Tensor, target: Tensor, norm: Norm = "paper", estimator: Estimator = "biased") -> Tensor:
    """Squared Frobenius distance of two covariances.

    Args:
        source: Feature rows, (N, D).
        target: Feature rows, (M, D); M need not equal N.
        norm: ``paper`` divides by 4 D^2 (Sun & Saenko 2016); ``mean`` by D^2, which is what several libraries call
            CORAL and is 4 times larger.
        estimator: ``biased`` is the plug-in distance, whose expectation under equal distributions is not 0 (for
            N(0, I) and n rows a side 2 (d^2 + d) / (n - 1) before the norm). ``split_half`` is the product of the
            gaps of two disjoint random halves: unbiased, 0 on average under equal distributions, may be negative.

    Returns:
        Scalar. Means are not compared: a constant offset of either side changes nothing. A NaN in any row makes it NaN;
        rows are not dropped.

    Raises:
        ValueError: If a side has too few rows (2, or 4 with ``split_half``), or an option is misspelt.

    Source: Sun & Saenko 2016 (arXiv:1607.01719), eq. 1-3.
    """
    check_choice("norm", norm, NORMS)
    check_choice("estimator", estimator, ESTIMATORS)
    if estimator == "biased":
        distance = _product(both := (source, target), both)
    else:
        halves = [x[torch.randperm(len(x), device=x.device)].tensor_split(2) for x in (source, target)]
        first, second = zip(*halves, strict=True)
        distance = _product(first, second)
    return distance / ((4 if norm == "paper" else 1) * source.shape[1] ** 2)


class CORAL(Alignment):
    """Deep CORAL on the aligned feature map.

    Args:
        weight: Factor of the term. Useful values are large: the distance is divided by 4 D^2. The default of 100
            was chosen on the embedded data (docs/methods/coral.md); for ``norm=mean`` it stands for 25.
        norm: See :func:`coral`.
        estimator: See :func:`coral`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
    """

    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 100.0,
        norm: Norm = "paper",
        estimator: Estimator = "biased",
        pairing: Pairing = "pooled",
    ) -> None:
        super().__init__(weight)
        check_choice("coral.norm", norm, NORMS)
        check_choice("coral.estimator", estimator, ESTIMATORS)
        check_choice("coral.pairing", pairing, PAIRS)
        self.norm, self.estimator, self.pairing = norm, estimator, pairing

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        gaps = [coral(s, t, self.norm, self.estimator) for s, t in pairs(sources, targets, self.pairing)]
        return {"coral": torch.stack(gaps).mean()}
