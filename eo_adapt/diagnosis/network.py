"""The same distances on what trained networks make of the domains: before and after alignment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..calibration import calibrated, expected_calibration_error, fit_temperature, reliability, why_not
from .distances import coral, mmd
from .probes import a_distance
from .profiles import Floats, Ints

MOST = 600  # parcels a side
CLOSER = 0.1  # A-distance by which a run is closer than the first
WORSE = 0.02  # source error by which it is worse


@dataclass(frozen=True)
class Seen:
    """One run's features of validation parcels.

    Attributes:
        name: How the run is called.
        source: (N, D) features of the sources' parcels.
        target: (M, D) features of the target's.
        block: (N,) spatial blocks.
        target_block: (M,) theirs.
        source_error: Share of source validation parcels that the network has wrong.
        source_parcels: How many.
        confidence: How far its probabilities on them can be believed; see :func:`confidence`.
    """

    name: str
    source: Floats
    target: Floats
    block: Ints
    target_block: Ints
    source_error: float
    source_parcels: int
    confidence: Mapping[str, Any]


def confidence(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    """Calibration of source validation parcels, before and after one temperature that is fitted on these same parcels.

    Args:
        logits: (N, K).
        labels: (N,) in 0..K-1.

    Returns:
        ``ece`` and ``ece_scaled``, ``temperature`` (1 where none can be fitted; ``why_not`` says why) and the bins of
        two reliability diagrams, ``reliability`` and ``reliability_scaled``; empty bins are left out.
    """
    temperature = fit_temperature(logits, labels)
    right = logits.argmax(1) == labels
    found: dict[str, Any] = {"temperature": temperature, "why_not": why_not(logits, labels)}
    for name, scale in (("", 1.0), ("_scaled", temperature)):
        probabilities = calibrated(logits, scale)
        found[f"ece{name}"] = expected_calibration_error(probabilities, right)
        found[f"reliability{name}"] = [b for b in reliability(probabilities, right) if b["count"]]
    return found


def row(seen: Seen, seed: int) -> dict[str, Any]:
    """One row of the table: distances of one run's features, standardised by the source."""
    rng = np.random.default_rng(seed)
    few = [np.sort(rng.permutation(len(x))[:MOST]) for x in (seen.source, seen.target)]
    mean, std = seen.source.mean(0), seen.source.std(0)
    live = std > 1e-6 * max(float(std.max()), 1e-12)  # a feature that is always 0 tells nothing
    a, b = ((x[f][:, live] - mean[live]) / std[live] for x, f in zip((seen.source, seen.target), few, strict=True))
    blocks = seen.block[few[0]], seen.target_block[few[1]]
    found: dict[str, Any] = {"run": seen.name}
    for kind in ("linear", "trees"):
        d = a_distance(a, b, *blocks, probe=kind, folds=3, repeats=3, seed=seed)
        found |= {f"a_{kind}": d.value, f"a_{kind}_low": d.low, f"a_{kind}_high": d.high}
    return found | {
        "mmd": mmd(a, b),
        "coral": coral(a, b, seed),
        "source_error": seen.source_error,
        "source_parcels": seen.source_parcels,
        **seen.confidence,
    }


def joint_error(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Runs whose domains came closer than the first run's while their source error rose beyond chance.

    A representation in which the domains cannot be told apart is worth nothing if the classes cannot either: the error
    on the target is bounded by the source's error, the distance, and the best error on both together (Ben-David et al.
    2010, theorem 2), and only the first two are seen.
    """
    said = []
    for other in rows[1:]:
        first = rows[0]
        fell, rose = first["a_linear"] - other["a_linear"], other["source_error"] - first["source_error"]
        variance = sum(
            r["source_error"] * (1 - r["source_error"]) / max(1, r["source_parcels"]) for r in (first, other)
        )
        if fell > CLOSER and rose > max(WORSE, 2 * variance**0.5):
            said.append(
                f"{other['run']} brings the domains closer than {first['run']} (linear A-distance "
                f"{other['a_linear']:.2f} instead of {first['a_linear']:.2f}) while its error on source validation "
                f"parcels rises from {first['source_error']:.3f} to {other['source_error']:.3f}: it may align by "
                "forgetting the classes."
            )
    return said
