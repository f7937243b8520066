"""DeepJDOT: move target features to source features of the class that they are predicted to have."""

from __future__ import annotations

import importlib
from typing import Any, Literal

import torch
from torch import Tensor

from .base import PAIRS, Alignment, Pairing, Step, View, Views
from .class_mmd import labelled_shares
from .gather import matched, on_features
from .mmd import draw, squared_distances
from .options import check_choice, check_number

Plan = Literal["exact", "sinkhorn", "unbalanced"]
PLANS = ("exact", "sinkhorn", "unbalanced")


def _pot() -> Any:
    """The POT library. By name: it is an optional extra, and this folder needs torch alone to be imported."""
    try:
        return importlib.import_module("ot")
    except ImportError as missing:
        raise ImportError(
            "deepjdot computes optimal transport with the POT library, which is not installed: "
            "pip install eo_adapt[ot], or pip install POT"
        ) from missing


def transport(cost: Tensor, plan: Plan = "exact", entropy: float = 0.05, slack: float = 0.03) -> Tensor:
    """Optimal transport plan (N, M) of a cost (N, M) between equally weighted rows, without gradient.

    Args:
        cost: (N, M), finite.
        plan: ``exact``: linear programme; all mass is moved. ``sinkhorn``: smoothed, all mass is moved.
            ``unbalanced``: smoothed; mass whose transport is expensive is left out.
        entropy: Strength of the smoothing, as a share of the largest cost.
        slack: Price of mass left out, as a share of the largest cost; ``unbalanced`` only.

    Returns:
        (N, M) >= 0. Sums to 1, to less if ``unbalanced``.
    """
    ot = _pot()
    amounts = cost.detach().double().cpu()
    amounts = amounts / amounts.max().clamp_min(torch.finfo(amounts.dtype).tiny)
    a, b = (torch.full((size,), 1 / size, dtype=amounts.dtype).numpy() for size in amounts.shape)
    if plan == "exact":
        found = ot.emd(a, b, amounts.numpy(), numItermax=1_000_000)
    elif plan == "sinkhorn":
        found = ot.sinkhorn(a, b, amounts.numpy(), entropy, warn=False)
    else:
        found = ot.unbalanced.sinkhorn_unbalanced(a, b, amounts.numpy(), entropy, slack, reg_type="kl")
    return torch.from_numpy(found).to(cost)


def deepjdot(
    source: Tensor,
    target: Tensor,
    shares: Tensor,
    log_probabilities: Tensor,
    feature_cost: float = 0.01,
    label_cost: float = 1.0,
    plan: Plan = "exact",
    entropy: float = 0.05,
    slack: float = 0.03,
) -> Tensor:
    """Cost of moving source rows with their labels onto target rows with their predictions.

    Moving row i onto row j costs feature_cost * |x_i - y_j|^2 + label_cost * cross-entropy(label of i, prediction of
    j). The plan that is cheapest now is taken as given; gradients flow through the costs.

    Args:
        source: Feature rows, (N, D).
        target: Feature rows, (M, D); M need not equal N.
        shares: Labels of the source rows, (N, K), one-hot or shares of several classes. Rows that sum to 0 are
            unlabelled and left out.
        log_probabilities: Of the target rows, (M, K).
        feature_cost: Price of a unit of squared feature distance.
        label_cost: Price of a unit of cross-entropy.
        plan: See :func:`transport`.
        entropy: See :func:`transport`.
        slack: See :func:`transport`.

    Returns:
        Scalar >= 0; 0 where no source row is labelled.

    Source: Damodaran et al. 2018 (arXiv:1803.10081), the joint cost and its two-step minimisation;
    ``unbalanced``: Fatras et al. 2021 (arXiv:2103.03606). Deviation: the source's cross-entropy is the trainer's task
    loss, not part of this term.
    """
    known = shares.sum(1)
    source, shares = source[known > 0], (shares / known[:, None])[known > 0]
    if not len(source):
        return 0.0 * target.sum()
    cost = feature_cost * squared_distances(source, target) - label_cost * shares @ log_probabilities.T
    return (transport(cost, plan, entropy, slack) * cost).sum()


class DeepJDOT(Alignment):
    """Joint distribution optimal transport between source and target batches; needs the POT library.

    Args:
        weight: Factor of the term.
        feature_cost: See :func:`deepjdot`.
        label_cost: See :func:`deepjdot`.
        plan: See :func:`transport`.
        entropy: See :func:`transport`.
        slack: See :func:`transport`.
        pairing: ``pooled`` compares all sources with all targets, ``each`` averages over all source-target pairs.
        max_rows: At most this many rows a side, drawn at random: an exact plan takes time with their cube.

    Raises:
        ImportError: If POT is not installed (``pip install eo_adapt[ot]``).
    """

    needs = frozenset({"labels"})
    needs_target = True
    on_branches = "each"

    def __init__(
        self,
        weight: float = 1.0,
        feature_cost: float = 0.01,
        label_cost: float = 1.0,
        plan: Plan = "exact",
        entropy: float = 0.05,
        slack: float = 0.03,
        pairing: Pairing = "pooled",
        max_rows: int = 512,
    ) -> None:
        super().__init__(weight)
        check_choice("deepjdot.plan", plan, PLANS)
        check_choice("deepjdot.pairing", pairing, PAIRS)
        check_number("deepjdot.feature_cost", feature_cost, least=0)
        check_number("deepjdot.label_cost", label_cost, least=0)
        check_number("deepjdot.entropy", entropy, above=0)
        check_number("deepjdot.slack", slack, above=0)
        check_number("deepjdot.max_rows", max_rows, least=1, whole=True)
        _pot()
        self.options = {"feature_cost": feature_cost, "label_cost": label_cost, "entropy": entropy, "slack": slack}
        self.plan, self.pairing, self.max_rows = plan, pairing, max_rows

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        width = sources[0].features.shape[1]
        left = [torch.cat([view.rows(), labelled_shares(view)], 1) for view in sources]
        right = [torch.cat([view.rows(), _log_probabilities(view)], 1) for view in targets]
        costs = []
        for sides in matched(left, right, self.pairing):
            (s, labels), (t, guesses) = (draw(x, self.max_rows).tensor_split([width], 1) for x in sides)
            costs.append(deepjdot(s, t, labels, guesses, plan=self.plan, **self.options))
        return {"deepjdot": torch.stack(costs).mean()}


def _log_probabilities(view: View) -> Tensor:
    """(M, K) of feature rows; over the area of a map cell their mean, so that the cost is a mean cross-entropy."""
    return on_features(view.logits.float().log_softmax(1), view.features)
