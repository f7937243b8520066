"""Specs of a parcel table as plain mappings, as a recipe's yaml holds them, turned into the objects they mean."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from ..records import Sensor
from .parcel_rows import Long
from .parcel_values import Wide

T = TypeVar("T")


@dataclass(frozen=True)
class Outlines:
    """Where the outlines of the parcels are: in the table itself (GeoPackage, GeoParquet) or in a second file.

    Attributes:
        file: Path below the root; "" = the table itself.
        id: Column of parcel ids; "" = called as in the table.
        crs: CRS of a file that states none, e.g. "EPSG:2154".
        layer: Layer of a GeoPackage with several.
    """

    file: str = ""
    id: str = ""
    crs: str = ""
    layer: str = ""


def build(kind: type[T], spec: T | Mapping[str, Any], where: str) -> T:
    """An object of the dataclass ``kind``, from itself or from a mapping of its arguments.

    Raises:
        ValueError: If the mapping has other keys; names the nearest.
    """
    if isinstance(spec, kind):
        return spec
    if not isinstance(spec, Mapping):
        raise ValueError(f"{where} is a mapping; got {spec!r}")
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in spec:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(f"{where} has no {key!r}{f', did you mean {near[0]!r}?' if near else ';'} it has {known}")
    return kind(**spec)


def build_values(spec: Wide | Long | Mapping[str, Any], where: str) -> Wide | Long:
    """The series of one sensor; a mapping says ``layout: wide`` or ``layout: long`` besides the arguments.

    Raises:
        ValueError: If it says neither, or has unknown keys.
    """
    if isinstance(spec, Wide | Long):
        return spec
    rest = dict(spec)
    layout = rest.pop("layout", None)
    if layout not in ("wide", "long"):
        raise ValueError(f"{where} needs layout: wide or layout: long; got {layout!r}")
    rest["sensor"] = build(Sensor, rest.get("sensor", {}), f"{where}.sensor")
    return build(Wide, rest, where) if layout == "wide" else build(Long, rest, where)
