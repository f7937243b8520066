"""STAC: an ItemCollection, an Item or a catalogue on disk, or the address of a STAC API.

pystac and pystac-client read the items, odc-stac tells bands (by asset name or common name), files and grids; the
pixels are read like those of any other file.

Offset of Sentinel-2 items: what the publisher did is said by the first of these that an item has

    earthsearch:boa_offset_applied = true            counts are harmonised: 0
    raster:bands: scale, offset                      as they say; also raster:scale and raster:offset of the asset or
                                                     of its bands, as STAC 1.1 has them
    s2:processing_baseline, processing:version       -1000 counts from 04.00 on
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BadImageError, missing_extra
from .images import Acquisition, Image
from .safe import Offset, baseline_offset

TILE = ("s2:mgrs_tile", "grid:code", "mgrs:tile", "sentinel:tile")
BASELINE = ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline")


def read_stac(
    where: str,
    sensor: str,
    bands: Sequence[str],
    mask: str,
    offset: Offset,
    search: Mapping[str, Any] | None = None,
) -> Iterator[Acquisition | BadImageError]:
    """Acquisitions of all items, one a usable item, an error for one that lacks an asset.

    Args:
        where: A json on disk, or an address (http, https) of a STAC API.
        sensor: Name of the series.
        bands: Band names: keys or common names of assets, such as ``B02`` or ``blue``.
        mask: Asset that holds the mask; "" = none.
        offset: ``auto``, or counts added to the counts.
        search: Of an API: collections, datetime, bbox, query and what else pystac-client's ``search`` takes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no STAC json, or holds no item.
    """
    try:
        import odc.stac
        import pystac
    except ImportError as error:
        raise missing_extra("odc-stac with pystac-client", "STAC catalogues") from error
    found = list(_remote(where, search or {}) if "://" in where else _local(Path(where), pystac))
    if not found:
        raise ValueError(f"{where} holds no STAC item" + (f" for {dict(search)}" if search else ""))
    for item in sorted(found, key=lambda item: (item.get_datetime() is None, str(item.get_datetime()), item.id)):
        try:
            yield _acquisition(item, odc.stac.parse_item(item), sensor, bands, mask, offset)
        except BadImageError as error:
            yield error


def _local(path: Path, pystac: Any) -> Iterator[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"there is no STAC json {path}")
    try:
        plain = pystac.StacIO.default().read_json(str(path))
        if plain.get("type") == "FeatureCollection":
            items = list(pystac.ItemCollection.from_dict(plain))
        elif plain.get("type") == "Feature":
            items = [pystac.Item.from_file(str(path))]
        else:
            items = list(pystac.Catalog.from_file(str(path)).get_items(recursive=True))
    except (ValueError, KeyError, TypeError, OSError, pystac.STACError, pystac.STACTypeError) as error:
        raise ValueError(
            f"{path} cannot be read as STAC ({type(error).__name__}: {error}): a catalogue, an Item or an "
            f"ItemCollection is wanted"
        ) from error
    for item in items:
        if item.get_self_href() is None:
            item.set_self_href(str(path.resolve().with_name(f"{item.id}.json")))  # so that ./B02.tif is beside the json
        item.make_asset_hrefs_absolute()
        yield item


def _remote(address: str, search: Mapping[str, Any]) -> Iterator[Any]:
    try:
        from pystac_client import Client
        from pystac_client.exceptions import APIError
        from requests.exceptions import RequestException
    except ImportError as error:
        raise missing_extra("pystac-client", "STAC interfaces") from error
    try:
        yield from Client.open(address, timeout=60).search(**search).items()
    except (APIError, RequestException, KeyError) as error:
        raise ConnectionError(f"the STAC interface at {address} does not answer as one ({error})") from error


def _acquisition(item: Any, parsed: Any, sensor: str, bands: Sequence[str], mask: str, offset: Offset) -> Acquisition:
    said = item.properties
    baseline = str(next((said[key] for key in BASELINE if key in said), ""))
    images = {band: _image(item, parsed, band, baseline, offset) for band in bands}
    shown = _image(item, parsed, mask, baseline, 0.0, raw=True) if mask else None
    orbit, platform = str(said.get("sat:relative_orbit", "")), str(said.get("platform", ""))
    return Acquisition(
        sensor, _tile(item, parsed), _moment(item, said, orbit), images, shown,
        re.sub(r"(?i)^sentinel-", "S", platform).upper(), orbit and f"{int(orbit):03d}",
        {"a": "asc", "d": "desc"}.get(str(said.get("sat:orbit_state", ""))[:1].lower(), ""), baseline,
    )  # fmt: skip


def _image(item: Any, parsed: Any, band: str, baseline: str, offset: Offset, raw: bool = False) -> Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odc-stac warns of ambiguous common names; the first is right
        try:
            (source,) = parsed.resolve_bands([band]).values()
        except (KeyError, ValueError):
            source = None
    if source is None:
        raise BadImageError(
            f"STAC item {item.id} has no asset for {band!r}; it has {sorted(item.assets)}. Name assets or common "
            f"names with "
            "bands=[...] and mask_band=..."
        )
    path = re.sub(r"^file://", "", source.uri)
    own = _raster_band(item, path, int(source.band))
    nodata = tuple(float(x) for x in (source.meta.nodata,) if x is not None)
    if raw:
        return Image(path, int(source.band), nodata)
    scale = float(own.get("scale", 1e-4 if _is_optical(item) else 1.0))
    counts = _counts(item, own, scale, baseline) if offset == "auto" else float(offset)
    return Image(path, int(source.band), nodata or ((0.0,) if _is_optical(item) else ()), scale, counts * scale)


def _raster_band(item: Any, path: str, number: int) -> Mapping[str, Any]:
    """Scale and offset of a band, as versions 1 and 2 of the raster extension write them; only what is said."""
    for asset in item.assets.values():
        if re.sub(r"^file://", "", asset.get_absolute_href() or asset.href) == path:
            said = asset.extra_fields
            found: dict[str, Any] = {}
            bands = [*(said.get("raster:bands") or []), *(said.get("bands") or [])]
            for place in (said, *bands[number - 1 : number]):  # what a band says counts more
                for key in ("scale", "offset"):
                    value = place.get(f"raster:{key}", None if place is said else place.get(key))
                    found |= {} if value is None else {key: value}
            return found
    return {}


def _is_optical(item: Any) -> bool:
    return (
        "sentinel-2"
        in f"{item.collection_id} {item.properties.get('constellation')} {item.properties.get('platform')}".lower()
    )


def _counts(item: Any, own: Mapping[str, Any], scale: float, baseline: str) -> float:
    """Counts that must be added to an item's counts."""
    if item.properties.get("earthsearch:boa_offset_applied") is True or not (_is_optical(item) or "offset" in own):
        return 0.0
    if "offset" in own:
        return float(own["offset"]) / scale
    if not baseline:
        raise BadImageError(
            f"STAC item {item.id} says neither raster:bands offset nor s2:processing_baseline: say offset=0 (counts as "
            "before 2022, or harmonised) or offset=-1000"
        )
    return baseline_offset(baseline)


def _moment(item: Any, said: Mapping[str, Any], orbit: str) -> str:
    """Start of the pass: tiles of one pass have datetimes that differ by seconds."""
    if match := re.search(r"\d{8}T\d{6}", str(said.get("s2:datatake_id", ""))):
        t = match[0]
        return f"{t[:4]}-{t[4:6]}-{t[6:8]}T{t[9:11]}:{t[11:13]}:{t[13:15]}"
    when = item.get_datetime() or item.common_metadata.start_datetime
    if when is None:
        raise BadImageError(f"STAC item {item.id} has no datetime")
    return str(when.date().isoformat() if orbit else when.strftime("%Y-%m-%dT%H:%M:%S"))


def _tile(item: Any, parsed: Any) -> str:
    for key in TILE:
        if value := item.properties.get(key):
            return re.sub(r"^(MGRS-|T(?=\d))", "", str(value))
    box = next((band.geobox for band in parsed.bands.values() if band.geobox is not None), None)
    return "all" if box is None else f"{box.crs.epsg}_{box.boundingbox.left:g}_{box.boundingbox.top:g}"
