"""Class-conditional MMD: match features class by class, by pseudo-labels of the target."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .base import PAIRS, Alignment, Pairing, Step, View, Views
from .gather import matched, on_features
from .mmd import Estimator, check_kernel, check_rows, divisors, draw, mixture_distances
from .options import check_choice, check_number
from .shapes import labels_of


def class_mmd(
    source: Tensor,
    target: Tensor,
    source_shares: Tensor,
    target_shares: Tensor,
    scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
    estimator: Estimator = "u",
    min_rows: float = 2.0,
) -> Tensor:
    """Mean over classes of the squared MMD between source and target rows of that class.

    A row counts in a class by its share of it; shares of a class are divided by their sum on that side, so that class
    frequencies cancel. One bandwidth serves all classes, the median over all rows, as in :func:`.mmd.mmd`.

    Args:
        source: Feature rows, (N, D), N >= 2.
        target: Feature rows, (M, D), M >= 2.
        source_shares: (N, K) in [0, 1]: one-hot labels, 0 everywhere where unknown.
        target_shares: (M, K) in [0, 1]: class probabilities. No gradient reaches them.
        scales: Factors of the median bandwidth, each > 0.
        estimator: ``u``: each row's pair with itself is left out, so classes of equal distribution give 0 on average.
            ``v`` keeps them: never negative, the paper's, biased upwards where a class has few rows.
        min_rows: A class takes part where its shares add up to at least this many rows on both sides.

    Returns:
        Scalar; 0 where no class takes part.

    Source: Zhu et al. 2020 (arXiv:2106.09388), the local MMD (v). Deviations: kernels are averaged, not summed, around
    a median bandwidth; the unbiased estimate ``u``; soft pseudo-labels decide which classes take part, too.
    """
    check_rows("class_mmd", source, target)
    joint = torch.cat([source, target])
    layers = [(joint, divisors(joint, scales))]
    distances = mixture_distances(layers, source_shares, target_shares, estimator)
    present = torch.minimum(source_shares.sum(0), target_shares.sum(0)) >= min_rows
    return (distances * present).sum() / present.sum().clamp_min(1)


class ClassMMD(Alignment):
    """Class-conditional MMD: unequal class frequencies cost nothing, unlike in a marginal alignment.

    It is as good as its pseudo-labels: a ramp (of a stack) lets the task come first.

    Args:
        weight: Factor of the term.
        scales: See :func:`class_mmd`.
        estimator: See :func:`class_mmd`.
        confidence: Target rows whose largest class probability is below this count in no class; 0 keeps all.
        min_rows: See :func:`class_mmd`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
        max_rows: At most this many rows a side, drawn at random: time grows with their square (maps have many).
    """

    needs = frozenset({"labels"})
    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 1.0,
        scales: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        estimator: Estimator = "u",
        confidence: float = 0.8,
        min_rows: float = 2.0,
        pairing: Pairing = "pooled",
        max_rows: int = 2048,
    ) -> None:
        super().__init__(weight)
        check_kernel("class_mmd", estimator, max_rows, scales=scales)
        check_choice("class_mmd.pairing", pairing, PAIRS)
        check_number("class_mmd.confidence", confidence, least=0, below=1)
        check_number("class_mmd.min_rows", min_rows, least=2)  # a pair
        self.scales, self.estimator, self.confidence = tuple(scales), estimator, confidence
        self.min_rows, self.pairing, self.max_rows = min_rows, pairing, max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        width = sources[0].features.shape[1]
        left = [torch.cat([view.rows(), labelled_shares(view)], 1) for view in sources]
        right = [torch.cat([view.rows(), self._predicted(view)], 1) for view in targets]
        gaps = []
        for sides in matched(left, right, self.pairing):
            (s, labels), (t, guesses) = (draw(x, self.max_rows).tensor_split([width], 1) for x in sides)
            gaps.append(class_mmd(s, t, labels, guesses, self.scales, self.estimator, self.min_rows))
        return {"class_mmd": torch.stack(gaps).mean()}

    def _predicted(self, view: View) -> Tensor:
        """(M, K) class probabilities of feature rows, without gradient; 0 everywhere where not confident."""
        shares = on_features(view.logits.detach().float().softmax(1), view.features)
        return shares * (shares.amax(1, keepdim=True) >= self.confidence)


def labelled_shares(view: View) -> Tensor:
    """(N, K) share of each class in the labels of a feature row; unknown labels have no class, so shares may miss 1."""
    labels = labels_of(view, "a comparison by class")
    known = labels >= 0
    one_hot = F.one_hot(labels.where(known, 0), view.logits.shape[1]).movedim(-1, 1).float()
    return on_features(one_hot * known.unsqueeze(1), view.features)
