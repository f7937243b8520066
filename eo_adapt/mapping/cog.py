"""Raw bytes of a map -> Cloud-Optimised GeoTIFF, with colours, names and where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from .grids import Ground
from .paint import NODATA, TOP

BLOCK = 512
OVERVIEWS = {"classes": "MODE", "probabilities": "AVERAGE", "entropy": "AVERAGE"}


@dataclass(frozen=True)
class Layer:
    """What a file of a map says of itself.

    Attributes:
        name: ``classes``, ``probabilities`` or ``entropy``.
        bands: Description of each band.
        colours: Of classes, ``#rrggbb`` each; () = none.
        classes: Of classes, their names.
        tags: Anything else: checkpoint, domain, command.
    """

    name: str
    bands: Sequence[str]
    colours: Sequence[str] = ()
    classes: Sequence[str] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def write_cog(raw: Path, out: Path, ground: Ground, layer: Layer) -> None:
    """Write a layer as a Cloud-Optimised GeoTIFF: deflate, blocks of 512 pixels, overviews, nodata 255.

    Args:
        raw: Bytes, band after band.
        out: Where to; a file there is replaced.
        ground: Its grid.
        layer: What it is.

    Raises:
        OSError: If it cannot be written; nothing is left under that name.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.shutil import copy

    vrt = raw.with_suffix(".vrt")
    vrt.write_text(describe(raw, ground, layer))
    options = {
        "COMPRESS": "DEFLATE",
        "LEVEL": "6",
        "BLOCKSIZE": str(BLOCK),
        "OVERVIEWS": "IGNORE_EXISTING",
        "OVERVIEW_RESAMPLING": OVERVIEWS[layer.name],
        "RESAMPLING": OVERVIEWS[layer.name],
        "BIGTIFF": "IF_SAFER",
        "NUM_THREADS": "ALL_CPUS",
    }
    if layer.name != "classes":
        options["PREDICTOR"] = "YES"
    try:
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(vrt) as source:
            copy(source, out, driver="COG", **options)
        with rasterio.open(out):
            pass
    except RasterioError as error:
        out.unlink(missing_ok=True)
        raise OSError(f"{out} cannot be written ({error.__cause__ or error}): is the disk full?") from error
    if layer.classes:
        out.with_name(f"{out.name}.aux.xml").write_text(_names(layer.classes))


def publish(made: Mapping[str, Path], final: Mapping[str, Path]) -> None:
    """Give files their final names: the class map last, so that where it is, all are."""
    for name in sorted(made, key=lambda name: name == "classes"):
        side = made[name].with_name(f"{made[name].name}.aux.xml")
        if side.exists():
            os.replace(side, final[name].with_name(f"{final[name].name}.aux.xml"))
        os.replace(made[name], final[name])


def describe(raw: Path, ground: Ground, layer: Layer) -> str:
    """The virtual raster (VRT) that tells GDAL how to read the bytes, and what they mean."""
    place = f"<GeoTransform>{', '.join(repr(float(ground.transform[i])) for i in (2, 0, 1, 5, 3, 4))}</GeoTransform>"
    if not ground.crs:
        place = ""
    lines = [
        f'<VRTDataset rasterXSize="{ground.width}" rasterYSize="{ground.height}">',
        f"<SRS>{escape(ground.crs)}</SRS>" if ground.crs else "",
        place,
        "<Metadata>",
        *(f"<MDI key={quoteattr(key)}>{escape(str(text))}</MDI>" for key, text in layer.tags.items()),
        "</Metadata>",
        *(_band(raw, ground, layer, number) for number in range(len(layer.bands))),
        "</VRTDataset>",
    ]
    return "\n".join(line for line in lines if line)


def _band(raw: Path, ground: Ground, layer: Layer, number: int) -> str:
    size = ground.height * ground.width
    scaled = "" if layer.classes else f"<Scale>{1 / TOP!r}</Scale>"
    return "\n".join(
        [
            f'<VRTRasterBand dataType="Byte" band="{number + 1}" subClass="VRTRawRasterBand">',
            f"<Description>{escape(layer.bands[number])}</Description>",
            f"<NoDataValue>{NODATA}</NoDataValue>{scaled}",
            _colours(layer.colours),
            f'<SourceFilename relativeToVRT="1">{escape(raw.name)}</SourceFilename>',
            f"<ImageOffset>{number * size}</ImageOffset><PixelOffset>1</PixelOffset>",
            f"<LineOffset>{ground.width}</LineOffset>",
            "</VRTRasterBand>",
        ]
    )


def _colours(colours: Sequence[str]) -> str:
    """Colour table: the classes, then black, and nodata transparent."""
    if not colours:
        return ""
    rows = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in colours]
    rows += [(0, 0, 0)] * (NODATA - len(rows))
    entries = [f'<Entry c1="{r}" c2="{g}" c3="{b}" c4="255"/>' for r, g, b in rows]
    entries.append('<Entry c1="0" c2="0" c3="0" c4="0"/>')
    return f"<ColorInterp>Palette</ColorInterp><ColorTable>{''.join(entries)}</ColorTable>"


def _names(classes: Sequence[str]) -> str:
    """What GDAL and QGIS call the classes: GeoTIFF has no place for names, so they lie beside it."""
    rows = "".join(f"<Category>{escape(name)}</Category>" for name in classes)
    return f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{rows}</CategoryNames></PAMRasterBand></PAMDataset>\n'
