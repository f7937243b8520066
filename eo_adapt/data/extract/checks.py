"""Options that do not fit are refused before anything is read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .folder import Layout
from .masks import Mask
from .unit import STATISTICS

if TYPE_CHECKING:
    from .reader import ParcelExtraction

COLUMNS = ("hcat", "country", "region", "year", "split")
CHOICES = {
    "apart": ("auto", "none", "orbit", "direction", "platform"),
    "twice": ("error", "latest"),
    "reproject": ("", "nearest", "bilinear"),
    "backscatter": ("linear", "db"),
}
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


def memory_bytes(text: str) -> int:
    """Bytes of ``2GB``, ``512MiB`` or a plain number.

    Raises:
        ValueError: If it is none of these.
    """
    match = re.fullmatch(r"\s*([\d.]+)\s*([KMGT]?I?)B?\s*", str(text).upper())
    if not match or match[2] not in UNITS:
        raise ValueError(f"memory={text!r} is no size; one is 2GB or 512MiB")
    return int(float(match[1]) * UNITS[match[2]])


def check_options(options: ParcelExtraction) -> None:
    """Refuse options that cannot be meant.

    Raises:
        ValueError: Says which, and what is allowed.
    """
    for name, allowed in CHOICES.items():
        if (value := getattr(options, name)) not in allowed:
            raise ValueError(f"{name}={value!r} is none of {list(allowed)}")
    if not options.images and not options.sentinel1:
        raise ValueError("say where the images are: images=<folder, STAC json or address> or sentinel1=<folder>")
    if odd := sorted(set(options.columns) - set(COLUMNS)):
        raise ValueError(f"columns has {odd}; it maps some of {list(COLUMNS)} to columns of the parcel layer")
    for name in ("bands", "polarisations"):
        values = list(getattr(options, name))
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{name} needs at least one name, each once; got {values}")
    _check_statistics(options)
    for name, low, high in (("min_cover", 0, 1), ("min_share", 0, 1), ("max_failed", 0, 1)):
        if not low <= float(getattr(options, name)) <= high:
            raise ValueError(f"{name} is a share from {low} to {high}; got {getattr(options, name)}")
    if options.offset != "auto" and not isinstance(options.offset, int | float):
        raise ValueError(f"offset is auto or a number of counts, such as 0 or -1000; got {options.offset!r}")
    memory_bytes(options.memory)
    Mask(options.mask, tuple(options.mask_bad), options.cloud_max)
    for pattern in (options.pattern, options.sentinel1_pattern, options.masks_pattern):
        if pattern:
            Layout(pattern, options.band_pattern)


def _check_statistics(options: ParcelExtraction) -> None:
    chosen = list(options.statistics)
    if odd := [x for x in chosen if x not in (*STATISTICS, "share")]:
        raise ValueError(f"statistics has {odd}; there are {[*STATISTICS, 'share']}")
    if not set(chosen) & set(STATISTICS) or len(set(chosen)) != len(chosen):
        raise ValueError(f"statistics needs mean or median, each once; got {chosen}")
    if "variance" in chosen and "mean" not in chosen:
        raise ValueError("statistics=[variance] needs the mean, too: statistics=[mean,variance]")
    if options.pixels < 0:
        raise ValueError(f"pixels is the most a parcel, or 0 for statistics; got {options.pixels}")
    if options.pixels and chosen != ["mean"]:
        raise ValueError(f"pixel sets (pixels={options.pixels}) hold pixels and no statistics={chosen}: leave one away")
    if options.sentinel1 and options.decibels and "variance" in chosen:
        raise ValueError(
            "variances are those of linear power: with sentinel1 and statistics=[variance] say decibels=false"
        )
