"""FLAIR-HUB: aerial, SPOT and historical images, elevation, Sentinel-2 and Sentinel-1 series on one footprint.

Raw layout (Garioud et al. 2025, arXiv:2506.07080), one archive a domain and modality, unpacked in place::

    <root>/D006-2020_AERIAL_RGBI/FF-S1-14/D006-2020_AERIAL_RGBI_FF-S1-14_5-5.tif        uint8 (4, 512, 512), 0.2 m
    <root>/D006-2020_DEM_ELEV/FF-S1-14/D006-2020_DEM_ELEV_FF-S1-14_5-5.tif              float32 (2, 512, 512), 0.2 m
    <root>/D006-2020_SPOT_RGBI/FF-S1-14/D006-2020_SPOT_RGBI_FF-S1-14_5-5.tif            uint16 (4, 64, 64), 1.6 m
    <root>/D006-195X_AERIAL-RLT_PAN/FF-S1-14/D006-195X_AERIAL-RLT_PAN_FF-S1-14_5-5.tif  uint8 (1, 256, 256), 0.4 m
    <root>/D006-2020_SENTINEL2_TS/FF-S1-14/D006-2020_SENTINEL2_TS_FF-S1-14_5-5.tif      uint16 (T x 10, 10, 10), counts
    <root>/D006-2020_SENTINEL2_MSK-SC/...                                               uint8 (T x 2, 10, 10), see below
    <root>/D006-2020_SENTINEL1-ASC_TS/..., _SENTINEL1-DESC_TS/...                       float32 (T x 2, 10, 10), VV, VH
    <root>/D006-2020_AERIAL_LABEL-COSIA/FF-S1-14/D006-2020_AERIAL_LABEL-COSIA_FF-S1-14_5-5.tif  uint8, 0..18, 0.2 m
    <root>/GLOBAL_ALL_MTD/GLOBAL_ALL_MTD_SPLIT.gpkg                                      patch_id, split_1 .. split_5
    <root>/GLOBAL_ALL_MTD/GLOBAL_SENTINEL2_MTD_DATES.gpkg      patch_id, acquisition_dates {"0": "20200103", "1": ...};
                                                               ..._SENTINEL1-ASC_..., ..._SENTINEL1-DESC_... alike

``D006-2020`` is department (or two, as ``D024047``) and year, ``FF-S1-14`` a region of interest, ``5-5`` row and column
of the patch in it. Coordinates are EPSG:2154. Pixels of the Sentinels are a tenth of the footprint's side, so 10.24 m.
Whether radar is linear or in decibels is not certain: ``radar`` declares it, values that cannot be such are refused.
Masks are percent of snow and of cloud. Not read: crop labels (LPIS), dates of aerial and SPOT images.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..scenes.flair_classes import flair_classes
from ..scenes.flair_splits import split_of
from ..scenes.records import Classes, Imagery, Raster, Scene, Series
from .files import check_columns, damaged, need, read_csv
from .flair_hub_series import MASKS, SENTINEL2, SERIES, UNITS, read_dates, series_imagery, series_of
from .places import header

CRS, GSD = "EPSG:2154", 0.2
SOURCE = "FLAIR-HUB (https://huggingface.co/datasets/IGNF/FLAIR-HUB)"
LABELS = "AERIAL_LABEL-COSIA"
SPLIT_FILE = "GLOBAL_ALL_MTD/GLOBAL_ALL_MTD_SPLIT.gpkg"
DEPARTMENTS = "flair_hub"  # fold 1 by department, without a file
PARTS = {"train": "train", "valid": "val", "val": "val", "test": "test"}
PATCH = re.compile(r"(?P<department>D\d{3}(?:\d{3})?)-(?P<year>\d{4})_(?P<roi>[^_]+)_(?P<cell>\d+-\d+)")
ELEVATION = "DEM_ELEV"
# band of elevation -> its number in the file, and that of the band to take from it
ELEVATIONS: Mapping[str, tuple[int, int]] = {"surface": (1, 0), "terrain": (2, 0), "height": (1, 2)}
# modality -> sensor and how its numbers are to be read
IMAGES: Mapping[str, tuple[str, Imagery]] = {
    "AERIAL_RGBI": ("aerial", Imagery(("red", "green", "blue", "nir"))),
    ELEVATION: ("elevation", Imagery((), "metre", dtype="float32")),  # bands by option
    "SPOT_RGBI": ("spot", Imagery(("red", "green", "blue", "nir"), dtype="uint16")),
    "AERIAL-RLT_PAN": ("historical", Imagery(("pan",))),
}
MODALITIES: Mapping[str, str] = {name: sensor for name, (sensor, _) in {**IMAGES, **SERIES}.items()}
ON_GRID = ("AERIAL_RGBI", ELEVATION)  # on the grid of the labels
HISTORICAL = "AERIAL-RLT_PAN"  # of the 1950s: its folders say 195X


@dataclass(frozen=True)
class FlairHub:
    """Reads the patches of FLAIR-HUB.

    Attributes:
        modalities: Which of :data:`MODALITIES`, each a sensor of its own; every patch must have all of them that are
            not ``optional``. The first one, on whose grid labels lie, is ``AERIAL_RGBI`` or ``DEM_ELEV``.
        domains: Which domains, as ``D006-2020``; () = all that are there.
        legend: ``flair19`` | ``flair15`` (what FLAIR-HUB scores) | ``flair13`` | ``flair12`` | ``land_cover``.
        splits: ``flair_hub``: fold 1, by department; a column of the published GeoPackage (``split_1`` to ``split_5``,
            ``split_flairchallenge``); or part -> csv file with a column ``patch_id``, as the toy data have them
            (``{train: FLAIR-HUB_TOY-DATASET_TRAIN.csv, val: ..., test: ...}``). Patches that none names have no split.
        elevation: Bands of ``DEM_ELEV``: ``surface`` and ``terrain``, metres above the sea, and ``height``, the first
            less the second.
        radar: Unit of the Sentinel-1 files: ``linear`` | ``dB``.
        clear: Share of a patch's pixels that must show at most 1 % of snow and of cloud for a date of Sentinel-2 to
            count; 0.95 is the publisher's.
        optional: Modalities that a patch or a whole domain may lack; not the first.
    """

    modalities: Sequence[str] = ("AERIAL_RGBI",)
    domains: Sequence[str] = ()
    legend: str = "flair15"
    splits: Any = DEPARTMENTS
    elevation: Sequence[str] = ("surface", "terrain")
    radar: str = "linear"
    clear: float = 0.95
    optional: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("modalities", "domains", "elevation", "optional"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if odd := [name for name in self.modalities if name not in MODALITIES]:
            raise ValueError(f"modalities are {list(MODALITIES)}; got {list(self.modalities)}, of which {odd} are none")
        if not self.modalities or self.modalities[0] not in ON_GRID or len(set(self.modalities)) < len(self.modalities):
            raise ValueError(
                f"the first modality is one of {list(ON_GRID)}, on whose grid the labels lie, and none is named twice; "
                f"got {list(self.modalities)}"
            )
        if not set(self.optional) <= set(self.modalities[1:]):
            raise ValueError(
                f"optional names some of the modalities but the first, {list(self.modalities[1:])}; got "
                f"{list(self.optional)}"
            )
        if not self.elevation or not set(self.elevation) <= set(ELEVATIONS):
            raise ValueError(f"elevation is some of {list(ELEVATIONS)}; got {list(self.elevation)}")
        if self.radar not in UNITS:
            raise ValueError(f"radar is one of {list(UNITS)}; got {self.radar!r}")
        if isinstance(self.splits, Mapping) and (odd := sorted(set(self.splits) - set(PARTS))):
            raise ValueError(f"splits maps train, val and test to csv files; got {odd}")
        flair_classes(self.legend, "cosia")

    @property
    def sensors(self) -> Mapping[str, Imagery]:
        """A sensor each modality: aerial, elevation, spot, historical, s2, s1_asc, s1_desc."""
        return {MODALITIES[name]: self._imagery(name) for name in self.modalities}

    def _imagery(self, modality: str) -> Imagery:
        may = modality in self.optional
        if modality in SERIES:
            return replace(series_imagery(modality, self.radar, self.clear), optional=may)
        imagery = IMAGES[modality][1]
        if modality != ELEVATION:
            return replace(imagery, optional=may)
        minus = tuple(ELEVATIONS[band][1] for band in self.elevation)
        return replace(imagery, bands=tuple(self.elevation), minus=minus if any(minus) else (), optional=may)

    @property
    def classes(self) -> Classes:
        """The legend, by the numbers 0..18 of COSIA."""
        return flair_classes(self.legend, "cosia")

    def read(self, root: Path) -> Iterator[Scene]:
        """Yield the patches domain by domain.

        Raises:
            FileNotFoundError: If a domain, an image of a modality, the mask of a labelled domain or the splits are
                missing.
            ValueError: If an archive is not unpacked, a name is foreign, or the splits are damaged.
        """
        root, first = Path(root), self.modalities[0]
        form = re.compile(rf"(D\d+-\d{{4}})_{first}(\.zip)?")
        names = self.domains or sorted({m[1] for p in root.glob("D*") if (m := form.fullmatch(p.name))})
        if not names:
            need(root / f"D<department>-<year>_{first}", SOURCE)
        parts = _parts(root, self.splits)
        dates = {name: read_dates(root, name, SOURCE) for name in self.modalities if name in SERIES}
        for name in names:
            yield from self._domain(root, name, parts, dates)

    def _domain(
        self, root: Path, domain: str, parts: Mapping[str, str] | None, dates: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Scene]:
        for modality in self.modalities:
            _unpacked(root / _folder(domain, modality), modality not in self.optional)
        first = _folder(domain, self.modalities[0])
        images = sorted((root / first).glob("*/*.tif"))
        if not images:
            need(root / first / "<region of interest>" / f"{first}_<region of interest>_<row>-<column>.tif", SOURCE)
        labelled = _unpacked(root / _folder(domain, LABELS), wanted=False)
        for path in images:
            key = path.stem.replace(f"{first}_", f"{domain}_", 1)
            match = PATCH.fullmatch(key)
            if match is None or match["roi"] != path.parent.name:
                raise ValueError(f"{path}: images are named as {first}/FF-S1-14/{first}_FF-S1-14_5-5.tif")
            files = self._files(root, domain, key, match, labelled)
            part = split_of(DEPARTMENTS, match["department"], match["roi"]) if parts is None else parts.get(key, "")
            yield self._scene(root, key, match, files, part, dates)

    def _files(self, root: Path, domain: str, key: str, match: re.Match[str], labelled: bool) -> dict[str, str]:
        """Modality -> the patch's file below the root; of labels and masks, too."""
        wanted = [*self.modalities, *((LABELS,) if labelled else ())]
        files = {m: _file(domain, m, match) for m in wanted}
        files = {m: file for m, file in files.items() if m not in self.optional or (root / file).exists()}
        if SENTINEL2 in files:
            files[MASKS] = _file(domain, MASKS, match)
        for modality, file in files.items():
            need(root / file, f"the {modality} of patch {key}")
        return files

    def _image(
        self, root: Path, modality: str, key: str, files: Mapping[str, str], dates: Mapping[str, Mapping[str, Any]]
    ) -> Raster | Series:
        path = files[modality]
        if modality in SERIES:
            mask = files[MASKS] if modality == SENTINEL2 else ""
            return series_of(root, modality, key, path, mask, dates[modality])
        chosen = tuple(ELEVATIONS[band][0] for band in self.elevation)
        whole = modality != ELEVATION or self.elevation == ("surface", "terrain")
        return Raster(path, bands=() if whole else chosen)

    def _scene(
        self,
        root: Path,
        key: str,
        match: re.Match[str],
        files: Mapping[str, str],
        part: str,
        dates: Mapping[str, Mapping[str, Any]],
    ) -> Scene:
        place = header(root / files[self.modalities[0]]).place(crs=CRS)
        return Scene(
            key=key,
            images={MODALITIES[m]: self._image(root, m, key, files, dates) for m in self.modalities if m in files},
            mask=Raster(files[LABELS]) if LABELS in files else None,
            lon=place.lon,
            lat=place.lat,
            x=place.x,
            y=place.y,
            crs=place.crs,
            gsd=place.gsd if place.crs else GSD,
            zone=f"{match['department']}-{match['year']}/{match['roi']}",
            country="FR",
            region=match["department"],
            year=int(match["year"]),
            split=part,
        )


