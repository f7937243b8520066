"""JAN: match the joint distribution of features and class probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .base import PAIRS, Alignment, Pairing, Step, View, Views
from .gather import matched, on_features
from .mmd import Estimator, check_kernel, check_rows, divisors, draw, mixture_distances
from .options import check_choice, check_number


def jan(
    source: Sequence[Tensor],
    target: Sequence[Tensor],
    scales: Sequence[Sequence[float]],
    floors: Sequence[float] = (),
    estimator: Estimator = "u",
) -> Tensor:
    """Squared MMD of several layers together: the kernel is the product of one kernel a layer.

    Each layer's kernel is that of :func:`.mmd.mmd`, with the median of its own distances. A layer that is the same for
    all rows has the kernel 1 and changes nothing.

    Args:
        source: Rows of each layer, (N, D_l), N >= 2; row i of all layers is one sample.
        target: The same for the target, (M, D_l), M >= 2.
        scales: For each layer, factors of its median bandwidth, each > 0.
        floors: For each layer, the smallest bandwidth; empty for none.
        estimator: See :func:`.mmd.mmd`.

    Returns:
        Scalar.

    Source: Long et al. 2017 (arXiv:1605.06636), the joint MMD (``v``). Deviations: a mean of kernels where a layer has
    several scales; all pairs of rows instead of the linear-time estimate; the unbiased estimate ``u``.
    """
    check_rows("JAN", source[0], target[0])
    joint = [torch.cat(sides) for sides in zip(source, target, strict=True)]
    floors = floors or [0.0] * len(joint)
    layers = [(x, divisors(x, s, floor)) for x, s, floor in zip(joint, scales, floors, strict=True)]
    ones = [torch.ones_like(side[0][:, :1]) for side in (source, target)]
    return mixture_distances(layers, ones[0], ones[1], estimator)[0]


def _packed(view: View) -> Tensor:
    """Features and class probabilities side by side, (N, D + K)."""
    return torch.cat([view.rows(), on_features(view.logits.float().softmax(1), view.features)], 1)


class JAN(Alignment):
    """Joint adaptation network: features and class probabilities are matched together, not each alone.

    Args:
        weight: Factor of the term.
        scales: Factors of the median bandwidth of the features.
        output_scales: Factors of the median bandwidth of the class probabilities.
        floor: Smallest bandwidth of the probabilities, whose squared distances lie in [0, 2]. Once most predictions
            agree their median distance is next to 0, and the kernel would tell apart what is one class.
        estimator: See :func:`.mmd.mmd`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
        max_rows: At most this many rows a side, drawn at random: time grows with their square (maps have many).
    """

    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 1.0,
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        output_scales: Sequence[float] = (1.0,),
        floor: float = 0.1,
        estimator: Estimator = "u",
        pairing: Pairing = "pooled",
        max_rows: int = 2048,
    ) -> None:
        super().__init__(weight)
        check_kernel("jan", estimator, max_rows, scales=scales, output_scales=output_scales)
        check_choice("jan.pairing", pairing, PAIRS)
        check_number("jan.floor", floor, least=0)
        self.scales, self.floor = (tuple(scales), tuple(output_scales)), floor
        self.estimator, self.pairing, self.max_rows = estimator, pairing, max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        width = sources[0].features.shape[1]
        gaps = []
        for sides in matched([_packed(v) for v in sources], [_packed(v) for v in targets], self.pairing):
            source, target = (draw(x, self.max_rows).tensor_split([width], 1) for x in sides)
            gaps.append(jan(source, target, self.scales, (0.0, self.floor), self.estimator))
        return {"jan": torch.stack(gaps).mean()}
