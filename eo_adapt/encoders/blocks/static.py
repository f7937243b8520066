"""Whether a network is being exported: shapes may then not depend on what masks say."""

from __future__ import annotations

import torch
from torch import Tensor


def exporting() -> bool:
    """Whether torch.export is tracing the network.

    Layers then work on everything and hide afterwards what is not valid, instead of gathering what is valid first. Both
    give the same numbers in eval mode; gathering is what training needs, and faster where much is masked.
    """
    return torch.compiler.is_exporting()


def rows_or_zeros(x: Tensor, kept: Tensor) -> Tensor:
    """The same x (B, ...) with zeros in the rows where kept (B,) is False."""
    return x.where(kept.view(-1, *[1] * (x.ndim - 1)), 0.0)
