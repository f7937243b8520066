"""Folders of GeoTIFFs (COG or not), Sentinel-2, Sentinel-1 or anything else, described by a pattern with named groups.

The pattern is a regular expression that matches a file's path below the folder. Groups:

    date       20210501, 2021-05-01 or 20210501T103221 (UTC)             needed
    time       103221, where the date stands apart from it
    band       the band's name; without it, file_bands names the bands of a file, or else its band descriptions do
    tile       images of one tile lie on the same ground; without it, all do
    platform, orbit, direction, baseline        as far as names tell

A second pattern, ``band_pattern``, may take ``band`` and ``date`` from the descriptions of the bands in a file, for
stacks of dates such as ``B2|2020-11-01``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .errors import BadImageError
from .images import Acquisition, Image, Twice
from .safe import baseline_offset

GROUPS = ("date", "time", "band", "tile", "platform", "orbit", "direction", "baseline")
IMAGES = (".tif", ".tiff", ".jp2", ".vrt", ".img")


@dataclass(frozen=True)
class Layout:
    """How a folder's files are named, and what their numbers mean.

    Attributes:
        pattern: Regular expression with named groups, see the module.
        band_pattern: The same for descriptions of bands within a file; "" = they are plain names.
        file_bands: Names of a file's bands, in order; () = its descriptions.
        mask_band: Name of the band that is the mask; "" = none.
        scale: Physical units per count.
        offset: Physical value of count 0, or ``baseline``: -1000 counts for images of baseline 04.00 and later.
        nodata: Numbers that mean nothing, besides those that the files declare.
        decibels: Whether the values are decibels.
    """

    pattern: str
    band_pattern: str = ""
    file_bands: Sequence[str] = ()
    mask_band: str = ""
    scale: float = 1.0
    offset: float | str = 0.0
    nodata: tuple[float, ...] = ()
    decibels: bool = False
    _rules: tuple[re.Pattern[str], re.Pattern[str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rules = []
        for name in ("pattern", "band_pattern"):
            try:
                rules.append(re.compile(getattr(self, name)))
            except re.error as error:
                raise ValueError(f"{name}={getattr(self, name)!r} is no regular expression: {error}") from error
            if odd := sorted(set(rules[-1].groupindex) - set(GROUPS)):
                raise ValueError(f"{name} has groups {odd}; they are of {list(GROUPS)}")
        if "date" not in {*rules[0].groupindex, *rules[1].groupindex}:
            raise ValueError(
                f"pattern={self.pattern!r} has no group (?P<date>...): nothing says when an image was taken"
            )
        object.__setattr__(self, "_rules", tuple(rules))

    def image(self, path: Path, number: int, baseline: str, is_mask: bool) -> Image:
        """One band of a file."""
        if is_mask:
            return Image(str(path), number, (), 1.0, 0.0)
        offset = baseline_offset(baseline) * self.scale if self.offset == "baseline" else float(self.offset)
        return Image(str(path), number, self.nodata, self.scale, offset, self.decibels)


def read_folder(
    root: Path,
    layout: Layout,
    sensor: str,
    twice: Twice = "error",
    unread: Callable[[BadImageError], None] | None = None,
) -> list[Acquisition]:
    """All acquisitions below a folder, sorted by tile and time.

    Args:
        root: The folder.
        layout: Its files' names.
        sensor: Name of the series.
        twice: Two files of the same band, tile and date: ``error``, or ``latest``, the one of the highest baseline, of
            equal ones the last by name.
        unread: Told of files that cannot be opened; None = they are raised. Files are opened here only if nothing but
            their band descriptions names the bands.

    Raises:
        ValueError: If no file matches, a date is none, or a band of a date occurs twice.
    """
    files = sorted(p for p in root.rglob("*") if p.is_file() and p.suffix.lower() in IMAGES)
    groups: dict[tuple[str, ...], dict[str, Image]] = defaultdict(dict)
    baselines: dict[str, str] = {}  # of each file
    matched = 0
    for path in files:
        match = layout._rules[0].search(path.relative_to(root).as_posix())
        if match is None:
            continue
        matched += 1
        try:
            parts = list(_bands(path, layout, match.groupdict()))
        except BadImageError as error:
            if unread is None:
                raise
            unread(error)
            continue
        for number, said in parts:
            baselines[str(path)] = said.get("baseline", "")
            _put(groups, layout, path, number, said, twice, baselines)
    if not matched:
        names = [p.relative_to(root).as_posix() for p in files[:3]]
        raise ValueError(
            f"no image below {root} matches pattern={layout.pattern!r}; there are {len(files)}, such as {names}"
        )
    return [_acquisition(key, found, layout, sensor, baselines) for key, found in sorted(groups.items())]


def _bands(path: Path, layout: Layout, said: Mapping[str, str | None]) -> Iterator[tuple[int, dict[str, str]]]:
    """(number, what is known of it) of each band of a file."""
    known = {key: value for key, value in said.items() if value}
    if "band" in known:
        yield 1, known
        return
    if layout.file_bands:
        for number, name in enumerate(layout.file_bands, 1):
            yield number, {**known, "band": name}
        return
    for number, text in enumerate(_descriptions(path), 1):
        if not layout.band_pattern:
            yield number, {**known, "band": text}
        elif match := layout._rules[1].search(text):
            yield number, {**known, **{key: value for key, value in match.groupdict().items() if value}}


def _descriptions(path: Path) -> list[str]:
    import rasterio
    from rasterio.errors import RasterioError

    from .raster import damaged

    try:
        with rasterio.open(path) as dataset:
            found = [text or "" for text in dataset.descriptions]
    except (RasterioError, OSError) as error:
        raise damaged(str(path), error) from error
    if not all(found):
        raise ValueError(
            f"{path} has {len(found)} bands without names: say file_bands=[...], or give pattern a group (?P<band>...)"
        )
    return found


def _put(
    groups: dict[tuple[str, ...], dict[str, Image]],
    layout: Layout,
    path: Path,
    number: int,
    said: Mapping[str, str],
    twice: Twice,
    baselines: Mapping[str, str],
) -> None:
    baseline = said.get("baseline", "")
    if layout.offset == "baseline" and not baseline:
        raise ValueError(
            f"offset=auto: nothing says the processing baseline of {path}; give pattern a group "
            f"(?P<baseline>\\d{{4}}), or "
            "say offset=0 (counts as before 2022, or harmonised) or offset=-1000"
        )
    moment = _moment(said, path)
    rest = tuple(said.get(name, "") for name in ("platform", "orbit", "direction"))
    key = (said.get("tile", "all"), moment, *rest)
    band = said.get("band", "")
    image = layout.image(path, number, baseline, bool(band) and band == layout.mask_band)
    before = groups[key].get(band)
    if before is not None and twice == "error":
        raise ValueError(
            f"band {band} of {moment} occurs twice: {before.path} and {path}. Remove one, take the highest baseline, "
            "or else the last by name, with twice=latest, or, if they are different passes, tell them apart by a group "
            "(time, tile, platform or orbit)"
        )
    if before is None or baseline >= baselines[before.path]:
        groups[key][band] = image


def _moment(said: Mapping[str, str], path: Path) -> str:
    digits = re.sub(r"\D", "", said.get("date", "") + said.get("time", ""))
    if len(digits) not in (8, 12, 14):
        raise ValueError(f"{path}: {said.get('date', '')!r} is no date; one is 20210501, 2021-05-01 or 20210501T103221")
    day = f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}"
    clock = f"T{digits[8:10]}:{digits[10:12]}:{digits[12:14] or '00'}" if len(digits) > 8 else ""
    return _checked(day + clock, path)


def _checked(moment: str, path: Path) -> str:
    from datetime import datetime

    try:
        datetime.fromisoformat(moment)
    except ValueError as error:
        raise ValueError(f"{path}: {moment} is no date ({error})") from error
    return moment


def _acquisition(
    key: tuple[str, ...], found: dict[str, Image], layout: Layout, sensor: str, baselines: Mapping[str, str]
) -> Acquisition:
    tile, moment, platform, orbit, direction = key
    mask = found.pop(layout.mask_band, None) if layout.mask_band else None
    direction = {"a": "asc", "d": "desc"}.get(direction[:1].lower(), "")
    baseline = ", ".join(sorted({baselines[image.path] for image in found.values()} - {""}))
    return Acquisition(sensor, tile, moment, found, mask, platform, orbit, direction, baseline)
