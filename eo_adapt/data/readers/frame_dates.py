"""Dates of the frames of a series as French data sets publish them: ``{"0": 20180916, "1": ...}``, or that as text."""

from __future__ import annotations

import json
import re
from typing import Any

DAY = re.compile(r"(\d{4})(\d\d)(\d\d)")


def frame_dates(found: Any) -> tuple[str, ...]:
    """ISO dates in the order of the frames.

    Args:
        found: Mapping of 0, 1, 2 ... to YYYYMMDD, or such a mapping as text.

    Raises:
        ValueError: If it is none of these, or empty; the caller knows of which file and patch.
    """
    try:
        listed: dict[str, Any] = dict(json.loads(found) if isinstance(found, str) else found or {})
        order = sorted(listed, key=int)
        days = [DAY.fullmatch(str(listed[key])) for key in order]
        if not days or [int(key) for key in order] != list(range(len(days))):
            raise ValueError
        return tuple("-".join(day.groups()) for day in days)  # type: ignore[union-attr]  # None is no day: an error
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{str(found)[:60]!r}; it should be a mapping of 0, 1, 2 ... to YYYYMMDD, or such a mapping as text"
        ) from error
