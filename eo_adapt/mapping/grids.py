"""On which grid each sensor of a scene lies, and whether its pixels are as large as the trained ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.readers.places import Header, header
from ..data.scenes.raster import opened
from .looks import Look

KEEP = "keep"  # pixels of another size are read as they lie
RESAMPLING = ("nearest", "bilinear", "cubic", "average")
WITHIN = 0.2  # share by which a pixel size may differ from the trained one; pixels in degrees differ by latitude
SHIFT = 1e-3  # pixels by which grids that are the same may differ


@dataclass(frozen=True)
class Ground:
    """Size and place of one sensor's pixels.

    Attributes:
        height: Rows.
        width: Columns.
        crs: WKT; "" where the file states none.
        transform: (a, b, c, d, e, f): x = a column + b row + c, y = d column + e row + f.
        warped: Resampling by which files are brought onto it; "" = they lie on it.
        gsd: Metres a pixel on the ground; nan where the place is not known.
    """

    height: int
    width: int
    crs: str
    transform: tuple[float, ...]
    warped: str = ""
    gsd: float = math.nan

    @contextmanager
    def opened(self, path: str, mask: bool = False) -> Iterator[Any]:
        """A file as it lies on this grid, open for reading; a mask keeps its values."""
        from rasterio.enums import Resampling
        from rasterio.vrt import WarpedVRT

        with opened(Path(path)) as file:
            if not self.warped:
                yield file
                return
            how = Resampling["nearest" if mask else self.warped]
            size = {"height": self.height, "width": self.width, "transform": _affine(self.transform)}
            outside = {"add_alpha": True} if file.nodata is None and not mask else {}
            with WarpedVRT(file, crs=self.crs or None, resampling=how, **size, **outside) as seen:
                yield seen


def grounds(looks: Mapping[str, Look], gsd: Mapping[str, float], resample: str) -> dict[str, Ground]:
    """The grid of each sensor that is there; the first sensor's is that of the map.

    Args:
        looks: Sensors, the first one leading.
        gsd: Trained metres a pixel, by sensor; nan or nothing = not known, and not checked.
        resample: How to bring what does not fit onto the grid that fits; "" = refuse it; ``keep`` = refuse it but for
            other pixel sizes, which a run may have adapted to.

    Raises:
        ValueError: If pixel sizes, CRS or the grids of a sensor's dates differ and nothing is to be resampled.
    """
    if resample and resample not in (*RESAMPLING, KEEP):
        raise ValueError(
            f"resample is one of {[*RESAMPLING, KEEP]}, or '' to refuse what does not fit; got {resample!r}"
        )
    found: dict[str, Ground] = {}
    lead: Ground | None = None
    for name, look in looks.items():
        if look.frames:
            trained = math.nan if resample == KEEP else gsd.get(name, math.nan)
            found[name] = ground = _ground(look, trained, lead, "" if resample == KEEP else resample)
            lead = lead or ground
    return found


def _ground(look: Look, trained: float, lead: Ground | None, resample: str) -> Ground:
    heads = {path: header(Path(path)) for path in dict.fromkeys(frame.path for frame in look.frames)}
    masks = {frame.mask: header(Path(frame.mask)) for frame in look.frames if frame.mask}
    first = next(iter(heads.values()))
    own = _of(first)
    reasons = _reasons(look.name, own, trained, lead)
    for path, head in (heads | masks).items():
        if not _same(own, _of(head)):
            reasons.append(
                f"{path} has {head.height} x {head.width} pixels at {tuple(head.transform)[:6]} in "
                f"{_called(head.crs)}, {first.path} {own.height} x {own.width} at {own.transform} in "
                f"{_called(first.crs)}: all files of a sensor share one grid"
            )
    if not reasons:
        return own
    if not resample:
        raise ValueError(f"{reasons[0]}. Set resample=bilinear to resample it ({', '.join(RESAMPLING)})")
    if first.crs is None:
        raise ValueError(f"{reasons[0]}. It cannot be resampled: {first.path} has no CRS")
    return _resampled(first, own, trained, lead, resample)


def _reasons(name: str, own: Ground, trained: float, lead: Ground | None) -> list[str]:
    """What speaks against reading a sensor as it lies."""
    found = []
    if lead is not None and not _same_crs(own.crs, lead.crs):
        found.append(f"{name} lies in {_short(own.crs)}, the leading sensor in {_short(lead.crs)}")
    if lead is not None and not _parallel(own.transform, lead.transform):
        found.append(f"{name} is turned against the leading sensor: {own.transform} and {lead.transform}")
    if math.isfinite(own.gsd) and math.isfinite(trained) and abs(own.gsd / trained - 1) > WITHIN:
        found.append(
            f"{name} has pixels of {own.gsd:.4g} m, the checkpoint was trained on {trained:.4g} m: things would be "
            f"{trained / own.gsd:.2g} times as large as it knows them (resample=keep: the run adapted to such pixels)"
        )
    return found


def _parallel(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether rows and columns of two grids run the same way."""
    for i, j in ((0, 3), (1, 4)):
        (a, b), (c, d) = (one[i], one[j]), (other[i], other[j])
        if a * c + b * d <= 0 or abs(a * d - b * c) > 1e-6 * math.hypot(a, b) * math.hypot(c, d):
            return False
    return True


