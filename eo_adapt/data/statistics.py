"""Mean and standard deviation of each band, for normalisation; from source-train only, so nothing leaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..types import Observation
from .loader import Part, PartLoader, Reader


def valid_rows(observation: Observation) -> Tensor:
    """(M, C): one row of bands for each valid date (or pixel and date, or parcel for attributes)."""
    values = observation.values
    if observation.valid is None:
        return values.movedim(1, -1).flatten(0, -2)
    if observation.valid_pixels is not None:
        return values.movedim(2, -1)[observation.valid_pixels]
    return values[observation.valid]


def band_statistics(reader: Reader, parts: Sequence[Part]) -> dict[str, tuple[list[float], list[float]]]:
    """Per-band mean and standard deviation over all valid dates (and pixels), in one pass and float64.

    Args:
        reader: Where parcels come from.
        parts: Labelled training parts.

    Returns:
        Sensor -> (mean, std), one number a band, in physical units; a constant band has std 1.

    Raises:
        ValueError: If a band has no valid value at all.
    """
    sums: dict[str, Tensor] = {}
    origins: dict[str, Tensor] = {}  # moments are taken around a first value: no cancellation, constants give exactly 0
    for part in parts:
        for batch in PartLoader(reader, part, 2048):
            for name, observation in batch.inputs.items():
                x = valid_rows(observation).double()
                x = x - origins.setdefault(name, x[0] if len(x) else x.sum(0))
                moments = torch.stack([torch.full_like(x.sum(0), len(x)), x.sum(0), x.square().sum(0)]).cpu()
                sums[name] = sums[name] + moments if name in sums else moments
    return {name: _finish(name, origins[name].cpu(), *moments.unbind(0)) for name, moments in sums.items()}


def check_days(reader: Reader, domains: Mapping[str, np.ndarray]) -> None:
    """Refuse ``data.days`` in which the parcels of a domain have no date.

    Args:
        reader: Where parcels come from.
        domains: Name -> (N,) rows in the store.

    Raises:
        ValueError: Naming the domain.
    """
    for name, rows in domains.items() if reader.days else ():
        batches = PartLoader(reader, Part(torch.from_numpy(rows), None), 2048)
        if not any(look.valid is not None and look.valid.any() for b in batches for look in b.inputs.values()):
            raise ValueError(f"no parcel of {name!r} has a valid date in data.days={list(reader.days)}; widen it")


def _finish(name: str, origin: Tensor, n: Tensor, total: Tensor, squares: Tensor) -> tuple[list[float], list[float]]:
    if (n == 0).any():
        raise ValueError(f"{name} has no valid value in the labelled training parcels; check masks and split")
    mean = total / n
    std = (squares / n - mean.square()).clamp_min(0).sqrt()
    return (origin + mean).tolist(), torch.where(std > 1e-8, std, 1.0).tolist()
