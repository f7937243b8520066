"""What an archive holds: acquisitions of tiles, each a set of named bands with what their numbers mean."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

Twice = Literal["error", "latest"]
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


@dataclass(frozen=True)
class Image:
    """One band of a file. Physical value = number * scale + offset.

    Attributes:
        path: File, or what GDAL opens.
        band: Its number in the file, from 1.
        nodata: Numbers that mean "nothing here", besides NaN and what the file itself declares.
        scale: Physical units per count.
        offset: Physical value of count 0.
        decibels: Whether the physical values are decibels, to be averaged as power.
    """

    path: str
    band: int = 1
    nodata: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    decibels: bool = False


@dataclass(frozen=True)
class Acquisition:
    """What one satellite saw of one tile in one pass.

    Attributes:
        sensor: Series of the store that it belongs to, such as ``s2``, ``s2_r108`` or ``s1_asc``.
        tile: Name of the tile; its images lie on the same ground.
        moment: ISO date, or date and time, in UTC. All tiles of a pass have the same.
        bands: Band name -> image.
        mask: Image that says which pixels are clear; None = all are.
        platform: Satellite, such as ``S2A``; "" = unknown.
        orbit: Relative orbit; "" = unknown.
        direction: ``asc``, ``desc`` or "".
        baseline: Processing baseline, such as ``04.00``; "" = unknown.
        family: The sensor before series were kept apart by orbit.
    """

    sensor: str
    tile: str
    moment: str
    bands: Mapping[str, Image]
    mask: Image | None = None
    platform: str = ""
    orbit: str = ""
    direction: str = ""
    baseline: str = ""
    family: str = field(default="")

    def __post_init__(self) -> None:
        if not self.family:
            object.__setattr__(self, "family", self.sensor)

    @property
    def when(self) -> tuple[str, str, str]:
        """What tells one pass from another: two passes of one day are two dates of the series."""
        return self.moment, self.platform, self.orbit

    @property
    def day(self) -> date:
        """Calendar day."""
        return date.fromisoformat(self.moment[:10])

    @property
    def name(self) -> str:
        """For people and lists."""
        words = (self.sensor, self.tile, self.moment, self.platform, self.orbit and f"orbit {self.orbit}")
        return " ".join(word for word in words if word)

    def as_json(self) -> dict[str, Any]:
        """Plain values, in the order of the class."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Acquisition:
        """What :meth:`as_json` gave, whole again."""
        images = {name: Image(**{**x, "nodata": tuple(x["nodata"])}) for name, x in plain["bands"].items()}
        mask = plain["mask"] and Image(**{**plain["mask"], "nodata": tuple(plain["mask"]["nodata"])})
        return cls(**{**plain, "bands": images, "mask": mask})


def with_bands(found: Acquisition, bands: Sequence[str], where: str) -> Acquisition:
    """The acquisition with just these bands, in this order.

    Raises:
        ValueError: If one is missing; names the nearest and all there are.
    """
    for band in bands:
        if band not in found.bands:
            near = difflib.get_close_matches(band, list(found.bands), n=1)
            hint = f", did you mean {near[0]!r}?" if near else ";"
            raise ValueError(
                f"{where} ({found.name}) has no band {band!r}{hint} it has {sorted(found.bands)}. Name the bands you "
                "want with bands=[...], or leave that image out"
            )
    return dataclasses.replace(found, bands={band: found.bands[band] for band in bands})


def once(found: Iterable[Acquisition], twice: Twice) -> list[Acquisition]:
    """One image a tile and pass, sorted by tile and time.

    Args:
        found: Acquisitions of one sensor.
        twice: What to do with a tile that has two images of the same pass: ``error``, or ``latest`` processing.

    Raises:
        ValueError: If there are two and ``twice`` is ``error``.
    """
    groups: dict[tuple[str, ...], list[Acquisition]] = defaultdict(list)
    for one in found:
        groups[(one.sensor, one.tile, *one.when)].append(one)
    many = {key: sorted(group, key=_age) for key, group in groups.items() if len(group) > 1}
    if many and twice == "error":
        first = next(iter(many.values()))
        files = sorted(next(iter(one.bands.values())).path for one in first)
        raise ValueError(
            f"{len(many)} dates occur twice, first {first[0].name}: {files[:3]}. Remove one of them, take the latest "
            "processing with twice=latest, or, if they are different passes, tell them apart by a named group (time, "
            "platform or orbit) in the pattern"
        )
    return [(many.get(key) or group)[-1] for key, group in sorted(groups.items())]


def _age(one: Acquisition) -> tuple[str, str]:
    return one.baseline, max(image.path for image in one.bands.values())


def apart(found: Iterable[Acquisition], by: str) -> list[Acquisition]:
    """Name series after what keeps them apart.

    Args:
        found: Acquisitions.
        by: ``none``, ``orbit``, ``direction`` or ``platform``.

    Raises:
        ValueError: If an image does not say what it is asked for.
    """
    if by == "none":
        return list(found)
    done = []
    for one in found:
        value: str = getattr(one, by)
        if not value:
            raise ValueError(
                f"apart={by}: nothing says the {by} of {one.name}; give the pattern a group ({by}), or apart=none"
            )
        short = f"r{int(value):03d}" if by == "orbit" and value.isdigit() else re.sub(r"\W", "", value).lower()
        done.append(dataclasses.replace(one, sensor=f"{one.sensor}_{short}", family=one.family))
    return done


def within(found: Iterable[Acquisition], dates: Sequence[Any]) -> list[Acquisition]:
    """Those of the first to the last day, both included; an empty sequence keeps all.

    Raises:
        ValueError: If ``dates`` are not two days in order.
    """
    if not dates:
        return list(found)
    try:
        first, last = (date.fromisoformat(str(day)) for day in dates)
    except ValueError as error:
        raise ValueError(f"dates=[first, last] are two days as 2021-01-31; got {list(dates)}") from error
    if last < first:
        raise ValueError(f"dates=[first, last]: {last} lies before {first}")
    return [one for one in found if first <= one.day <= last]
