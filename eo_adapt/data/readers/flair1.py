"""FLAIR#1 and #2: aerial images of France, 0.2 m, five bands, 19 classes (Garioud et al. 2022, arXiv:2211.12979).

Raw layout of FLAIR#1::

    <root>/flair_aerial_train/D004_2021/Z10_AU/img/IMG_000826.tif    uint8 (5, 512, 512): R, G, B, NIR, elevation
    <root>/flair_labels_train/D004_2021/Z10_AU/msk/MSK_000826.tif    uint8 (512, 512), 1..19
    <root>/flair_1_aerial_test, <root>/flair_1_labels_test           the same
    <root>/flair_aerial_metadata.json            {"IMG_000826": {domain, zone, patch_centroid_x, date, camera, ...}}

FLAIR#2 (Garioud et al. 2023, arXiv:2310.13336) has the same aerial images in training and other test departments, in
``flair_2_aerial_test`` and ``flair_2_labels_test``; :class:`Flair2`. Its Sentinel-2 series: :mod:`.flair2_series`.

``D004_2021`` is department and year, ``Z10_AU`` a zone of neighbouring patches. Elevation is height above ground in
steps of 0.2 m. Coordinates are EPSG:2154.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ..scenes.flair_classes import flair_classes, known
from ..scenes.flair_splits import SPLITS, split_of
from ..scenes.raster import TileError
from ..scenes.records import Classes, Imagery, Raster, Scene
from .files import damaged, need
from .flair2_series import SENSOR, SENTINEL2, Superpatches
from .flair_attributes import KINDS, attributes_of
from .places import header

CRS, GSD = "EPSG:2154", 0.2
SOURCE, METADATA = "FLAIR#1 or FLAIR#2 (https://ignf.github.io/FLAIR)", "flair_aerial_metadata.json"
TRAIN = {"flair_aerial_train": "flair_labels_train"}
PARTS: Mapping[str, str] = {**TRAIN, "flair_1_aerial_test": "flair_1_labels_test"}
PARTS2: Mapping[str, str] = {**TRAIN, "flair_2_aerial_test": "flair_2_labels_test"}
CENTROID = ("patch_centroid_x", "patch_centroid_y")  # of an entry of the metadata
BANDS = ("red", "green", "blue", "nir", "elevation")
PLACE = re.compile(r"(?P<department>D\d{3})_(?P<year>\d{4})")
NUMBER = re.compile(r"[A-Z]+_(\d+)")


@dataclass(frozen=True)
class Flair1:
    """Reads the patches of FLAIR#1.

    Attributes:
        parts: Folder of images -> folder of masks, below the root. Parts that are not there are left out; a part
            without its folder of masks is unlabelled.
        metadata: Json files below the root. Without any, places are read from the images, and camera and date are not
            known.
        bands: Names of the bands to read, in this order.
        legend: ``flair19`` | ``flair15`` | ``flair13`` | ``flair12`` | ``land_cover``; see
            :mod:`eo_adapt.data.scenes.flair_classes`.
        splits: ``flair1`` | ``flair2`` | ``flair_hub`` | ``uda_nas``; see :mod:`eo_adapt.data.scenes.flair_splits`.
        attributes: Numbers of a patch that a network may read beside its pixels, of ``altitude``, ``season``, ``hour``,
            ``camera`` and ``place``; see :func:`.flair_attributes.attributes_of`.
    """

    parts: Mapping[str, str] = field(default_factory=lambda: PARTS)
    metadata: Sequence[str] = (METADATA,)
    bands: Sequence[str] = BANDS
    legend: str = "flair19"
    splits: str = "flair1"
    attributes: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bands", tuple(self.bands))
        if strange := sorted(set(self.attributes) - set(KINDS)):
            raise ValueError(
                f"attributes of FLAIR are {list(KINDS)}; got {list(self.attributes)}, of which {strange} are none"
            )
        if not self.bands or (odd := sorted(set(self.bands) - set(BANDS))):
            raise ValueError(f"bands of FLAIR are {list(BANDS)}; got {list(self.bands)}, of which {odd} are none")
        flair_classes(self.legend)
        known(self.splits, SPLITS, "split")

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """One sensor, ``aerial``."""
        return {"aerial": Imagery(tuple(self.bands))}

    @property
    def classes(self) -> Classes:
        """The legend, by the numbers 1..19 of the masks."""
        return flair_classes(self.legend)

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the patches part by part, by number.

        Raises:
            FileNotFoundError: If there is no part, a metadata file is missing, or a mask of a labelled part is.
            ValueError: If a metadata file is damaged, or a folder is not named like ``D004_2021``.
        """
        root = Path(root)
        about: dict[str, Any] = {}
        for name in self.metadata:
            about |= _load(need(root / name, f"{SOURCE}, or set the reader's metadata: []"))
        parts = [part for part in self.parts if (root / part).is_dir()]
        if not parts:
            need(root / next(iter(self.parts), ""), SOURCE)
        for part in parts:
            yield from self._part(root, part, about)

    def _part(self, root: Path, part: str, about: Mapping[str, Any]) -> Iterator[Scene]:
        images = sorted(root.glob(f"{part}/*/*/img/*.tif"), key=lambda path: path.stem)
        if not images:
            need(root / part / "D<department>_<year>" / "Z<zone>" / "img" / "IMG_<number>.tif", SOURCE)
        labelled = (root / self.parts[part]).is_dir()
        gsd = 0.0
        for path in images:
            image = path.relative_to(root).as_posix()
            mask = _mask_of(image, part, self.parts[part])
            if labelled:
                need(root / mask, f"the mask of {image}")
            entry = about.get(path.stem, {})
            placed = all(entry.get(key) is not None for key in CENTROID)
            if not gsd or not placed:
                x, y, gsd = _place(path, gsd)
                entry = entry if placed else {**entry, **dict(zip(CENTROID, (x, y), strict=True))}
            scene = patch_scene(image, mask if labelled else "", entry, gsd or GSD, self.bands, self.splits)
            yield replace(scene, attributes=attributes_of(self.attributes, entry, image))