def _of(head: Header) -> Ground:
    wkt = head.crs.to_wkt() if head.crs else ""
    return Ground(head.height, head.width, wkt, tuple(head.transform)[:6], "", head.place().gsd)


def _resampled(head: Header, own: Ground, trained: float, lead: Ground | None, resample: str) -> Ground:
    """The grid of trained pixels, in the leading sensor's CRS, that a file is warped onto."""
    from rasterio.warp import calculate_default_transform

    crs = lead.crs if lead is not None else own.crs
    goal = trained if math.isfinite(trained) else own.gsd
    close = abs(own.gsd / goal - 1) <= WITHIN
    if _same_crs(crs, own.crs):
        share = 1.0 if close else own.gsd / goal
        height, width = max(1, round(own.height * share)), max(1, round(own.width * share))
        a, b, c, d, e, f = own.transform
        x, y = own.width / width, own.height / height
        return Ground(height, width, crs, (a * x, b * y, c, d * x, e * y, f), resample, goal)
    metre = math.hypot(lead.transform[0], lead.transform[3]) / lead.gsd if lead is not None else 1.0
    bounds = _bounds(own)
    transform, wide, high = calculate_default_transform(
        head.crs, crs, own.width, own.height, *bounds, resolution=goal * metre
    )
    return Ground(int(high), int(wide), crs, tuple(transform)[:6], resample, goal)


def _bounds(ground: Ground) -> tuple[float, float, float, float]:
    a, b, c, d, e, f = ground.transform
    corners = [(a * u + b * v + c, d * u + e * v + f) for u in (0, ground.width) for v in (0, ground.height)]
    xs, ys = zip(*corners, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _same(one: Ground, other: Ground) -> bool:
    near = all(
        abs(p - q) <= SHIFT * max(abs(one.transform[0]), abs(one.transform[1]), 1e-12)
        for p, q in zip(one.transform, other.transform, strict=True)
    )
    return (one.height, one.width) == (other.height, other.width) and near and _same_crs(one.crs, other.crs)


def _same_crs(one: str, other: str) -> bool:
    from rasterio.crs import CRS

    if not (one and other):
        return one == other
    return bool(one == other or CRS.from_wkt(one) == CRS.from_wkt(other))


def _short(wkt: str) -> str:
    from rasterio.crs import CRS

    return _called(CRS.from_wkt(wkt)) if wkt else _called(None)


def _called(crs: Any) -> str:
    return str(crs.to_string() if crs.to_epsg() else crs.to_wkt()[:60]) if crs else "no CRS"


def _affine(transform: tuple[float, ...]) -> Any:
    from rasterio import Affine

    return Affine(*transform)
