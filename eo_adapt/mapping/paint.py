"""Averaged probabilities -> what a map stores: classes, probabilities and entropy, one byte each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

NODATA = 255
TOP = 254  # byte of probability 1, and of the entropy of equal probabilities
MOST = 255  # classes that bytes can tell apart beside nodata


def layers_of(classes: int, probabilities: bool, entropy: bool) -> dict[str, int]:
    """Name of each layer -> its bands.

    Raises:
        ValueError: If there are more classes than a byte holds.
    """
    if classes > MOST:
        raise ValueError(f"a map holds up to {MOST} classes, one a byte; the checkpoint has {classes}")
    found = {"classes": 1}
    if probabilities:
        found["probabilities"] = classes
    if entropy:
        found["entropy"] = 1
    return found


def paint(mean: Tensor, seen: Tensor, layers: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Bytes of some rows.

    Args:
        mean: (K, N, W) probabilities.
        seen: (N, W) bool, pixels that there are; the others become nodata.
        layers: Which layers are wanted.

    Returns:
        Layer -> (bands, N, W) uint8.
    """
    found = {"classes": mean.argmax(0, keepdim=True)}
    if "probabilities" in layers:
        found["probabilities"] = (mean * TOP).round().clamp_(0, TOP)
    if "entropy" in layers:
        entropy = torch.special.entr(mean).sum(0, keepdim=True) / math.log(max(2, len(mean)))
        found["entropy"] = (entropy * TOP).round().clamp_(0, TOP)
    nothing = torch.tensor(NODATA, dtype=torch.uint8, device=seen.device)
    return {name: torch.where(seen, x.to(torch.uint8), nothing).cpu().numpy() for name, x in found.items()}
