"""Real pixels, real polygons: NDVI of Slovenia with its cloud masks, through a store into training; and why EuroCrops'
Slovenian parcels, which lie 80 km east of these images, are refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import geopandas
import numpy as np
import pytest
import torch
from exactextract import exact_extract
from exactextract.raster import NumPyRasterSource
from small_tiles import write_tif

from eo_adapt.data.extract.grid import Grid
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.store import Store

ROOT = Path(__file__).parents[3]
SHARED = ROOT.parent / "shared" / "data"
STACK = SHARED / "s1_s2_stacks" / "slovenia_eopatch.npz"
PARCELS = SHARED / "s1_s2_stacks" / "slovenia_LULC.gpkg"
EUROCROPS = SHARED / "eurocrops_vectors" / "SI_2021.zip"
pytestmark = pytest.mark.skipif(not STACK.is_file(), reason="the shared data are not here")

OPTIONS = {
    "parcels": str(PARCELS), "id": "index", "label": "LULC_NAME", "sensor": "ndvi", "bands": ["NDVI"],
    "pattern": r"(?P<date>\d{8}T\d{6})_(?P<band>\w+)\.tif", "mask": "clm", "scale": 1e-4, "offset": 0,
    "nodata": [-32768], "units": "1", "statistics": ["mean", "share"], "year": 2016, "scheduler": "synchronous",
}  # fmt: skip


def slovenia(root: Path) -> tuple[np.ndarray, np.ndarray, Grid]:
    """The stack as GeoTIFFs, one a date; (dates, rows, columns) NDVI and clear."""
    with np.load(STACK) as arrays:
        ndvi, clear, dates = arrays["ndvi"], (arrays["cloud_mask"] == 0) & arrays["valid"], arrays["dates"]
    left, bottom, right, top = 465181.0522318204, 5079244.8912012065, 466180.53145382757, 5080254.63349641
    rows, columns = ndvi.shape[1:]
    transform = ((right - left) / columns, 0, left, 0, -(top - bottom) / rows, top)
    grid = Grid("EPSG:32633", transform, columns, rows)
    for number, day in enumerate(dates):
        name = f"{str(day).replace('-', '')}T{number // 60:02d}{number % 60:02d}00"  # one day has two passes
        write_tif(root / f"{name}_NDVI.tif", ndvi[number], grid)
        write_tif(root / f"{name}_CLM.tif", (~clear[number]).astype(np.uint8), grid)
    return ndvi, clear, grid


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, np.ndarray, np.ndarray, Grid]:
    root = tmp_path_factory.mktemp("slovenia")
    ndvi, clear, grid = slovenia(root / "images")
    recipe = Recipe.load("sentinel2_parcels").with_options({**OPTIONS, "work": str(root / "work")})
    store = recipe.prepare(root, root / "store")
    assert isinstance(store, Store)
    return store, ndvi, clear, grid


def test_means_of_real_parcels_are_those_of_exactextract(made: tuple[Store, np.ndarray, np.ndarray, Grid]) -> None:
    store, ndvi, clear, grid = made
    frame = geopandas.read_file(PARCELS).set_index("index").loc[store.index["parcel_id"]].reset_index()
    assert 40 < len(store) <= 88
    got = store.gather(torch.arange(len(store)), {"ndvi": ["NDVI", "valid_share"]})["ndvi"]
    assert got.values.shape[1] == 68
    for date in (0, 20, 45, 67):
        masked = np.where(clear[date] & (ndvi[date] != -32768), ndvi[date] * 1e-4, np.nan)
        raster = NumPyRasterSource(masked, *grid.bounds, srs_wkt=frame.crs.to_wkt())
        theirs = exact_extract(raster, frame, ["mean"], output="pandas")["mean"].to_numpy(float)
        valid = got.valid[:, date].numpy()
        np.testing.assert_allclose(got.values[:, date, 0].numpy()[valid], theirs[valid], rtol=2e-6, atol=1e-6)


def test_the_store_trains_and_gets_its_map(made: tuple[Store, np.ndarray, np.ndarray, Grid], tmp_path: Path) -> None:
    """The ordinary commands on the ordinary store, down to a layer that a GIS opens."""
    domain = "{_target_: eo_adapt.types.Domain, name: SI, recipe: sentinel2_parcels, select: {}}"
    words = [
        "task=crops", "data=sentinel2_parcels", f"data.store={made[0].path}", f"shift.sources=[{domain}]",
        "shift.targets=[]", "encoder=tempcnn", "method=source_only", "selection=source_val", "trainer=smoke",
        "trainer.max_epochs=2", "data.split.block_size=200", "data.split.buffer=0", "data.min_per_class=1",
        "data.batch_size=8", "data.steps_per_epoch=3", "figures=false", f"hydra.run.dir={tmp_path}",
    ]  # fmt: skip
    predict = [f"run={tmp_path}", f"input={made[0].path}", f"output={tmp_path / 'map.gpkg'}"]
    for verb, given in (("train", words), ("predict", predict)):
        command = [sys.executable, "-m", f"eo_adapt.{verb}", *given]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240)
        assert done.returncode == 0, done.stderr
    domains = json.loads((tmp_path / "report.json").read_text())["domains"]
    assert list(domains) == ["SI"]
    layer = geopandas.read_file(tmp_path / "map.gpkg").set_index("parcel_id")
    assert layer.index.tolist() == made[0].index["parcel_id"].tolist()
    assert set(layer["class"]) <= set(made[0].index["label"])
    declared = geopandas.read_file(PARCELS).set_index("index").loc[layer.index].to_crs("EPSG:32633")
    apart = layer.to_crs("EPSG:32633").distance(declared.representative_point())
    assert apart.max() < 2000  # metres: the place of each parcel, which the store keeps rounded


@pytest.mark.skipif(not EUROCROPS.is_file(), reason="the shared data are not here")
def test_eurocrops_of_slovenia_lies_elsewhere(tmp_path: Path) -> None:
    slovenia(tmp_path / "images")
    options = {**OPTIONS, "parcels": str(EUROCROPS), "id": "ID", "label": "EC_hcat_n", "columns": {"hcat": "EC_hcat_c"}}
    recipe = Recipe.load("sentinel2_parcels").with_options({**options, "work": str(tmp_path / "work")})
    with pytest.raises(ValueError, match=r"none of \d+ parcels lies on an image. Parcels: lon 15\.\d+ to 15\.\d+"):
        recipe.prepare(tmp_path, tmp_path / "store")
