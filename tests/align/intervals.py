"""How sure a mean over seeds is, and what a toy where a method is said to help must show."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

STUDENT = {3: 4.303, 4: 3.182, 5: 2.776}  # two-sided 95 % quantile of Student's t, by the number of values
FAILS = 0.7  # a toy has a gap to close only where source-only stays below this accuracy


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of three to five values, one a seed."""
    x = torch.tensor(values, dtype=torch.float64)
    half = STUDENT[len(x)] * float(x.std()) / math.sqrt(len(x))
    return float(x.mean()) - half, float(x.mean()) + half


def gain_over(plain: Sequence[float], ours: Sequence[float]) -> tuple[float, float]:
    """Interval of the paired gain in target accuracy, seed by seed.

    Args:
        plain: Accuracy of source-only, one a seed.
        ours: Accuracy of the method, of the same seeds.

    Raises:
        AssertionError: If source-only is not below 70 %: such a toy has nothing to close.
    """
    assert sum(plain) / len(plain) < FAILS, f"source-only does not fail here: {plain}"
    return interval([mine - base for mine, base in zip(ours, plain, strict=True)])
