"""Parcels + images -> records: options of ``prepare recipe=sentinel2_parcels``, and the order of work."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...paths import cache_dir
from ..records import Record, Sensor
from .checks import check_options, memory_bytes
from .engine import Engine
from .images import S2_BANDS, Acquisition, Twice
from .manifest import Manifest
from .masks import SCL_BAD
from .parcels import Parcels, centres, read_parcels
from .plan import Plan, make_plan, make_tasks, make_units
from .results import Results, make_records, sensor_of, write_lists
from .run import check_failures, locked, run_units
from .safe import Offset
from .sources import find

log = logging.getLogger("eo_adapt.extract")


@dataclass
class ParcelExtraction:
    """Reads parcel series or pixel sets out of archives of images.

    Attributes:
        parcels: Any layer geopandas reads.
        images: Folder of Sentinel-2 products (``*.SAFE``) or of GeoTIFFs, a STAC json, or the address of a STAC API;
            "" = none.
        sentinel1: Folder of terrain-corrected Sentinel-1 GeoTIFFs; "" = none.
        id: Column of parcel ids.
        label: Column of class names; "" = parcels are not labelled (a target).
        columns: hcat, country, region, year, split -> their columns.
        country: Country of all parcels, if it is no column.
        region: Region of all parcels; "" = the tile each lies on.
        year: Label year of all parcels; 0 = that of the images, if it is one.
        layer: Layer of a parcel file with several.
        parcels_crs: CRS of a layer that states none.
        sensor: Name of the series of ``images``.
        bands: Bands of ``images``, in order.
        pattern: Regular expression of GeoTIFF names with groups, see :mod:`.folder`; "" = SAFE folders.
        band_pattern: The same for descriptions of bands within files.
        file_bands: Names of the bands within a file.
        search: For a STAC API: collections, datetime and what else its search takes.
        scale: Physical units per count of GeoTIFFs.
        offset: Counts added to counts; ``auto`` = -1000 for Sentinel-2 baselines from 04.00 on, as metadata say.
        nodata: Numbers that mean nothing in GeoTIFFs, besides what files declare.
        units: Unit of the values of ``images``.
        mask: One of :data:`.masks.KINDS`.
        mask_bad: Classes that are not clear.
        mask_band: Band or asset that holds the mask; "" = as usual for that kind (SCL, CLM, CLP).
        masks: Folder of masks that lie apart, one a tile and day; "" = among the images.
        masks_pattern: Names of these, with groups date and tile.
        cloud_max: Highest cloud probability that is clear, per cent.
        sentinel1_pattern: Names of Sentinel-1 files.
        sentinel1_bands: Names of the bands within a Sentinel-1 file, where the pattern has no band.
        sentinel1_scale: Physical units per count, e.g. 0.01 for decibels times 100.
        sentinel1_nodata: Numbers that mean nothing.
        polarisations: Bands of Sentinel-1, in order.
        backscatter: What its files hold: ``linear`` power or ``db``.
        decibels: Whether the store holds decibels of the mean power rather than the power itself.
        statistics: Of mean, variance, median, share; the first names bands plainly, variance and median add to the
            name.
        pixels: Most pixels a parcel of a pixel set; 0 = statistics instead of pixel sets.
        min_cover: Least fraction of a pixel that a parcel must cover for it to be in the set.
        min_share: Least share of a parcel that must be clear for a date to be valid.
        dates: First and last day to be read; [] = all.
        apart: What series are kept apart by: auto (Sentinel-1 by direction), none, orbit, direction, platform.
        twice: A tile with two images of one pass: ``error``, or the ``latest`` processing.
        reproject: Resampling of images on another grid than their tile's: nearest, bilinear; "" = they are left out.
        shapes: Whether area, perimeter, their ratio and the fill of the bounding box become attributes.
        scheduler: See :data:`.engine.SCHEDULERS`.
        workers: Threads, processes or SLURM jobs.
        memory: Of a worker, e.g. ``2GB``.
        retries: How often a unit that failed is tried again.
        max_failed: Share of units that may fail; if it is more, no store is made.
        slurm: Options of dask-jobqueue's SLURMCluster.
        work: Folder of the work in progress, see :mod:`.manifest`; "" = in the cache.
    """

    parcels: str = "parcels.gpkg"
    images: str = "images"
    sentinel1: str = ""
    id: str = "id"
    label: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    country: str = ""
    region: str = ""
    year: int = 0
    layer: str = ""
    parcels_crs: str = ""
    sensor: str = "s2"
    bands: Sequence[str] = S2_BANDS
    pattern: str = ""
    band_pattern: str = ""
    file_bands: Sequence[str] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1e-4
    offset: Offset = "auto"
    nodata: Sequence[float] = (0,)
    units: str = "reflectance"
    mask: str = "scl"
    mask_bad: Sequence[int] = SCL_BAD
    mask_band: str = ""
    masks: str = ""
    masks_pattern: str = r"(?P<tile>\w{5})_(?P<date>\d{8})"
    cloud_max: float = 40.0
    sentinel1_pattern: str = r"(?P<date>\d{8}(T\d{6})?).*_(?P<band>VV|VH)\.tiff?$"
    sentinel1_bands: Sequence[str] = ()
    sentinel1_scale: float = 1.0
    sentinel1_nodata: Sequence[float] = ()
    polarisations: Sequence[str] = ("VV", "VH")
    backscatter: str = "linear"
    decibels: bool = True
    statistics: Sequence[str] = ("mean",)
    pixels: int = 0
    min_cover: float = 0.5
    min_share: float = 0.5
    dates: Sequence[str] = ()
    apart: str = "auto"
    twice: Twice = "error"
    reproject: str = ""
    shapes: bool = False
    scheduler: str = "processes"
    workers: int = 2
    memory: str = "2GB"
    retries: int = 2
    max_failed: float = 0.1
    slurm: Mapping[str, Any] = field(default_factory=dict)
    work: str = ""

    def __post_init__(self) -> None:
        check_options(self)
        self._results: Results | None = None
        self._sensors: dict[str, Sensor] = {}

    @property
    def memory_bytes(self) -> int:
        """Bytes of a worker."""
        return memory_bytes(self.memory)

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Series -> bands and units; known once :meth:`read` was called."""
        return self._sensors

    def read(self, root: Path) -> Iterator[Record]:
        """Check everything and plan; units run when the first record is asked for.

        Args:
            root: What relative paths are relative to.

        Raises:
            FileNotFoundError: If parcels or images are not there.
            ValueError: If options, parcels or images are not as they should be.
        """
        engine = Engine(self.scheduler, self.workers, self.memory_bytes, self.retries, self.slurm)
        columns = {"id": self.id, **({"label": self.label} if self.label else {}), **self.columns}
        parcels = read_parcels(Path(root) / self.parcels, columns, self.parcels_crs, self.layer)
        if not len(parcels):
            raise ValueError(f"no parcel of {self.parcels} is left: {_why(parcels)}")
        lon, lat, _ = centres(parcels.frame)
        found, lost = find(self, Path(root), (lon.min(), lat.min(), lon.max(), lat.max()))
        plan = make_plan(parcels, found, lost)
        year = self._label_year(found)
        self._sensors = {one.sensor: sensor_of(self, one.family) for one in sorted(found, key=lambda x: x.sensor)}
        for key, reason in plan.parcels.left_out[:5]:
            log.info("parcel %s left out: %s", key, reason)
        log.info(
            "%d parcels (%d left out, %d repaired) on %d tiles, %d acquisitions",
            len(plan.parcels), len(plan.parcels.left_out), len(plan.parcels.repaired), len(plan.tiles), len(found),
        )  # fmt: skip
        return self._records(plan, engine, year)

    def finish(self, folder: Path) -> list[tuple[str, str]]:
        """Write into the store what else there is to know, and return (parcel id, why) of parcels left out before."""
        if self._results is None:
            raise RuntimeError("finish is called after all records were read")
        write_lists(self, self._results, folder)
        return self._results.plan.parcels.left_out

    def _records(self, plan: Plan, engine: Engine, year: int) -> Iterator[Record]:
        manifest = Manifest(Path(self.work) if self.work else cache_dir() / "extraction")
        try:
            with locked(manifest.folder):
                with engine.session() as run:
                    tasks = make_tasks(self, plan, manifest, run)
                    units = make_units(plan, tasks)
                    failed = run_units(manifest, units, tasks, run)
                results = Results(plan, manifest, tasks, units, failed)
                check_failures(results, self.max_failed)
                self._results = results
                yield from make_records(self, results, year)
        finally:
            manifest.close()

    def _label_year(self, found: Sequence[Acquisition]) -> int:
        years = sorted({one.day.year for one in found})
        if self.year or "year" in self.columns or len(years) == 1:
            return self.year or years[0]
        raise ValueError(
            f"the images are of {years[0]} to {years[-1]}: days count from 1 January of the label year, so say "
            f"year=... (or "
            "columns={year: <column>}), or choose dates=[first, last]"
        )


def _why(parcels: Parcels) -> str:
    """How many parcels were left out, by reason."""
    counts = Counter(reason for _, reason in parcels.left_out)
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items())) or "the layer is empty"