@dataclass(frozen=True)
class Flair2(Flair1):
    """Reads the patches of FLAIR#2. What is not said here is as in :class:`Flair1`.

    Attributes:
        sentinel2: Whether to read Sentinel-2, too, as the sensor ``s2``: the 10 x 10 pixels of each patch's footprint.
    """

    parts: Mapping[str, str] = field(default_factory=lambda: PARTS2)
    splits: str = "flair2"
    sentinel2: bool = False

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """``aerial``, and ``s2`` if it is read."""
        return {**super().sensors, **({SENSOR: SENTINEL2} if self.sentinel2 else {})}

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the patches part by part, by number.

        Raises:
            FileNotFoundError: See :class:`Flair1`; also if a superpatch or the json of centres is missing.
            ValueError: See :class:`Flair1`; also if a product has no date, or a patch no centre.
        """
        if not self.sentinel2:
            yield from super().read(root)
            return
        around = Superpatches.open(Path(root), f"{SOURCE}, or set the reader's sentinel2: false")
        for scene in super().read(root):
            aerial = scene.images["aerial"]
            assert isinstance(aerial, Raster)  # noqa: S101  (patch_scene made it)
            yield replace(scene, images={**scene.images, SENSOR: around.series(aerial.path)})


def patch_scene(
    image: str, mask: str, about: Mapping[str, Any], gsd: float, bands: Sequence[str] = BANDS, splits: str = "flair1"
) -> Scene:
    """The record of one patch.

    Args:
        image: Path below the root.
        mask: Path below the root; "" = not labelled.
        about: Its entry in the metadata; ``patch_centroid_x`` and ``patch_centroid_y`` at least.
        gsd: Metres a pixel.
        bands: Names of the bands to read.
        splits: Which published splits.

    Raises:
        ValueError: If the department's folder is not named like ``D004_2021``, or the centroid is no number.
    """
    *_, domain, zone, _, name = Path(image).parts
    place = PLACE.fullmatch(domain)
    if place is None:
        raise ValueError(f"{image}: folder {domain!r} should be named <department>_<year>, as D004_2021")
    x, y = (_metres(about[key], image, key) for key in CENTROID)
    lon, lat = _lonlat().transform(x, y) if math.isfinite(x + y) else (math.nan, math.nan)
    chosen = tuple(BANDS.index(band) + 1 for band in bands)
    return Scene(
        key=Path(name).stem,
        images={"aerial": Raster(image, bands=() if tuple(bands) == BANDS else chosen)},
        mask=Raster(mask) if mask else None,
        lon=lon,
        lat=lat,
        x=x,
        y=y,
        crs=CRS if math.isfinite(x + y) else "",
        gsd=gsd,
        zone=f"{domain}/{zone}",
        country="FR",
        region=place["department"],
        year=int(place["year"]),
        sensor=str(about.get("camera", "")),
        split=split_of(splits, place["department"], zone),
        date=str(about.get("date", "")),
    )


def _mask_of(image: str, part: str, masks: str) -> str:
    """``<part>/D/Z/img/IMG_1.tif`` -> ``<masks>/D/Z/msk/MSK_1.tif``."""
    domain, zone, _, name = image.removeprefix(f"{part}/").split("/")
    number = NUMBER.match(name)
    if number is None:
        raise ValueError(f"{image}: images of FLAIR are named as IMG_000826.tif")
    return f"{masks}/{domain}/{zone}/msk/MSK_{number[1]}.tif"


def _load(path: Path) -> dict[str, Any]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also broken UTF-8
        raise damaged(path, error) from error
    if not isinstance(about, dict) or not all(isinstance(entry, dict) for entry in about.values()):
        raise damaged(path, "it should map patch names to mappings")
    return about


def _metres(value: Any, image: str, key: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{image}: its {key} in the metadata is {value!r}, no number of metres; correct it, or leave it out: then "
            "the place is read from the image"
        ) from error


def _place(path: Path, gsd: float) -> tuple[float, float, float]:
    """Centre in metres of EPSG:2154 (nan where the file does not say) and pixel size in metres.

    A damaged image has no place and the pixel size of those before it; whoever reads its pixels names or skips it.
    """
    try:
        place = header(path).place(crs=CRS)
    except TileError:
        return math.nan, math.nan, gsd
    return place.x, place.y, place.gsd if place.crs else GSD


@cache
def _lonlat() -> Any:
    from pyproj import Transformer

    return Transformer.from_crs(CRS, "EPSG:4326", always_xy=True)
