"""Choose by several criteria at once: the candidate that most of them rank high."""

from __future__ import annotations

import importlib
import inspect
import math
import warnings
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import numpy as np
from scipy.stats import rankdata

from .base import Criterion, Outputs, SelectionError

DEFAULT = ("source_val", "infomax", "bnm", "class_ami")


def rank_average(scores: Mapping[str, Sequence[float]]) -> list[float]:
    """Mean rank of each candidate over criteria, over the number of candidates, in (0, 1]; 1 = best by all.

    Equal scores share the mean of their ranks. A score that is nan ranks below all numbers. A criterion that is nan
    everywhere says nothing and is left out.

    Args:
        scores: Criterion -> its score of each candidate, in one order for all.

    Returns:
        nan for a candidate without any score.

    Raises:
        SelectionError: If there is no criterion or no number at all, or lengths differ.
    """
    if len({len(column) for column in scores.values()}) != 1:
        lengths = {name: len(column) for name, column in scores.items()}
        raise SelectionError(f"a rank average needs criteria that scored the same candidates; got {lengths}")
    table = np.array(list(scores.values()), dtype=np.float64)  # (criteria, candidates)
    heard = table[~np.isnan(table).all(1)]
    if not heard.size:
        raise SelectionError(
            f"none of {list(scores)} gave a number for any of {table.shape[1]} candidates; choose another criterion "
            "(selection=source_val)"
        )
    ranks = rankdata(np.where(np.isnan(heard), -np.inf, heard), axis=1).mean(0) / heard.shape[1]
    ranks[np.isnan(table).all(0)] = math.nan
    return [float(rank) for rank in ranks]


class Ensemble(Criterion):
    """Rank average over candidates of several criteria's scores.

    A single candidate has no rank: :meth:`score` gives 0.0, a number because loggers want one, and only :meth:`over`
    ranks.

    Args:
        members: Names of entries of configs/selection; at least one, each once, none that sees target labels.

    Attributes:
        missing: Member -> how many of its scores were nan when candidates were ranked last.

    Raises:
        ValueError: If members are none, repeated, an ensemble, or see target labels.

    Source: rank averaging as in Hu et al. 2023 (NeurIPS, MixVal), there of two scores.
    """

    def __init__(self, members: Sequence[str] = DEFAULT) -> None:
        if not members or len(set(members)) < len(members):
            raise ValueError(f"ensemble.members must name at least one criterion, each once; got {list(members)}")
        self.members = tuple(members)
        self.missing: dict[str, int] = {}
        self._warned: set[str] = set()
        for name in members:
            found = criterion_class(name)
            if found is not None and (found.uses_target_labels or issubclass(found, Ensemble)):
                raise ValueError(
                    f"ensemble.members may not hold {name!r}, which "
                    + ("sees target labels" if found.uses_target_labels else "has no score of a single candidate")
                )

    @property
    def needs_target(self) -> bool:  # type: ignore[override]
        """Whether a member does; one that is not found under its name may, so it counts as if it did."""
        return any(found is None or found.needs_target for found in map(criterion_class, self.members))

    def score(self, sources: Sequence[Outputs], targets: Sequence[Outputs], epoch: int) -> float:
        """0.0, always: see :meth:`over`."""
        return 0.0

    def over(self, history: Mapping[str, Sequence[float]], name: str) -> list[float]:
        """Rank average of the members, see :func:`rank_average`.

        Raises:
            SelectionError: If a member is not in the history, or none gave a number.
        """
        if lost := [member for member in self.members if member not in history]:
            raise SelectionError(f"{name} ranks by {list(self.members)}; {lost} have no scores: add them to watch")
        scores = {member: history[member] for member in self.members}
        self.missing = {member: sum(map(math.isnan, column)) for member, column in scores.items()}
        ranks = rank_average(scores)
        silent = {m for m, count in self.missing.items() if count == len(scores[m])} - self._warned
        if silent:
            warnings.warn(
                f"{name} leaves out {sorted(silent)}: no number for any of {len(ranks)} candidates so far", stacklevel=2
            )
        self._warned |= silent
        return ranks


def criterion_class(name: str) -> type[Criterion] | None:
    """The criterion of the file of this name; None if there is no such file."""
    module = f"{__name__.rpartition('.')[0]}.{name}"
    if not name.isidentifier() or find_spec(module) is None:
        return None
    found = [c for c in vars(importlib.import_module(module)).values() if inspect.isclass(c) and c.__module__ == module]
    return next((c for c in found if issubclass(c, Criterion) and not inspect.isabstract(c)), None)
