"""Options of methods: those that cannot be meant are refused when the method is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Refuse an option that is not among the allowed ones, naming all of them."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}; got {value!r}")


def check_number(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
    whole: bool = False,
) -> None:
    """Refuse an option that is no finite (or whole) number, least <= value <= most and above < value < below."""
    number = isinstance(value, Integral if whole else Real) and math.isfinite(value)
    if not (number and least <= value <= most and above < value < below):
        bounds = ((">=", least), (">", above), ("<=", most), ("<", below))
        allowed = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))
        kind = f"a {'whole' if whole else 'finite'} number"
        raise ValueError(f"{name} must be {kind} {allowed}".rstrip() + f"; got {value!r}")
