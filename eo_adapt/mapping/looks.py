"""Which files, dates and bands of a scene are what a checkpoint was trained on: by name, never by position."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date as Date
from pathlib import Path
from typing import Any

from ..data.scenes.raster import opened
from ..data.scenes.records import Imagery

DATED = re.compile(r"(?P<band>[^|]+)\|(?P<date>\d{4}-\d{2}-\d{2})")  # what files of many dates call their bands
DIGITS = r"(\d{4})-?(\d{2})-?(\d{2})"
KEYS = ("path", "bands", "dates", "masks")


@dataclass(frozen=True)
class Entry:
    """What a user says of one sensor.

    Attributes:
        path: A file; of a series a pattern with ``{date}`` (YYYYMMDD or YYYY-MM-DD), one file a date, or one file.
        bands: Names of the file's bands (of one date), in its order; or trained name -> name in the file; () = as the
            file describes them.
        dates: ISO dates of a file that holds a series date by date; () = as its bands or files are called.
        masks: Pattern with ``{date}`` of masks of a series (clouds), on its grid; "" = none.
    """

    path: str
    bands: Sequence[str] | Mapping[str, str] = ()
    dates: Sequence[str] = ()
    masks: str = ""


@dataclass(frozen=True)
class Frame:
    """One sensor's image of one date.

    Attributes:
        path: Its file.
        numbers: 1-based numbers of the bands, as :attr:`Look.imagery` names them.
        date: ISO; "" of an image without date.
        mask: File of its mask; "" = none.
    """

    path: str
    numbers: tuple[int, ...]
    date: str = ""
    mask: str = ""


@dataclass(frozen=True)
class Look:
    """One sensor's files of a scene, found to fit.

    Attributes:
        name: The sensor.
        imagery: How numbers are to be read; its bands are those that are there.
        wanted: Positions in its bands of those that the network reads, in the network's order.
        frames: By date. Empty for an optional sensor that the scene lacks.
    """

    name: str
    imagery: Imagery
    wanted: tuple[int, ...]
    frames: tuple[Frame, ...] = field(default=())


def entries(given: Any, sensors: Mapping[str, Imagery], bands: Any = ()) -> dict[str, Entry]:
    """What a user gave as input, by sensor.

    Args:
        given: A path, or sensor -> path or mapping with the keys of :class:`Entry`.
        sensors: Those of the checkpoint.
        bands: Names of bands, or sensor -> those; where ``given`` does not say.

    Raises:
        ValueError: If sensors are missing or unknown, or a key is.
    """
    needed = [name for name, imagery in sensors.items() if not imagery.optional]
    if not isinstance(given, Mapping):
        if len(needed) != 1:
            raise ValueError(
                f"the checkpoint reads several sensors, {list(sensors)}; say which file is whose: "
                + " ".join(f"input.{name}=<...>" for name in needed)
            )
        given = {needed[0]: str(given)}
    if unknown := sorted(set(given) - set(sensors)):
        raise ValueError(f"input names the sensors {unknown}; the checkpoint reads {list(sensors)}")
    if missing := [name for name in needed if name not in given]:
        raise ValueError(f"input lacks the sensors {missing}: add " + " ".join(f"input.{n}=<...>" for n in missing))
    named = bands if _by_sensor(bands, sensors) else dict.fromkeys(given, bands)
    return {name: _entry(name, spec, named.get(name, ())) for name, spec in given.items()}


def _by_sensor(bands: Any, sensors: Mapping[str, Imagery]) -> bool:
    return isinstance(bands, Mapping) and bool(bands) and set(bands) <= set(sensors)


def _entry(name: str, spec: Any, bands: Any) -> Entry:
    if not isinstance(spec, Mapping):
        return Entry(str(spec), bands)
    if odd := sorted(set(spec) - set(KEYS)):
        raise ValueError(f"input.{name} has unknown keys {odd}; it has {list(KEYS)}")
    if "path" not in spec:
        raise ValueError(f"input.{name} lacks path; it has {list(KEYS)}")
    dates = tuple(_iso(str(d), f"input.{name}.dates") for d in spec.get("dates", ()))
    return Entry(str(spec["path"]), spec.get("bands", bands), dates, str(spec.get("masks", "")))


def find(name: str, entry: Entry | None, imagery: Imagery, wanted: Sequence[str]) -> Look:
    """The files of one sensor, their bands matched by name.

    Raises:
        ValueError: If a band is missing, the file holds another type, or dates are missing or twice.
        FileNotFoundError: If there is no file.
    """
    if imagery.kind == "points":
        raise ValueError(
            f"the checkpoint reads points ({name}); maps are made of images. Train on bands of the scans (data=lidar)"
        )
    if entry is None:
        kept = replace(imagery, bands=tuple(wanted), minus=())
        return Look(name, kept, tuple(range(len(wanted))))
    frames = _series(name, entry, imagery) if imagery.series else [_image(name, entry)]
    known = _match(name, frames[0][0], frames[0][1], imagery, wanted)[0]
    found = []
    for path, names, date, mask in frames:
        _check_type(name, path, imagery)
        found.append(Frame(path, _match(name, path, names, imagery, wanted)[1], date, mask))
    minus = imagery.minus if len(known) == len(imagery.bands) else ()
    dates = [frame.date for frame in found]
    if twice := sorted({d for d in dates if d and dates.count(d) > 1}):
        raise ValueError(
            f"{entry.path} has the dates {twice} more than once; leave one of each out (another pattern, or files "
            "of one orbit or tile)"
        )
    kept = replace(imagery, bands=known, minus=minus)
    return Look(name, kept, tuple(known.index(band) for band in wanted), tuple(sorted(found, key=lambda f: f.date)))


Named = tuple[str, dict[str, int], str, str]  # path, band name -> number, date, path of the mask


def _image(name: str, entry: Entry) -> Named:
    with opened(Path(entry.path)) as file:
        return entry.path, _names(name, entry, [d or "" for d in file.descriptions]), "", ""


def _series(name: str, entry: Entry, imagery: Imagery) -> list[Named]:
    if "{date}" in entry.path:
        masks = dict(_dated(entry.masks)) if entry.masks else {}
        files = _dated(entry.path)
        if lacking := [date for date, _ in files if entry.masks and date not in masks]:
            raise FileNotFoundError(f"input.{name}.masks={entry.masks} finds no mask of the dates {lacking}")
        return [(path, _image(name, replace(entry, path=path))[1], date, masks.get(date, "")) for date, path in files]
    with opened(Path(entry.path)) as file:
        described = [text or "" for text in file.descriptions]
    if entry.dates:
        each = len(described) // len(entry.dates)
        if each * len(entry.dates) != len(described):
            raise ValueError(
                f"{entry.path} has {len(described)} bands, no multiple of the {len(entry.dates)} dates given"
            )
        parts = [described[i * each : (i + 1) * each] for i in range(len(entry.dates))]
        named = [{b: n + i * each for b, n in _names(name, entry, p).items()} for i, p in enumerate(parts)]
        return [(entry.path, names, date, "") for names, date in zip(named, entry.dates, strict=True)]
    return _stacked(name, entry, described)


def _stacked(name: str, entry: Entry, described: Sequence[str]) -> list[Named]:
    """Bands called ``<band>|<date>``, in any order."""
    at: dict[str, dict[str, int]] = {}
    aliases = {there: own for own, there in entry.bands.items()} if isinstance(entry.bands, Mapping) else {}
    for number, text in enumerate(described, 1):
        if match := DATED.fullmatch(text):
            at.setdefault(match["date"], {})[aliases.get(match["band"], match["band"])] = number
    if not at:
        raise ValueError(
            f"{entry.path} does not say its dates: {name} is a series. Give a pattern with {{date}}, one file a date, "
            f"bands called '<band>|<date>', or input.{name}.dates=[...] of a file that holds one date after the other"
        )
    return [(entry.path, names, date, "") for date, names in at.items()]


def _dated(pattern: str) -> list[tuple[str, str]]:
    """(date, path) of the files that a pattern with ``{date}`` finds."""
    if pattern.count("{date}") != 1:
        raise ValueError(f"the pattern {pattern!r} must hold {{date}} once")
    head = Path(re.split(r"[*?\[{]", pattern)[0])
    base = head if head.is_dir() else head.parent
    rest = str(Path(re.sub(r"\*?\{date\}\*?", "*", pattern)).relative_to(base))
    form = re.escape(pattern).replace(re.escape("{date}"), "DATE").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    found = []
    for path in sorted(base.glob(rest)):
        if match := re.fullmatch(form.replace("DATE", DIGITS), str(path)):
            found.append((_iso("-".join(match.groups()), str(path)), str(path)))
    if not found:
        raise FileNotFoundError(f"no file matches {pattern!r}, {{date}} being YYYYMMDD or YYYY-MM-DD")
    return found


def _iso(text: str, where: str) -> str:
    match = re.fullmatch(DIGITS, text)
    try:
        if match is None:
            raise ValueError(text)
        return Date(*map(int, match.groups())).isoformat()
    except ValueError as error:
        raise ValueError(f"{where}: {text!r} is no date; write YYYY-MM-DD") from error


def _names(name: str, entry: Entry, described: Sequence[str]) -> dict[str, int]:
    """What each band is called -> its number."""
    if isinstance(entry.bands, Mapping):
        aliases = {there: own for own, there in entry.bands.items()}
        called = [aliases.get(text, "" if text in entry.bands else text) for text in described]
    else:
        called = list(entry.bands) or list(described)
        if len(called) != len(described):
            raise ValueError(
                f"bands names {len(called)} bands, {list(called)}; {entry.path} has {len(described)}"
                + (f" ({list(described)})" if any(described) else "")
                + ": name all of them, in the file's order"
            )
    if twice := sorted({text for text in called if text and called.count(text) > 1}):
        raise ValueError(f"{entry.path}: {name} has bands {twice} more than once; name them with bands=[...]")
    return {text: number for number, text in enumerate(called, 1) if text}


def _match(
    name: str, path: str, names: Mapping[str, int], imagery: Imagery, wanted: Sequence[str]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The trained bands that a file has, and their numbers in it."""
    if missing := [band for band in wanted if band not in names]:
        having = f"it describes its bands as {list(names)}" if names else "it does not say what its bands are"
        raise ValueError(
            f"{path} has no band {missing}: the checkpoint reads {list(wanted)} of {name}; {having}. Say what they "
            f"are, in the file's order: bands=[{','.join(wanted)}] (bands.{name}=[...] of several sensors)"
        )
    if any(imagery.minus):
        numbers = tuple(names.get(band, 0) for band in imagery.bands)
        if numbers != tuple(range(1, len(imagery.bands) + 1)):
            raise ValueError(
                f"{path}: {name} subtracts bands by their place in the file, so its first bands must be "
                f"{list(imagery.bands)}; got {list(names)}"
            )
        return imagery.bands, numbers
    known = tuple(band for band in imagery.bands if band in names)
    return known, tuple(names[band] for band in known)


def _check_type(name: str, path: str, imagery: Imagery) -> None:
    with opened(Path(path)) as file:
        found, scale, offset = file.dtypes[0], file.scales[0], file.offsets[0]
    if not (found.startswith("float") if imagery.dtype == "float" else found == imagery.dtype):
        raise ValueError(
            f"{path} holds {found}; the checkpoint was trained on {imagery.dtype} images of {name}, counts x "
            f"{imagery.scale:g} + {imagery.offset:g} in {imagery.units}. Convert the file to the same counts"
        )
    told = (scale, offset) != (1.0, 0.0)
    if told and max(abs(scale - imagery.scale), abs(offset - imagery.offset)) > 1e-6 * max(1.0, abs(imagery.offset)):
        raise ValueError(
            f"{path} says that a value is count x {scale:g} + {offset:g}; the checkpoint was trained with count x "
            f"{imagery.scale:g} + {imagery.offset:g} ({imagery.units}). Convert the file to the same counts"
        )
