"""Sentinel-2 products as ESA delivers them: SAFE folders with JP2 images, levels 1C and 2A.

What is read of a product (Sentinel-2 Products Specification Document, S2-PDGS-TAS-DI-PSD):

    <name>.SAFE/MTD_MSIL2A.xml                       baseline, orbit, satellite, quantification, offsets
    <name>.SAFE/GRANULE/<granule>/IMG_DATA/R10m/T31UFS_20220125T103231_B02_10m.jp2     level 2A; R20m, R60m
    <name>.SAFE/GRANULE/<granule>/IMG_DATA/T31UFS_20220125T103231_B02.jp2              level 1C
    <name>.SAFE/GRANULE/<granule>/QI_DATA/MSK_CLASSI_B00.jp2                           level 1C since baseline 04.00

Since baseline 04.00 (25 January 2022) counts are raised by 1000, so that dark pixels need not be cut off at zero:
reflectance = (count + offset) / quantification with offset -1000. The offset is taken from the metadata band by band;
older products have none.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as Xml
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from .errors import BadImageError
from .images import Acquisition, Image

NUMBERS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
_FILE = re.compile(r"T(?P<tile>\w{5})_(?P<time>\d{8}T\d{6})_(?P<band>B\d\w|SCL)(_(?P<size>\d0)m)?$")
_PRODUCT = re.compile(
    r"S2\w_MSIL(1C|2A)_(?P<time>\d{8}T\d{6})_N(?P<baseline>\d{4})_R(?P<orbit>\d{3})_T(?P<tile>\w{5})_"
)
Offset = float | Literal["auto"]


def products(folder: Path) -> list[Path]:
    """SAFE folders in or below a folder, or the folder itself."""
    if folder.suffix == ".SAFE":
        return [folder]
    return sorted(path for path in folder.rglob("*.SAFE") if path.is_dir())


def read_product(product: Path, sensor: str, mask: str, offset: Offset = "auto") -> Acquisition:
    """What one product holds; of a band that comes in several sizes the finest is taken.

    Args:
        product: A ``.SAFE`` folder.
        sensor: Name of the series.
        mask: ``scl``, ``classi``, or something else that the product does not hold.
        offset: Counts added before division; ``auto`` = as the product says.

    Raises:
        BadImageError: If the metadata are missing, damaged or of another mission.
    """
    path = next(
        (product / f"MTD_MSI{level}.xml" for level in ("L2A", "L1C") if (product / f"MTD_MSI{level}.xml").is_file()),
        None,
    )
    if path is None:
        raise BadImageError(
            f"{product} has no MTD_MSIL2A.xml or MTD_MSIL1C.xml; it is no whole Sentinel-2 product: fetch it again"
        )
    try:
        root = Xml.parse(path).getroot()  # noqa: S314 - expat since 2.4.1 refuses to expand entities without end
    except Xml.ParseError as error:
        raise BadImageError(f"{path} cannot be read ({error}); it seems cut short: fetch it again") from error
    files = _files(product)
    if not files:
        raise BadImageError(f"{product} has no images T<tile>_<time>_B<nn>.jp2 below GRANULE: fetch it again")
    baseline, time = _text(root, "PROCESSING_BASELINE", path), _text(root, "PRODUCT_START_TIME", path)
    scale = 1.0 / float(_text(root, "QUANTIFICATION_VALUE", path, "BOA_QUANTIFICATION_VALUE"))
    added = {number: _offset(root, number, baseline, offset) for number in range(len(NUMBERS))}
    bands = {
        name: Image(str(file), 1, (0.0,), scale, scale * added[NUMBERS.index(name)])
        for name, file in files.items()
        if name in NUMBERS
    }
    named = _PRODUCT.match(product.name)
    start = named["time"] if named else re.sub(r"\W", "", time)[:15]
    return Acquisition(
        sensor,
        next(iter(_FILE.match(file.stem) for file in files.values()))["tile"],  # type: ignore[index]
        f"{start[:4]}-{start[4:6]}-{start[6:8]}T{start[9:11]}:{start[11:13]}:{start[13:15]}",
        dict(sorted(bands.items())),
        _mask(product, files, mask),
        _text(root, "SPACECRAFT_NAME", path).replace("Sentinel-", "S"),
        f"{int(_text(root, 'SENSING_ORBIT_NUMBER', path)):03d}",
        _text(root, "SENSING_ORBIT_DIRECTION", path)[:4].lower().rstrip("e"),
        baseline,
    )


def _files(product: Path) -> dict[str, Path]:
    """Band -> its finest file."""
    found: dict[str, tuple[int, Path]] = {}
    for file in sorted(product.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
        if match := _FILE.match(file.stem):
            size = int(match["size"] or 0)
            if match["band"] not in found or size < found[match["band"]][0]:
                found[match["band"]] = (size, file)
    return {band: file for band, (_, file) in sorted(found.items())}


def _mask(product: Path, files: dict[str, Path], mask: str) -> Image | None:
    if mask == "scl":
        if "SCL" not in files:
            raise BadImageError(
                f"{product} has no SCL image (level 1C has none): choose mask=classi, mask=none or a folder of masks"
            )
        return Image(str(files["SCL"]))
    if mask == "classi":
        found = sorted(product.glob("GRANULE/*/QI_DATA/MSK_CLASSI_B00.jp2"))
        if not found:
            raise BadImageError(
                f"{product} has no QI_DATA/MSK_CLASSI_B00.jp2 (it came with baseline 04.00): choose another mask="
            )
        return Image(str(found[0]))
    return None


def _elements(root: Xml.Element, *names: str) -> Iterator[Xml.Element]:
    for element in root.iter():
        if element.tag.rpartition("}")[2] in names:
            yield element


def _text(root: Xml.Element, name: str, path: Path, *others: str) -> str:
    for element in _elements(root, name, *others):
        if element.text and element.text.strip():
            return element.text.strip()
    raise BadImageError(f"{path} says nothing of {name}; it is not a whole Sentinel-2 metadata file: fetch it again")


def _offset(root: Xml.Element, number: int, baseline: str, offset: Offset) -> float:
    """Counts to add to a band's counts."""
    if offset != "auto":
        return float(offset)
    given = {
        int(e.get("band_id", -1)): float(e.text or 0) for e in _elements(root, "BOA_ADD_OFFSET", "RADIO_ADD_OFFSET")
    }
    return given.get(number, baseline_offset(baseline) if not given else 0.0)


def baseline_offset(baseline: str) -> float:
    """Offset in counts of a processing baseline: -1000 from 04.00 on, 0 before.

    Raises:
        BadImageError: If it is no baseline such as ``04.00``, ``N0400`` or ``4.0``.
    """
    digits = baseline.upper().removeprefix("N")
    try:
        number = float(digits) if "." in digits else float(digits) / (100 if len(digits) == 4 else 1)
    except ValueError:
        raise BadImageError(f"{baseline!r} is no processing baseline; one looks like 04.00 or N0400") from None
    return -1000.0 if number >= 4 else 0.0
