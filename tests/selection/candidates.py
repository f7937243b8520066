"""Outputs that the tests of criteria share."""

from __future__ import annotations

import torch

from eo_adapt.selection.base import Outputs

NAN = float("nan")


def outputs(
    seed: int, labels: bool = True, n: int = 40, k: int = 5, d: int = 8, offset: float = 0.0, probes: bool = True
) -> Outputs:
    """Random logits, labels, features around ``offset``, and what MixVal would have found."""
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, k, generator=g) * 3
    truth = torch.randint(k, (n,), generator=g)
    features = torch.randn(n, d, generator=g) + offset
    looks = torch.randint(2, (n, 2), generator=g).float()
    kept = dict.fromkeys(("mixval", "mixval_intra", "mixval_inter"), looks) if probes else {}
    return Outputs(logits, truth if labels else None, features, kept)


def one_hot(labels: list[int], k: int, sure: float = 60.0) -> torch.Tensor:
    """Logits (N, K) of a model that has no doubts."""
    return torch.nn.functional.one_hot(torch.tensor(labels), k).double() * sure
