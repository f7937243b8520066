"""Whether a network is being exported: shapes may then not depend on what masks say."""

from __future__ import annotations

from collections.abc import Sequence

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


def same_size(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two sizes are equal; of symbols, whether they always are, so that no graph is tied to an accident."""
    if not exporting():
        return tuple(one) == tuple(other)
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return len(one) == len(other) and all(statically_known_true(a == b) for a, b in zip(one, other, strict=True))
