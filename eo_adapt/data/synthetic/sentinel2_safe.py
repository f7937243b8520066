"""Small made-up Sentinel-2 products in the layout of the genuine ones: SAFE folders, JP2 images, XML metadata.

    <root>/parcels.gpkg                                 id, label, geometry
    <root>/images/S2A_MSIL2A_20210501T101031_N0300_R022_T33TVM_20210501T140000.SAFE/
        MTD_MSIL2A.xml
        GRANULE/L2A_T33TVM_A030591_20210501T101031/IMG_DATA/R10m/T33TVM_20210501T101031_B02_10m.jp2
        GRANULE/.../IMG_DATA/R20m/..._B05_20m.jp2, ..._SCL_20m.jp2

Fields are rectangles that green up and ripen by class; a cloud covers part of each scene. From baseline 04.00 on,
counts are 1000 higher and the metadata say so, as in the originals. JP2 is written without loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

BANDS = {
    "B02": 10, "B03": 10, "B04": 10, "B08": 10,
    "B05": 20, "B06": 20, "B07": 20, "B8A": 20, "B11": 20, "B12": 20,
}  # fmt: skip
NUMBERS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
CORNER = (399960.0, 5100000.0)  # of tile 33TVM in EPSG:32633
SOIL = {
    "B02": 900,
    "B03": 1200,
    "B04": 1500,
    "B05": 1800,
    "B06": 2100,
    "B07": 2300,
    "B08": 2500,
    "B8A": 2600,
    "B11": 3200,
    "B12": 2600,
}
CROP = {
    "B02": 350,
    "B03": 700,
    "B04": 350,
    "B05": 1000,
    "B06": 2800,
    "B07": 3600,
    "B08": 4200,
    "B8A": 4400,
    "B11": 1900,
    "B12": 900,
}
PEAK = {"winter_wheat": 130, "maize": 210, "sunflower": 190}
CLEAR, CLOUD = 4, 9


@dataclass(frozen=True)
class Product:
    """One scene.

    Attributes:
        day: Of the pass.
        baseline: Processing baseline.
        orbit: Relative orbit.
        tile: Name of the tile.
        corner: Left and top of the tile, metres.
        crs: Its CRS.
        satellite: ``S2A`` or ``S2B``.
        cloud: Left and right edge of a cloud, as shares of the width.
        clock: Time of the pass.
    """

    day: date
    baseline: str = "03.00"
    orbit: int = 22
    tile: str = "33TVM"
    corner: tuple[float, float] = CORNER
    crs: str = "EPSG:32633"
    satellite: str = "S2A"
    cloud: tuple[float, float] = (0.0, 0.0)
    clock: str = "T101031"

    @property
    def name(self) -> str:
        """Of its folder."""
        time, baseline = f"{self.day:%Y%m%d}{self.clock}", self.baseline.replace(".", "")
        return (
            f"{self.satellite}_MSIL2A_{time}_N{baseline}_R{self.orbit:03d}_T{self.tile}_{self.day:%Y%m%d}T140000.SAFE"
        )

    @property
    def offset(self) -> int:
        """Counts that the metadata say must be added."""
        return -1000 if float(self.baseline) >= 4 else 0


@dataclass(frozen=True)
class SafeWorld:
    """Writes parcels and one product a date.

    Attributes:
        parcels: Number of fields.
        dates: Number of products, half of them before and half after the change of baseline.
        seed: Of fields and noise.
        size: Width and height of a tile in 10 m pixels.
        bands: Bands that are written.
    """

    parcels: int = 40
    dates: int = 6
    seed: int = 0
    size: int = 240
    bands: Sequence[str] = tuple(BANDS)

    def write(self, root: Path) -> None:
        """Write ``parcels.gpkg`` and ``images/``."""
        frame = self.fields()
        frame.to_file(root / "parcels.gpkg", driver="GPKG")
        for number in range(self.dates):
            day = date(2022, 1, 25) + timedelta(days=round((number - self.dates / 2) * 240 / max(self.dates, 1)))
            new = day >= date(2022, 1, 25)
            edge = 0.25 * (number % 4)
            self.product(root / "images", Product(day, "04.00" if new else "03.00", cloud=(edge, edge + 0.2)), frame)

    def fields(self) -> Any:
        """Fields with id and label, in EPSG:32633."""
        import geopandas
        import shapely

        rng = np.random.default_rng(self.seed)
        side = int(np.ceil(np.sqrt(self.parcels)))
        cell = self.size * 10 / side
        shapes, labels = [], []
        for number in range(self.parcels):
            down, across = divmod(number, side)
            left, top = CORNER[0] + across * cell, CORNER[1] - down * cell
            inset = rng.uniform(0.05, 0.2, 4) * cell
            shapes.append(shapely.box(left + inset[0], top - cell + inset[1], left + cell - inset[2], top - inset[3]))
            labels.append(str(rng.choice(list(PEAK))))
        ids = [f"F{number:04d}" for number in range(self.parcels)]
        return geopandas.GeoDataFrame({"id": ids, "label": labels}, geometry=shapes, crs="EPSG:32633")

    def product(self, folder: Path, product: Product, frame: Any) -> Path:
        """Write one product and return its folder."""
        time = f"{product.day:%Y%m%d}{product.clock}"
        safe = folder / product.name
        granule = safe / "GRANULE" / f"L2A_T{product.tile}_A030591_{time}"
        rng = np.random.default_rng([self.seed, product.day.toordinal(), product.orbit])
        for band in self.bands:
            meters = BANDS[band]
            counts = self._counts(band, meters, product, frame, rng) - product.offset
            self._image(granule, f"T{product.tile}_{time}_{band}", meters, counts.astype(np.uint16), product)
        width = self.size // 2
        scl = np.full((width, width), CLEAR, np.uint8)
        scl[:, int(product.cloud[0] * width) : int(product.cloud[1] * width)] = CLOUD
        self._image(granule, f"T{product.tile}_{time}_SCL", 20, scl, product)
        (safe / "MTD_MSIL2A.xml").write_text(_metadata(product), encoding="utf-8")
        return safe

    def _counts(self, band: str, meters: int, product: Product, frame: Any, rng: np.random.Generator) -> np.ndarray:
        """Counts (rows, columns) without offset."""
        from affine import Affine
        from rasterio.features import rasterize

        width = self.size * 10 // meters
        transform = Affine(meters, 0, product.corner[0], 0, -meters, product.corner[1])
        doy = product.day.timetuple().tm_yday
        green = {label: np.exp(-(((doy - peak) / 45) ** 2)) for label, peak in PEAK.items()}
        shapes = frame.to_crs(product.crs)
        values = [SOIL[band] + (CROP[band] - SOIL[band]) * green[label] for label in shapes["label"]]
        base = np.full((width, width), SOIL[band], np.float64)
        pairs = list(zip(shapes.geometry, values, strict=True))
        image = rasterize(pairs, (width, width), transform=transform, fill=0, dtype="float64") if pairs else base
        image = np.where(image == 0, base, image) + rng.normal(0, 25, base.shape)
        image[:, int(product.cloud[0] * width) : int(product.cloud[1] * width)] += 5000
        return np.clip(np.rint(image), 1, 20000)

    def _image(self, granule: Path, name: str, meters: int, counts: np.ndarray, product: Product) -> None:
        import rasterio
        from affine import Affine

        path = granule / "IMG_DATA" / f"R{meters}m" / f"{name}_{meters}m.jp2"
        path.parent.mkdir(parents=True, exist_ok=True)
        transform = Affine(meters, 0, product.corner[0], 0, -meters, product.corner[1])
        options = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO", "BLOCKXSIZE": 128, "BLOCKYSIZE": 128}
        with rasterio.open(
            path, "w", driver="JP2OpenJPEG", width=counts.shape[1], height=counts.shape[0], count=1, dtype=counts.dtype,
            crs=product.crs, transform=transform, **options,
        ) as file:  # fmt: skip
            file.write(counts, 1)


def _metadata(product: Product) -> str:
    """The part of MTD_MSIL2A.xml that is needed to read the numbers, element by element as in the originals."""
    start = f"{product.day}T{product.clock[1:3]}:{product.clock[3:5]}:{product.clock[5:7]}.024Z"
    take = f"G{product.satellite}_{product.day:%Y%m%d}{product.clock}_030591_N{product.baseline}"
    mission = f"Sentinel-{product.satellite[1:]}"
    offsets = "".join(
        f'<BOA_ADD_OFFSET band_id="{number}">{product.offset}</BOA_ADD_OFFSET>' for number in range(len(NUMBERS))
    )
    listed = f"<BOA_ADD_OFFSET_VALUES_LIST>{offsets}</BOA_ADD_OFFSET_VALUES_LIST>" if product.offset else ""
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="https://psd-14.sentinel2.eo.esa.int/PSD/User_Product_Level-2A.xsd">
  <n1:General_Info>
    <Product_Info>
      <PRODUCT_START_TIME>{start}</PRODUCT_START_TIME>
      <PRODUCT_URI>{product.name}</PRODUCT_URI>
      <PROCESSING_LEVEL>Level-2A</PROCESSING_LEVEL>
      <PROCESSING_BASELINE>{product.baseline}</PROCESSING_BASELINE>
      <Datatake datatakeIdentifier="{take}">
        <SPACECRAFT_NAME>{mission}</SPACECRAFT_NAME>
        <SENSING_ORBIT_NUMBER>{product.orbit}</SENSING_ORBIT_NUMBER>
        <SENSING_ORBIT_DIRECTION>DESCENDING</SENSING_ORBIT_DIRECTION>
      </Datatake>
    </Product_Info>
    <Product_Image_Characteristics>
      <Special_Values><SPECIAL_VALUE_TEXT>NODATA</SPECIAL_VALUE_TEXT><SPECIAL_VALUE_INDEX>0</SPECIAL_VALUE_INDEX></Special_Values>
      <QUANTIFICATION_VALUES_LIST>
        <BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE>
      </QUANTIFICATION_VALUES_LIST>
      {listed}
    </Product_Image_Characteristics>
  </n1:General_Info>
</n1:Level-2A_User_Product>
"""
