"""Made-up declared parcels in the layout of EuroCrops; see :mod:`eo_adapt.data.readers.eurocrops` for the layout.

Fields are quadrilaterals of a village's strip plan; crops and codes are of HCAT3. Columns of the agency differ between
countries, as they do in the original; one row in forty has no code, as a parcel of several crops.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CROPS = (  # English, HCAT3 name, code, share
    ("Wheat winter", "winter_common_soft_wheat", "3301010101", 0.25),
    ("Barley summer", "spring_barley", "3301010402", 0.15),
    ("Rape winter", "winter_rapeseed_rape", "3301060401", 0.12),
    ("Maize", "grain_maize_corn_popcorn", "3301010600", 0.13),
    ("Permanent grassland", "pasture_meadow_grassland_grass", "3302000000", 0.30),
    ("Potatoes", "potatoes", "3301030000", 0.05),
)
PLACES = {  # CRS, corner, columns of the agency, folder in the archive
    "LV": ("EPSG:3059", (500_000.0, 300_000.0), ("PARCEL_ID", "AREA_DECLA"), True),
    "SI": ("EPSG:3794", (450_000.0, 100_000.0), ("ID", "AREA"), False),
    "EE": ("EPSG:3301", (550_000.0, 6_500_000.0), ("pollu_id", "pindala_ha"), True),
}


@dataclass(frozen=True)
class EuroCropsWorld:
    """Writes ``<root>/<layer>.zip`` for every layer.

    Attributes:
        layers: Of LV, SI and EE, and a year: ``LV_2021``.
        parcels: Of each.
        seed: Of everything.
    """

    layers: Sequence[str] = ("LV_2021", "SI_2021")
    parcels: int = 60
    seed: int = 0

    def __post_init__(self) -> None:
        if odd := [layer for layer in self.layers if layer[:2] not in PLACES or not layer[3:].isdecimal()]:
            raise ValueError(f"layers are a country of {list(PLACES)} and a year, as LV_2021; got {odd}")

    def write(self, root: Path) -> None:
        """Write all archives below ``root``."""
        import tempfile

        root.mkdir(parents=True, exist_ok=True)
        for layer in self.layers:
            with tempfile.TemporaryDirectory() as folder:
                self._shapefile(layer, Path(folder))
                inside = f"{layer}/" if PLACES[layer[:2]][3] else ""
                with zipfile.ZipFile(root / f"{layer}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
                    for path in sorted(Path(folder).iterdir()):
                        if path.suffix != ".cpg":
                            info = zipfile.ZipInfo(f"{inside}{path.name}", (2023, 8, 9, 0, 0, 0))
                            packed.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)

    def _shapefile(self, layer: str, folder: Path) -> None:
        import geopandas
        import shapely

        rng = np.random.default_rng([self.seed, zlib.crc32(layer.encode())])
        crs, corner, columns, _ = PLACES[layer[:2]]
        n = self.parcels
        column, row = np.arange(n) % 10, np.arange(n) // 10
        west, south = corner[0] + 260.0 * column, corner[1] + 160.0 * row
        nudge = rng.uniform(0, 25, (n, 4, 2))
        square = np.array([[0, 0], [200, 0], [200, 110], [0, 110]])
        rings = np.stack([west, south], -1)[:, None] + square + nudge
        crop = rng.choice(len(CROPS), n, p=[share for *_, share in CROPS])
        outlines = shapely.polygons(rings)
        text = [[CROPS[i][part] for i in crop] for part in range(3)]
        for i in range(20, n, 40):  # several crops on one parcel: no code
            text[1][i] = text[2][i] = None  # type: ignore[call-overload]
        about = {columns[0]: rng.permutation(np.arange(10_000_000, 10_000_000 + n)), columns[1]: shapely.area(outlines)}
        harmonised = {"EC_NUTS3": f"{layer[:2]}008", "EC_trans_n": text[0], "EC_hcat_n": text[1], "EC_hcat_c": text[2]}
        frame = geopandas.GeoDataFrame({**about, **harmonised}, geometry=outlines, crs=crs)
        frame.to_file(folder / f"{layer}_EC21.shp")
