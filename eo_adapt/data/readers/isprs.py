"""ISPRS 2D semantic labelling: true orthophotos of Potsdam (0.05 m) and Vaihingen (0.09 m), six classes.

Raw layout, each archive unpacked into a folder of its own name (Rottensteiner et al. 2012, ISPRS Annals I-3)::

    <root>/Potsdam/4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif            uint8 (4, 6000, 6000): R, G, B, IR
    <root>/Potsdam/{2_Ortho_RGB,3_Ortho_IRRG}/top_potsdam_2_10_{RGB,IRRG}.tif   the same, three bands
    <root>/Potsdam/5_Labels_all/top_potsdam_2_10_label.tif             uint8 (3, 6000, 6000): colours
    <root>/Potsdam/5_Labels_all_noBoundary/top_potsdam_2_10_label_noBoundary.tif
    <root>/Vaihingen/top/top_mosaic_09cm_area1.tif                     uint8 (3, H, W): IR, R, G
    <root>/Vaihingen/ISPRS_semantic_labeling_Vaihingen_ground_truth_COMPLETE/top_mosaic_09cm_area1.tif
    <root>/Vaihingen/ISPRS_semantic_labeling_Vaihingen_ground_truth_eroded_COMPLETE/top_mosaic_09cm_area1_noBoundary.tif

Where an image has a world file (.tfw) and no CRS, it is UTM on WGS 84, zone 33 (Potsdam) or 32 (Vaihingen); without
either its place is not known. A tile is a zone: its windows stay on one side of a split. Surface models are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..scenes.land_cover import isprs_classes
from ..scenes.records import Classes, Imagery, Raster, Scene
from .files import need
from .places import Header, check_windows, header

SOURCE = "ISPRS 2D semantic labelling (https://www.isprs.org/education/benchmarks/UrbanSemLab)"
BANDS = ("nir", "red", "green")  # what both cities have
ORTHOS: Mapping[str, tuple[str, tuple[str, ...]]] = {  # folder -> end of the names, bands
    "2_Ortho_RGB": ("RGB", ("red", "green", "blue")),
    "3_Ortho_IRRG": ("IRRG", ("nir", "red", "green")),
    "4_Ortho_RGBIR": ("RGBIR", ("red", "green", "blue", "nir")),
}


@dataclass(frozen=True)
class City:
    """How one city's files are named and which tiles test.

    Attributes:
        images: Path of an image below the city's folder, with ``{tile}``.
        masks: Path of a mask.
        eroded: Path of a mask without object boundaries.
        bands: Of an image, in order.
        gsd: Metres a pixel.
        crs: Of the world files.
        test: Tiles whose masks the contest held back.
        val: Of the others, the tiles that validate (see :class:`Isprs`).
    """

    images: str
    masks: str
    eroded: str
    bands: tuple[str, ...]
    gsd: float
    crs: str
    test: frozenset[str]
    val: frozenset[str]


_POTSDAM_TEST = "2_13 2_14 3_13 3_14 4_13 4_14 4_15 5_13 5_14 5_15 6_13 6_14 6_15 7_13"
_VAIHINGEN_TEST = "2 4 6 8 10 12 14 16 20 22 24 27 29 31 33 35 38"
_TRUTH = "ISPRS_semantic_labeling_Vaihingen_ground_truth"
CITIES: Mapping[str, City] = {
    "Potsdam": City(
        "{ortho}/top_potsdam_{tile}_{end}.tif",
        "5_Labels_all/top_potsdam_{tile}_label.tif",
        "5_Labels_all_noBoundary/top_potsdam_{tile}_label_noBoundary.tif",
        (),  # as the kind of orthophoto says
        0.05,
        "EPSG:32633",
        frozenset(_POTSDAM_TEST.split()),
        frozenset({"2_10"}),
    ),
    "Vaihingen": City(
        "top/top_mosaic_09cm_area{tile}.tif",
        f"{_TRUTH}_COMPLETE/top_mosaic_09cm_area{{tile}}.tif",
        f"{_TRUTH}_eroded_COMPLETE/top_mosaic_09cm_area{{tile}}_noBoundary.tif",
        ("nir", "red", "green"),
        0.09,
        "EPSG:32632",
        frozenset(_VAIHINGEN_TEST.split()),
        frozenset({"30"}),
    ),
}


@dataclass(frozen=True)
class Isprs:
    """Reads one or both cities.

    Train and test tiles are the contest's. It has no validation tiles; 2_10 of Potsdam and 30 of Vaihingen validate, as
    is widely done (Wang et al. 2022, UNetFormer, ISPRS Journal of Photogrammetry and Remote Sensing 190).

    Attributes:
        cities: Which folders: ``Potsdam``, ``Vaihingen``.
        ortho: Potsdam's orthophotos: ``2_Ortho_RGB`` | ``3_Ortho_IRRG`` | ``4_Ortho_RGBIR``.
        bands: Names of the bands to read, in this order; all cities must have them.
        boundaries: Whether pixels beside the boundaries of objects are labelled; False reads the masks that leave them
            out (``noBoundary``, by which the contest scores).
        legend: ``isprs6`` | ``isprs5`` | ``land_cover``; see :mod:`eo_adapt.data.scenes.land_cover`.
        window: Tiles are cut into windows of so many pixels; those at the lower and right edge are smaller. 0 = whole
            tiles.
        multiple: What is over at the lower and right edge of a tile beyond a multiple of so many pixels is left out,
            since networks take sides that are multiples, mostly of 32. 1 = nothing is.
        skip: Tiles to leave out, as ``Potsdam/7_10``, whose mask is known to be wrong.
    """

    cities: Sequence[str] = tuple(CITIES)
    ortho: str = "4_Ortho_RGBIR"
    bands: Sequence[str] = BANDS
    boundaries: bool = True
    legend: str = "isprs6"
    window: int = 512
    multiple: int = 32
    skip: Sequence[str] = ("Potsdam/7_10",)

    def __post_init__(self) -> None:
        for name in ("cities", "bands", "skip"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        isprs_classes(self.legend)
        if not self.cities or (odd := [city for city in self.cities if city not in CITIES]):
            raise ValueError(f"cities are {list(CITIES)}; got {list(self.cities)}, of which {odd} are none")
        if self.ortho not in ORTHOS:
            raise ValueError(f"ortho is one of {list(ORTHOS)}; got {self.ortho!r}")
        check_windows(self.window, self.multiple)
        for city in self.cities:
            lacking = [band for band in self.bands if band not in self._bands(city)]
            if lacking or not self.bands:
                raise ValueError(
                    f"images of {city} have bands {list(self._bands(city))}; got {list(self.bands)}, of which it lacks "
                    f"{lacking}. Change bands, cities or ortho"
                )

    def _bands(self, city: str) -> tuple[str, ...]:
        return CITIES[city].bands or ORTHOS[self.ortho][1]

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """One sensor, ``aerial``."""
        return {"aerial": Imagery(tuple(self.bands))}

    @property
    def classes(self) -> Classes:
        """The legend, by the colours of the masks."""
        return isprs_classes(self.legend, self.boundaries)

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the windows city by city, tile by tile.

        Raises:
            FileNotFoundError: If a city has no image, or a mask of a labelled city is missing.
        """
        for city in self.cities:
            yield from self._city(Path(root), city)

    def _city(self, root: Path, city: str) -> Iterator[Scene]:
        about = CITIES[city]
        pattern = f"{city}/{about.images}".format(ortho=self.ortho, end=ORTHOS[self.ortho][0], tile="{tile}")
        form = re.compile(re.escape(pattern).replace(r"\{tile\}", r"(?P<tile>\d+(?:_\d+)?)"))
        names = [path.relative_to(root).as_posix() for path in root.glob(pattern.format(tile="*"))]
        tiles = {match["tile"]: name for name in names if (match := form.fullmatch(name))}
        if not tiles:
            need(root / pattern.format(tile="<tile>"), SOURCE)
        masks = f"{city}/{about.masks if self.boundaries else about.eroded}"
        labelled = (root / masks).parent.is_dir()
        for tile in sorted(tiles, key=lambda tile: [int(number) for number in tile.split("_")]):
            if f"{city}/{tile}" in self.skip:
                continue
            mask = masks.format(tile=tile)
            if labelled:
                need(root / mask, f"the mask of {tiles[tile]}, or name the tile in the reader's skip")
            place = header(root / tiles[tile]).assuming(about.crs)
            numbers = tuple(self._bands(city).index(band) + 1 for band in self.bands)
            for row, column, window in place.windows(self.window, self.multiple):
                key = f"{city}-{tile}" + (f"-{row}-{column}" if self.window else "")
                image = Raster(tiles[tile], window, numbers)
                yield self._scene(city, tile, key, image, mask if labelled else "", place)

    def _scene(self, city: str, tile: str, key: str, image: Raster, mask: str, about: Header) -> Scene:
        place, own = about.place(image.window), CITIES[city]
        return Scene(
            key=key,
            images={"aerial": image},
            mask=Raster(mask, image.window) if mask else None,
            lon=place.lon,
            lat=place.lat,
            x=place.x,
            y=place.y,
            crs=place.crs,
            gsd=place.gsd if place.crs else own.gsd,
            zone=f"{city}/{tile}",
            country="DE",
            region=city,
            split="test" if tile in own.test else "val" if tile in own.val else "train",
        )
