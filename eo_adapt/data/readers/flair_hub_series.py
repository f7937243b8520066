"""The Sentinel series of FLAIR-HUB: what their numbers are, and the dates of each patch's frames."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..scenes.records import Hidden, Imagery, Series
from .files import check_columns, damaged, need
from .frame_dates import frame_dates

SENTINEL2, MASKS = "SENTINEL2_TS", "SENTINEL2_MSK-SC"
# modality -> sensor, and the GeoPackage that has its dates
SERIES: Mapping[str, tuple[str, str]] = {
    SENTINEL2: ("s2", "GLOBAL_ALL_MTD/GLOBAL_SENTINEL2_MTD_DATES.gpkg"),
    "SENTINEL1-ASC_TS": ("s1_asc", "GLOBAL_ALL_MTD/GLOBAL_SENTINEL1-ASC_MTD_DATES.gpkg"),
    "SENTINEL1-DESC_TS": ("s1_desc", "GLOBAL_ALL_MTD/GLOBAL_SENTINEL1-DESC_MTD_DATES.gpkg"),
}
BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
UNITS = ("linear", "dB")
HIDES = 2.0  # percent of snow or cloud from which on a pixel is hidden


def series_imagery(modality: str, units: str, clear: float) -> Imagery:
    """How the numbers of a series are to be read.

    Args:
        modality: One of :data:`SERIES`.
        units: Of radar: ``linear`` or ``dB``.
        clear: Share of a patch's pixels without snow and cloud that makes a date of Sentinel-2 count.
    """
    if modality == SENTINEL2:
        hidden = Hidden(2, (HIDES, HIDES), clear=clear)
        return Imagery(BANDS, "reflectance", 1e-4, dtype="uint16", kind="series", hidden=hidden)
    return Imagery(("VV", "VH"), units, dtype="float", kind="series")


def series_of(root: Path, modality: str, key: str, path: str, mask: str, dates: Mapping[str, Any]) -> Series:
    """The record of one patch's series.

    Args:
        root: Raw folder.
        modality: One of :data:`SERIES`.
        key: The patch's id.
        path: Its file, below the root.
        mask: That of its masks of snow and cloud; "" = none.
        dates: Patch id -> dates, as :func:`read_dates` gives them.

    Raises:
        ValueError: If the patch has no dates, or they are not as published.
    """
    source = root / SERIES[modality][1]
    if key not in dates:
        raise ValueError(
            f"{source} has no dates of patch {key}, whose series is {root / path}: fetch both again, or remove the "
            f"file and name {modality} in the reader's optional"
        )
    try:
        return Series((path,), frame_dates(dates[key]), masks=(mask,) if mask else ())
    except ValueError as error:
        raise ValueError(f"{source}: patch {key} has acquisition_dates={error}") from error


def read_dates(root: Path, modality: str, source: str) -> dict[str, Any]:
    """Patch id -> dates of its frames, as published.

    Raises:
        FileNotFoundError: If the GeoPackage is missing; ``source`` says where it comes from.
        ValueError: If it is damaged, or lacks a column.
    """
    import geopandas
    from pyogrio.errors import DataSourceError

    path = need(root / SERIES[modality][1], f"{source}; it has the dates of {modality}")
    try:
        frame = geopandas.read_file(path, ignore_geometry=True)
    except DataSourceError as error:
        raise damaged(path, error) from error
    check_columns(path, frame.columns, {"patch id": "patch_id", "dates": "acquisition_dates"})
    return dict(zip(frame["patch_id"].astype(str), frame["acquisition_dates"], strict=True))
