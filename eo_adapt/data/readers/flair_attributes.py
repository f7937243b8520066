"""When, where and with which camera a FLAIR patch was taken, as numbers: the metadata that U-T&T reads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

TIME = re.compile(r"(\d{1,2})h(\d{2})?")


def attributes_of(names: Sequence[str], about: Mapping[str, Any], key: str) -> dict[str, float]:
    """Numbers of one patch.

    The publisher's code (Garioud et al. 2023, arXiv:2310.13336) gives 45 numbers: altitude, camera, year, date, time
    and a sine code of the place. Deviations: the place is plain metres, as that code moves by 0.01 over France; the
    year is left out, as it tells the domains apart and little else; days and hours are a circle each.

    Args:
        names: Which, of :data:`KINDS`.
        about: The patch's entry in the metadata, with its centroid.
        key: The patch, for messages.

    Returns:
        Name -> number. altitude: metres. season, hour: sine and cosine. camera: 1 of an UltraCam (``UCE...``), else 0.
        place: metres of EPSG:2154.

    Raises:
        ValueError: If the metadata do not tell; says what they have.
    """
    found: dict[str, float] = {}
    for name in names:
        field, read = KINDS[name]
        try:
            found |= read(about)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{key}: its metadata have {field}={about.get(field)!r}, from which {name!r} cannot be read: leave "
                f"{name} out of the reader's attributes, or correct {field}"
            ) from error
    return found


def _altitude(about: Mapping[str, Any]) -> dict[str, float]:
    return {"altitude": _number(about["patch_centroid_z"])}


def _season(about: Mapping[str, Any]) -> dict[str, float]:
    day = date.fromisoformat(about["date"])
    return _circle("season", (day.timetuple().tm_yday - 1) / 365.25)


def _hour(about: Mapping[str, Any]) -> dict[str, float]:
    match = TIME.fullmatch(str(about["time"]).strip())
    if match is None:
        raise ValueError(about["time"])
    return _circle("hour", (int(match[1]) + int(match[2] or 0) / 60) / 24)  # 24h00 is midnight


def _camera(about: Mapping[str, Any]) -> dict[str, float]:
    if not about["camera"]:
        raise ValueError("no camera")
    return {"camera": float(str(about["camera"]).startswith("UCE"))}


def _place(about: Mapping[str, Any]) -> dict[str, float]:
    return {"x": _number(about["patch_centroid_x"]), "y": _number(about["patch_centroid_y"])}


def _circle(name: str, turn: float) -> dict[str, float]:
    return {f"{name}_sin": math.sin(2 * math.pi * turn), f"{name}_cos": math.cos(2 * math.pi * turn)}


def _number(value: Any) -> float:
    if not math.isfinite(found := float(value)):
        raise ValueError(value)
    return found


KINDS: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], dict[str, float]]]] = {
    "altitude": ("patch_centroid_z", _altitude),
    "season": ("date", _season),
    "hour": ("time", _hour),
    "camera": ("camera", _camera),
    "place": ("patch_centroid_x", _place),
}
