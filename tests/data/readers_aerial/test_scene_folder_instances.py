"""Things of a scene folder: each polygon one, numbered rasters, windows, what does not fit; a run that learns them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import rasterio
from quick import BRIEF, ROOT
from rasterio.transform import from_origin
from shapely.geometry import Polygon, box

from eo_adapt.data.readers.scene_folder import SceneFolder
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes

SIDE, STEP, WEST, NORTH = 64, 2.0, 5e5, 5e6
SPEC: dict[str, Any] = {
    "images": "*/img_*.tif",
    "path": r"(?P<city>\w+)/img_(?P<n>\d+)\.tif",
    "imagery": {"rgb": {"bands": ["red", "green", "blue"], "dtype": "uint8"}},
    "names": {0: "ground", 1: "roof", 2: "field"},
    "columns": {"key": "{city}-{n}", "zone": "{city}-{n}", "region": "{city}"},
    "mask": {"path": "{city}/things.gpkg", "column": "use"},
    "instances": "polygons",
    "stuff": ["ground"],
}


def patch(south: int, number: int, row: float, column: float, height: float, width: float) -> Polygon:
    """A rectangle in pixels of one image; images lie apart, cities ``south`` metres from the first."""
    west, north = WEST + (3 * number * SIDE + column) * STEP, NORTH - south - row * STEP
    return box(west, north - height * STEP, west + width * STEP, north)


def write(root: Path, cities: tuple[str, ...] = ("bonn", "lyon"), images: int = 4) -> None:
    """Bright roofs and green fields on noise, by columns of polygons; two touch, one overlaps another, one is empty."""
    rng = np.random.default_rng(0)
    for south, city in zip((0, 10_000), cities, strict=True):
        (root / city).mkdir(parents=True)
        shapes: list[Polygon] = []
        uses: list[str] = []
        for n in range(images):
            at = from_origin(WEST + 3 * n * SIDE * STEP, NORTH - south, STEP, STEP)
            pixels = rng.integers(60, 80, (3, SIDE, SIDE)).astype(np.uint8)
            for k in range(6):
                row, column = 4 + 20 * (k // 3), 3 + 20 * (k % 3)
                height, width = rng.integers(8, 16, 2)
                shapes.append(patch(south, n, row, column, int(height), int(width)))
                uses.append("roof" if k % 2 else "field")
                pixels[slice(None) if k % 2 else 1, row : row + height, column : column + width] += 100
            with rasterio.open(
                root / city / f"img_{n}.tif", "w", driver="GTiff", height=SIDE, width=SIDE, count=3, dtype="uint8",
                crs="EPSG:32631", transform=at,
            ) as file:  # fmt: skip
                file.write(pixels)
        shapes += [
            patch(south, 0, 50, 10, 8, 8),
            patch(south, 0, 50, 18, 8, 8),
            patch(south, 0, 54, 14, 6, 6),
            Polygon(),
        ]
        uses += ["roof", "roof", "field", "roof"]
        frame = geopandas.GeoDataFrame({"use": uses}, geometry=shapes, crs="EPSG:32631")
        frame.to_crs("EPSG:4326").to_file(root / city / "things.gpkg")


def stored(root: Path, out: Path, **changes: Any) -> SceneStore:
    reader = SceneFolder(**{**SPEC, **changes})
    write_scenes(out, "vhr_buildings", root, reader.read(root), reader.sensors, reader.classes)
    return SceneStore(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("things")
    write(root)
    return root


def test_each_polygon_is_one_thing(folder: Path, tmp_path: Path) -> None:
    store = stored(folder, tmp_path / "s")
    assert store.has_instances
    assert store.classes.stuff == {"ground"}
    found = store.instances(0)
    assert found.dtype == np.int32
    assert sorted(np.unique(found)) == [0, 1, 2, 3, 4, 5, 6, 25, 26, 27]
    frame = geopandas.read_file(folder / "bonn/things.gpkg").to_crs("EPSG:32631")
    xs, ys = np.meshgrid(WEST + (np.arange(SIDE) + 0.5) * STEP, NORTH - (np.arange(SIDE) + 0.5) * STEP)
    want = np.zeros((SIDE, SIDE), int)
    for number, shape in enumerate(frame.geometry, 1):  # pixel centres within, later ones over earlier ones
        if shape is not None and not shape.is_empty:
            inside = geopandas.GeoSeries(geopandas.points_from_xy(xs.ravel(), ys.ravel())).within(shape)
            want[inside.to_numpy().reshape(want.shape)] = number
    assert (found != want).mean() < 0.01  # outlines went through degrees
    assert (store.index["instances.n"] == [9, 6, 6, 6] * 2).all()
    assert store.about["instances"] == 54


def test_windows_cut_things_and_keep_their_numbers(folder: Path, tmp_path: Path) -> None:
    whole, cut = stored(folder, tmp_path / "s"), stored(folder, tmp_path / "w", window=32)
    parts = [cut.instances(row) for row in range(4)]
    joined = np.block([[parts[0], parts[1]], [parts[2], parts[3]]])
    np.testing.assert_array_equal(joined, whole.instances(0))
    np.testing.assert_array_equal(whole.instances(1, (8, 16, 20, 30)), whole.instances(1)[8:28, 16:46])
    whole.keep = True
    np.testing.assert_array_equal(whole.instances(1, (8, 16, 20, 30)), whole.instances(1)[8:28, 16:46])


def test_a_raster_of_numbers(folder: Path, tmp_path: Path) -> None:
    whole = stored(folder, tmp_path / "s")
    for row, key in enumerate(whole.index["parcel_id"]):
        city, n = key.split("-")
        with rasterio.open(folder / city / f"img_{n}.tif") as image:
            about = {**image.profile, "count": 1, "dtype": "int32"}
        with rasterio.open(folder / city / f"ids_{n}.tif", "w", **about) as file:
            file.write(whole.instances(row), 1)
    drawn = stored(folder, tmp_path / "r", instances="{city}/ids_{n}.tif")
    for row in range(len(whole)):
        np.testing.assert_array_equal(drawn.instances(row), whole.instances(row))
    with pytest.raises(FileNotFoundError, match=r"the raster that numbers the things of bonn/img_0\.tif"):
        stored(folder, tmp_path / "m", instances="{city}/numbers_{n}.tif")


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"instances=polygons takes a mask of vectors; got mask='\{city\}\.tif'"):
        SceneFolder(**{**SPEC, "mask": "{city}.tif"})
    with pytest.raises(ValueError, match=r"stuff names \['water'\]; the classes are \['ground', 'roof', 'field'\]"):
        SceneFolder(**{**SPEC, "stuff": ["water"]})
    with pytest.raises(ValueError, match=r"templates use \['town'\]"):
        SceneFolder(**{**SPEC, "instances": "{town}.tif"})


def test_a_run_learns_them_one_by_one(tmp_path: Path) -> None:
    write(tmp_path / "raw", images=8)
    stored(tmp_path / "raw", tmp_path / "s")
    domain = "{{_target_: eo_adapt.types.Domain, name: {0}, recipe: vhr_buildings, select: {{region: {0}}}}}"
    words = [
        "task=aerial", "data=vhr_buildings", f"data.store={tmp_path / 's'}", "method=coral", "head=paps", *BRIEF,
        f"shift.sources=[{domain.format('bonn')}]", f"shift.targets=[{domain.format('lyon')}]",
        "data.split.kind=blocks", "data.split.block_size=0", "data.split.buffer=0", "data.min_per_class=1",
        "data.crop=0", "data.batch_size=2", "data.steps_per_epoch=2", "encoder.backbone=test_resnet",
        f"hydra.run.dir={tmp_path / 'r'}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "eo_adapt.train", *words], capture_output=True, text=True, cwd=ROOT, timeout=240
    )
    assert done.returncode == 0, done.stderr
    target = json.loads((tmp_path / "r/report.json").read_text())["domains"]["lyon"]
    assert set(target["panoptic"]["per_class"]) == {"roof", "field"}  # the ground is no thing
    assert target["panoptic"]["things"] == 12  # two test images of six