def _folder(domain: str, modality: str) -> str:
    if modality == HISTORICAL:
        domain = f"{domain.rsplit('-', 1)[0]}-195X"
    return f"{domain}_{modality}"


def _file(domain: str, modality: str, match: re.Match[str]) -> str:
    """Path of a patch's file below the root."""
    folder = _folder(domain, modality)
    return f"{folder}/{match['roi']}/{folder}_{match['roi']}_{match['cell']}.tif"


def _unpacked(folder: Path, wanted: bool = True) -> bool:
    """Whether a domain's folder of a modality is there; an archive beside which it is not is an error."""
    if folder.is_dir():
        return True
    archive = folder.with_name(f"{folder.name}.zip")
    if archive.exists():
        raise ValueError(
            f"{archive} is an archive; windows cannot be read from it at a bearable speed. Unpack it beside itself "
            f"(unzip {archive.name} -d {archive.parent}), or name the domains to read in the reader's domains"
        )
    if wanted:
        need(folder, f"{SOURCE}, or name the domains to read in the reader's domains")
    return False


def _parts(root: Path, splits: Any) -> dict[str, str] | None:
    """Patch id -> train, val or test; None = by department."""
    if splits == DEPARTMENTS:
        return None
    if isinstance(splits, Mapping):
        found: dict[str, str] = {}
        for part, name in splits.items():
            path = need(root / name, "the list of patches that the reader's splits name")
            frame = read_csv(path, dtype=str)
            check_columns(path, frame.columns, {"patch id": "patch_id"})
            found |= dict.fromkeys(frame["patch_id"], PARTS[part])
        return found
    return _published(need(root / SPLIT_FILE, f"{SOURCE}, or set the reader's splits: {DEPARTMENTS}"), str(splits))


def _published(path: Path, column: str) -> dict[str, str]:
    import geopandas
    from pyogrio.errors import DataSourceError

    try:
        frame = geopandas.read_file(path, ignore_geometry=True)
    except DataSourceError as error:
        raise damaged(path, error) from error
    check_columns(path, frame.columns, {"patch id": "patch_id", "split": column})
    if odd := sorted(set(frame[column].dropna()) - set(PARTS)):
        raise ValueError(f"{path}: column {column!r} holds {odd[:5]}; parts are {list(PARTS)}")
    return {str(key): PARTS.get(str(part), "") for key, part in zip(frame["patch_id"], frame[column], strict=True)}
