"""Style: match the Gram matrices of source and target features."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import PAIRS, Alignment, Pairing, Step, Views, pairs
from .options import check_choice


def gram(x: Tensor) -> Tensor:
    """Gram matrix (D, D) of rows (N, D), N >= 1: the mean product of each pair of channels, means included."""
    if not len(x):
        raise ValueError("a Gram matrix needs at least 1 row; got 0 (raise data.batch_size)")
    return x.T @ x / len(x)


def gram_distance(source: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the entries of two Gram matrices.

    Args:
        source: Feature rows, (N, D).
        target: Feature rows, (M, D).

    Returns:
        Scalar >= 0.

    Source: the style term of Gatys et al. 2016 (CVPR, "Image style transfer using convolutional neural networks"),
    between means over domains in place of two images.
    """
    return (gram(source) - gram(target)).square().mean()


class StyleGram(Alignment):
    """Features of sources and targets with the same Gram matrix: the same means and co-occurrences of channels.

    Unlike a covariance (``coral``) it sees a difference of means, too. Early maps hold style (``model.align_level``).

    Source: the style term of the code of GeoMultiTaskNet (Marsocci et al. 2023, arXiv:2304.07750), after Gatys et al.
    2016. Deviations: in docs/methods/style_gram.md.

    Args:
        weight: Factor of the term.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
    """

    needs_target = True
    on_branches = "each"

    def __init__(self, weight: float = 1.0, pairing: Pairing = "pooled") -> None:
        super().__init__(weight)
        check_choice("style_gram.pairing", pairing, PAIRS)
        self.pairing = pairing

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        gaps = [gram_distance(s, t) for s, t in pairs(sources, targets, self.pairing)]
        return {"style": torch.stack(gaps).mean()}
