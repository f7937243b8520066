"""V-REx: the same risk in every source."""

from __future__ import annotations

from torch import Tensor

from .base import Alignment, Step, Views
from .meta import joint_risks


def vrex(risks: Tensor) -> Tensor:
    """Population variance of the risks (S,).

    Source: Krueger et al. 2021 (arXiv:2003.00688), the variance of V-REx without the mean risk.
    """
    return (risks - risks.mean()).square().mean()


class VREx(Alignment):
    """Variance of the sources' risks, beside the task loss, which is their mean.

    Args:
        weight: Factor of the variance. A late start, as in the paper, is ``method=[vrex] method.ramps.vrex=late``.
    """

    needs = frozenset({"labels"})
    min_sources = 2

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__(weight)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"vrex": vrex(joint_risks(sources, step))}
