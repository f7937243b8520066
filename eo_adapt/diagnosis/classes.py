"""Which classes source and target name, and at which coarser level of HCAT they would name the same ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ..data import hcat

MOST = 20  # names listed


def differences(source: Collection[str], target: Collection[str]) -> dict[str, Any]:
    """Names of each side alone and of both; of an unlabelled target nothing is known."""
    a, b = set(source) - {""}, set(target) - {""}
    known = bool(b)
    return {
        "known": known,
        "shared": sorted(a & b) if known else [],
        "source_only": sorted(a - b) if known else [],
        "target_only": sorted(b - a) if known else [],
    }


def coarser(source: Collection[str], target: Collection[str]) -> dict[str, Any]:
    """The finest ``data.coarsen`` at which the target has no class that the source lacks.

    Args:
        source: HCAT codes of the source's classes.
        target: HCAT codes of the target's.

    Returns:
        ``option`` (``shared``, ``"5"``..``"1"`` or "" if none does, or there are no codes), ``classes`` left in the
        target, and ``joined``: code name -> coarser name, for target codes that only so become a source's.
    """
    a, b = set(source) - {""}, set(target) - {""}
    nothing = {"option": "", "classes": 0, "joined": {}}
    if not a or not b or not (b - a):
        return nothing
    spelt = hcat.names()
    best: tuple[int, str, dict[str, str]] | None = None
    for option in ("shared", "5", "4", "3", "2", "1"):
        if option == "shared":
            new = hcat.shared_depth({"source": a, "target": b}, unspecified="parent")
        else:
            every = sorted(a | b)
            new = dict(zip(every, hcat.coarsen(every, int(option)), strict=True))
        left = {new[code] for code in b}
        if left <= {new[code] for code in a} and (best is None or len(left) > best[0]):
            joined = {spelt.get(c, c): spelt.get(new[c], new[c]) for c in sorted(b - a)}
            best = len(left), option, joined
    return nothing if best is None else {"option": best[1], "classes": best[0], "joined": best[2]}
