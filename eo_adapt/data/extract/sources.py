"""Finds the images: Sentinel-2 products, folders of GeoTIFFs, STAC, Sentinel-1 folders, and masks that lie apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import BadImageError
from .folder import Layout, read_folder
from .images import Acquisition, Image, apart, once, with_bands, within
from .safe import products, read_product
from .stac import read_stac

if TYPE_CHECKING:
    from .reader import ParcelExtraction

MASK_BANDS = {"scl": "SCL", "clm": "CLM", "s2cloudless": "CLP", "classi": "MSK_CLASSI"}
Lost = list[tuple[str, str]]


def find(options: ParcelExtraction, root: Path, box: Sequence[float]) -> tuple[list[Acquisition], Lost]:
    """All acquisitions to be read, by series, tile and time, and (name, why) of images that cannot be used.

    Args:
        options: The extraction's.
        root: What relative paths are relative to.
        box: West, south, east, north of the parcels, for searches.

    Raises:
        FileNotFoundError: If a folder or file is not there.
        ValueError: If there is no image, or none of the dates asked for.
    """
    found: list[Acquisition] = []
    lost: Lost = []
    if options.images:
        optical = _optical(options, root, box, lost)
        optical = _complete(optical, options.bands, options.mask != "none", lost)
        found += apart(once(within(optical, options.dates), options.twice), _by(options, "none"))
    if options.sentinel1:
        radar = _complete(_radar(options, root, lost), options.polarisations, False, lost)
        found += apart(once(within(radar, options.dates), options.twice), _by(options, "direction"))
    if not found and lost:
        name, error = lost[0]
        raise ValueError(f"none of {len(lost)} images can be used; the first, {name}: {error}")
    if not found:
        raise ValueError(f"no image of dates={list(options.dates)} in images={options.images!r} {options.sentinel1!r}")
    return sorted(found, key=lambda one: (one.sensor, one.tile, one.when)), lost


def _by(options: ParcelExtraction, default: str) -> str:
    return default if options.apart == "auto" else options.apart


def _optical(options: ParcelExtraction, root: Path, box: Sequence[float], lost: Lost) -> list[Acquisition]:
    where = options.images
    if "://" in where or where.endswith(".json"):
        return _stac(options, where if "://" in where else str(root / where), box, lost)
    folder = root / where
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder (or STAC json) images={folder}")
    found: list[Acquisition] = []
    if not options.pattern:
        safes = products(folder)
        if not safes:
            raise ValueError(
                f"{folder} holds no Sentinel-2 product (*.SAFE). For GeoTIFFs say how they are named, e.g. "
                r"pattern='(?P<tile>\w{5})_(?P<date>\d{8})_(?P<band>\w+)\.tif'; products that are zipped must be "
                r"unpacked"
            )
        for product in safes:
            try:
                found.append(read_product(product, options.sensor, options.mask, options.offset))
            except BadImageError as error:
                lost.append((product.name, str(error)))
    else:
        layout = Layout(
            options.pattern, options.band_pattern, options.file_bands, "" if options.masks else mask_band(options),
            options.scale, "baseline" if options.offset == "auto" else float(options.offset) * options.scale,
            tuple(float(x) for x in options.nodata),
        )  # fmt: skip
        found = read_folder(folder, layout, options.sensor, options.twice, lambda e: lost.append((str(folder), str(e))))
    return _masked(found, options, root) if options.masks else found


def mask_band(options: ParcelExtraction) -> str:
    """Name of the band or asset that holds the mask; "" = there is none."""
    return "" if options.mask == "none" else options.mask_band or MASK_BANDS.get(options.mask, "MASK")


def _stac(options: ParcelExtraction, where: str, box: Sequence[float], lost: Lost) -> list[Acquisition]:
    search = {"bbox": list(box), **options.search} if "://" in where else {}
    found: list[Acquisition] = []
    for one in read_stac(where, options.sensor, options.bands, mask_band(options), options.offset, search):
        if isinstance(one, BadImageError):
            lost.append(("STAC", str(one)))
        else:
            found.append(one)
    return found


def _radar(options: ParcelExtraction, root: Path, lost: Lost) -> list[Acquisition]:
    folder = root / options.sentinel1
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder sentinel1={folder}")
    layout = Layout(
        options.sentinel1_pattern, options.band_pattern, options.sentinel1_bands, nodata=tuple(float(x) for x in
        options.sentinel1_nodata), scale=options.sentinel1_scale, decibels=options.backscatter == "db",
    )  # fmt: skip
    return read_folder(folder, layout, "s1", options.twice, lambda e: lost.append((str(folder), str(e))))


def _masked(found: Sequence[Acquisition], options: ParcelExtraction, root: Path) -> list[Acquisition]:
    """Masks that lie in a folder of their own, by tile and day."""
    folder = root / options.masks
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder masks={folder}")
    layout = Layout(options.masks_pattern, file_bands=["mask"], mask_band="mask")
    known: dict[tuple[str, str], Image] = {}
    for one in read_folder(folder, layout, "mask", options.twice):
        if one.mask is not None:
            known[one.tile, one.moment[:10]] = one.mask
    return [dataclasses.replace(one, mask=known.get((one.tile, one.moment[:10]))) for one in found]


def _complete(found: Sequence[Acquisition], bands: Sequence[str], masked: bool, lost: Lost) -> list[Acquisition]:
    """Acquisitions that have all bands and, where there is to be one, a mask."""
    whole = []
    for one in found:
        try:
            whole.append(with_bands(one, bands, "the image"))
            if masked and one.mask is None:
                whole.pop()
                raise ValueError(f"{one.name} has no mask; mask=none reads images without (clouds and all)")
        except ValueError as error:
            lost.append((one.name, str(error)))
    return whole
