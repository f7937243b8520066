"""Refuse NaN and infinite rows before something that lasts is made of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_finite(who: str, what: str, rows: Sequence[tuple[str, Tensor]]) -> None:
    """Refuse rows with NaN or infinite numbers; all are looked at in one go, for each answer waits for the device.

    Args:
        who: The method, for the message.
        what: What the rows are, in the plural.
        rows: Pairs of where they come from and rows (N, D).

    Raises:
        ValueError: Saying where, and how many of how many.
    """
    if not rows:
        return
    counts = torch.stack([(~x.isfinite()).any(1).sum() for _, x in rows]).tolist()
    if bad := [f"{count} of {len(x)} in {where}" for count, (where, x) in zip(counts, rows, strict=True) if count]:
        raise ValueError(
            f"{who} was given {what} with NaN or infinite numbers: {', '.join(bad)}. Nothing was learnt from them; "
            "look at the inputs of those samples (bands, dates, masks), or lower the learning rate if it is the network"
        )
