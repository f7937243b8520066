"""Choose by MixVal: mixtures of two target samples should be predicted like their larger part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ..types import Inputs, Output
from .base import Criterion, Outputs, Predict, SelectionError
from .check import mean_over, sound
from .mixing import mix

Pairs = Literal["both", "intra", "inter"]
PAIRS = ("both", "intra", "inter")


def partners(labels: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    """For each sample of a batch one partner of the same pseudo label and one of another, -1 where there is none.

    All samples are put into a circle in random order; a sample's partners are the next ones of either kind. So nobody
    is its own partner, and everybody of a class has a partner in it as soon as there are two.

    Args:
        labels: (B,) int64.
        seed: Of the order; the generator is local, so that training draws as if nothing had happened.

    Returns:
        (B,) int64 each, on the CPU.
    """
    count, labels = len(labels), labels.cpu()
    place = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    steps = (place - place[:, None]) % count  # from row to column around the circle; 0 = itself
    same = labels == labels[:, None]
    return _nearest(steps, same & (steps > 0)), _nearest(steps, ~same)


def _nearest(steps: Tensor, allowed: Tensor) -> Tensor:
    distance, at = steps.masked_fill(~allowed, len(steps)).min(1)
    return torch.where(distance < len(steps), at, -1)


def interpolation_consistency(probes: Tensor) -> tuple[float, float]:
    """Share of mixtures that are predicted like their larger part: (intra-cluster, inter-cluster), in [0, 1].

    Args:
        probes: (N, 2) of each sample's mixture with a partner of the same pseudo label and of another; nan = none.

    Returns:
        nan where no sample had such a partner: a model that calls everything by one name has no inter-cluster score.

    Source: Hu et al. 2023 (NeurIPS, "Mixed Samples as Probes for Unsupervised Model Selection in Domain Adaptation"),
    algorithm 1, ICE scores.
    """
    intra, inter = probes.double().nanmean(0).tolist()
    return intra, inter


class MixVal(Criterion):
    """MixVal on target-val, averaged over target domains.

    Each target sample is mixed with a partner of its batch, once with one of the same pseudo label (is the
    neighbourhood dense?), once with one of another (is the boundary far?), and the prediction of the mixture is
    compared with the pseudo label of the larger part. That costs one more forward pass of target-val for each kind.

    Deviations from the paper: it averages the *ranks* of the two scores over candidates, ``both`` averages the scores,
    so that one candidate has a score of its own; ``selection=ensemble selection.members=[mixval_intra,mixval_inter]``
    ranks as the paper does. It pairs at random and keeps the pairs of each kind; here every sample gets a partner of
    each kind. A model without pairs of a kind gets no score. Time series are brought to common dates, see
    :mod:`.mixing`. Maps are mixed whole, with one partner each, and every pixel pair is of one kind or the other.

    Args:
        pairs: Which kind counts: ``both`` averages the two scores.
        share: Of the sample itself in the mixture, in (0.5, 1); the paper's lambda, 0.55.
        seed: Of the choice of partners.
        name: What this entry is called in configs/selection; its probes are kept under this name.

    Raises:
        ValueError: If an option is out of range.
    """

    needs_target = True

    def __init__(self, pairs: Pairs = "both", share: float = 0.55, seed: int = 0, name: str = "mixval") -> None:
        if pairs not in PAIRS:
            raise ValueError(f"mixval.pairs must be one of {list(PAIRS)}; got {pairs!r}")
        if not 0.5 < share < 1:
            raise ValueError(f"mixval.share must be above 0.5 and below 1, so that one part is larger; got {share}")
        self.pairs, self.share, self.seed, self.name = pairs, share, seed, name

    def probe(self, inputs: Inputs, output: Output, predict: Predict) -> Tensor:
        """(B, 2) float32: share of intra- and inter-cluster mixtures that agree (of a sample 0 or 1); nan = none."""
        labels = output.logits.argmax(1)
        none = torch.full((len(labels),), math.nan)
        columns = {"intra": none, "inter": none}
        for partner, kinds in self._passes(labels):
            if bool((partner >= 0).any()):
                found = self._predict(inputs, partner, predict)
                columns |= {kind: _agreement(found, labels, partner, kind == "intra") for kind in kinds}
        return torch.stack([columns["intra"], columns["inter"]], 1)

    def _passes(self, labels: Tensor) -> list[tuple[Tensor, tuple[str, ...]]]:
        """Partners of each forward pass, and the kinds of pairs that it tells of: of maps both, of one partner each."""
        wanted = ("intra", "inter") if self.pairs == "both" else (self.pairs,)
        if labels.ndim > 1:
            return [(partners(torch.zeros(len(labels)), self.seed)[0], wanted)]
        intra, inter = partners(labels, self.seed)
        return [(partner, (kind,)) for partner, kind in ((intra, "intra"), (inter, "inter")) if kind in wanted]

    def _predict(self, inputs: Inputs, partner: Tensor, predict: Predict) -> Tensor:
        """Labels of mixtures, -1 where the logits are no numbers; a sample without a partner is mixed with itself."""
        partner = torch.where(partner < 0, torch.arange(len(partner)), partner)
        with torch.no_grad():
            logits = predict(mix(inputs, partner, self.share))
        return torch.where(logits.isnan().any(1), -1, logits.argmax(1))

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        return mean_over(targets, "target", self.name, self._score)

    def _score(self, target: Outputs) -> float:
        if self.name not in target.probes:
            raise SelectionError(
                f"{self.name} needs its probes of target-val under that name; there are {sorted(target.probes)}: set "
                "its option `name` to what the entry is called in configs/selection"
            )
        if not sound(target.logits):
            return math.nan
        intra, inter = interpolation_consistency(target.probes[self.name])
        return {"intra": intra, "inter": inter, "both": (intra + inter) / 2}[self.pairs]


def _agreement(found: Tensor, labels: Tensor, partner: Tensor, same: bool) -> Tensor:
    """(B,) share of a sample's places whose mixture is predicted as before, of those with pairs of one kind."""
    there = partner.to(labels.device)
    place = (labels[there] == labels) == same
    place &= (there >= 0).view(-1, *[1] * (labels.ndim - 1))
    place, hit = place.reshape(len(labels), -1), (found == labels).reshape(len(labels), -1)
    return ((hit & place).sum(1) / place.sum(1)).float().cpu()
