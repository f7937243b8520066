"""A scene store counts, checks and reads what lies in the files, and copies nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
from shapely.geometry import Point, box
from tiles import (
    AERIAL,
    CLASSES,
    CRS,
    GSD,
    SIZE,
    X,
    Y,
    draw,
    one,
    paint,
    raster,
    scene,
    store_of,
    world,
    write_tiff,
)

from eo_adapt.data.prepared import StoreError
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.moments import statistics_of
from eo_adapt.data.scenes.records import Classes, Imagery, Raster, Scene, Vectors
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.store import Store


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_the_index_counts_what_the_masks_hold(tmp_path: Path) -> None:
    scenes = world(tmp_path / "raw", ids=(0, 1, 2, 3, 5))
    store = store_of(tmp_path / "store", tmp_path / "raw", scenes)
    assert store.names == ("water", "forest", "roof", "pool")
    assert len(store) == len(scenes)
    for row, s in enumerate(scenes):
        mask = raster(tmp_path / "raw" / f"{s.key}_m.tif")[0]
        ids = {"water": [1], "forest": [2, 5], "roof": [3], "pool": [4]}  # two ids, one name
        assert store.counts[row].tolist() == [int(np.isin(mask, i).sum()) for i in ids.values()]
    frame = geopandas.read_parquet(tmp_path / "store" / "index.parquet")
    side = GSD * SIZE
    first = frame.to_crs(CRS).geometry.iloc[0]
    want = box(scenes[0].x - side / 2, scenes[0].y - side / 2, scenes[0].x + side / 2, scenes[0].y + side / 2)
    assert first.symmetric_difference(want).area < 1e-3 * side**2
    assert not list((tmp_path / "store").rglob("*.tif"))


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_empty_does_not_depend_on_the_bands_asked_for(tmp_path: Path, keep: bool) -> None:
    values = np.full((3, SIZE, SIZE), 7, np.uint8)
    values[0, 0], values[:, 1] = 255, 255  # nodata in one band is a number, in all of them there is none
    store = store_of(tmp_path / "store", tmp_path, [one(tmp_path, values)])
    store.keep = keep
    for bands in ([0], [1, 0], [0, 1, 2]):
        found, seen = store.pixels(0, "aerial", bands)
        np.testing.assert_array_equal(found, values[bands])
        assert seen[0].all()
        assert not seen[1].any()


def test_statistics_are_those_of_the_pixels_seen(tmp_path: Path, rng: np.random.Generator) -> None:
    scenes = world(tmp_path / "raw", zones=2)
    holes = raster(tmp_path / "raw" / "A0_0.tif")
    holes[:, :5] = 255  # nodata
    write_tiff(tmp_path / "raw" / "A0_0.tif", holes, scenes[0].x, scenes[0].y)
    store = store_of(tmp_path / "store", tmp_path / "raw", scenes)
    rows = np.array([0, 3, 5])
    values = [raster(tmp_path / "raw" / f"{scenes[i].key}.tif").reshape(3, -1) for i in rows]
    values = [v[:, (v != 255).any(0)].astype(float) for v in values]
    pooled = np.concatenate(values, 1)[[2, 0]]
    mean, std = statistics_of(store, {"aerial": ["elevation", "red"]}, rows)["aerial"]
    np.testing.assert_allclose(mean, pooled.mean(1), rtol=1e-12)
    np.testing.assert_allclose(std, pooled.std(1), rtol=1e-12)
    assert store.counts[0].sum() == SIZE * SIZE - 5 * SIZE  # nothing is counted where nothing is seen


def test_windows_bands_scale_and_memory(tmp_path: Path, rng: np.random.Generator) -> None:
    image = rng.integers(0, 30_000, (4, 20, 30)).astype(np.int16)
    image[1, 3, 4] = -32768
    write_tiff(tmp_path / "big.tif", image, X, Y)
    mask = draw(rng, (8, 12))
    write_tiff(tmp_path / "m.tif", mask, X, Y, crs="")
    sar = {"s1": Imagery(("VH", "VV"), units="digital number", scale=0.01, nodata=-32768, dtype="int16")}
    cut = Raster("big.tif", (2, 3, 8, 12), (4, 2))
    s = replace(scene("p", X, Y, "z", "A"), images={"s1": cut}, mask=Raster("m.tif"))
    store = store_of(tmp_path / "store", tmp_path, [s], sensors=sar)
    for keep in (False, True):
        store.keep = keep
        values, seen = store.pixels(0, "s1", [1], (1, 0, 5, 7))
        assert np.array_equal(values, image[[1], 3:8, 3:10])
        assert seen.tolist() == (image[1, 3:8, 3:10] != -32768).tolist()
        labels = store.labels(0, Remap.to(CLASSES, ["roof", "water"]), (1, 0, 5, 7))
        want = np.select([mask == 3, mask == 1], [0, 1], UNKNOWN)[1:6, :7]
        assert np.array_equal(labels, want)
    assert store.nbytes == 8 * 12 * (2 * 2 + 1 + 1)


def test_an_eight_bit_zero_is_real_where_another_band_is_not(tmp_path: Path, rng: np.random.Generator) -> None:
    image = np.full((3, SIZE, SIZE), 9, np.uint8)
    image[0, 0], image[:, 1] = 0, 0
    store = store_of(
        tmp_path / "s", tmp_path, [one(tmp_path, image)], sensors={"aerial": replace(AERIAL["aerial"], nodata=0.0)}
    )
    _, seen = store.pixels(0, "aerial", [0, 1, 2])
    assert seen[0].all()
    assert not seen[1].any()


def test_an_internal_mask_counts(tmp_path: Path) -> None:
    import rasterio

    s = one(tmp_path, np.full((3, SIZE, SIZE), 9, np.uint8))
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(tmp_path / "p.tif", "r+") as file:
        there = np.full((SIZE, SIZE), 255, np.uint8)
        there[:, :3] = 0
        file.write_mask(there)
    _, seen = store_of(tmp_path / "s", tmp_path, [s]).pixels(0, "aerial", [0])
    assert np.array_equal(seen, there > 0)


def test_polygons_are_drawn_when_they_are_read(tmp_path: Path) -> None:
    image = np.full((3, SIZE, 20), 9, np.uint8)  # not square
    shapes = [box(X - 3, Y - 2, X + 1.2, Y + 3), Point(X + 3, Y).buffer(1.5)]
    frame = geopandas.GeoDataFrame({"kind": ["roof", "pool"]}, geometry=shapes, crs=CRS).to_crs("EPSG:4326")
    frame.to_file(tmp_path / "labels.gpkg", layer="l")
    s = replace(one(tmp_path, image), mask=Vectors("labels.gpkg", "kind", "l"))
    classes = Classes({0: "ground", 3: "roof", 4: "pool"})
    store = store_of(tmp_path / "s", tmp_path, [s], classes=classes)
    legend = ["ground", "pool", "roof"]
    labels = store.labels(0, Remap.to(classes, legend))
    for i in range(SIZE):
        for j in range(20):
            at = Point(X + GSD * (j + 0.5 - 10), Y - GSD * (i + 0.5 - SIZE / 2))
            want = "roof" if shapes[0].contains(at) else "pool" if shapes[1].contains(at) else "ground"
            assert legend[labels[i, j]] == want
    part = store.labels(0, Remap.to(classes, legend), (2, 3, 9, 11))
    assert np.array_equal(part, labels[2:11, 3:14])
    assert store.counts.sum() == SIZE * 20
    with pytest.raises(
        ValueError, match=r"labels\.gpkg has \['pool'\] in column 'kind'; the classes are \['ground', 'roof'\]"
    ):
        store_of(tmp_path / "t", tmp_path, [s], classes=Classes({0: "ground", 3: "roof"}))


def test_png_and_patches_of_several_sizes(tmp_path: Path, rng: np.random.Generator) -> None:
    scenes = []
    for i, shape in enumerate([(12, 20), (16, 16)]):
        mask = draw(rng, shape)
        write_tiff(tmp_path / f"{i}.png", paint(mask, rng), crs="", driver="PNG")
        write_tiff(tmp_path / f"{i}_m.png", mask, crs="", driver="PNG")
        images = {"aerial": Raster(f"{i}.png")}
        scenes.append(Scene(f"{i}", images, Raster(f"{i}_m.png"), *[float("nan")] * 4, "", 0.3, "urban"))
    store = store_of(tmp_path / "s", tmp_path, scenes)
    assert store.sizes.tolist() == [[12, 20], [16, 16]]
    assert np.array_equal(store.pixels(1, "aerial", [0, 1, 2])[0], raster(tmp_path / "1.png"))


def test_a_store_survives_the_way_to_a_worker_and_a_move(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", tmp_path / "raw", world(tmp_path / "raw", zones=1))
    other = pickle.loads(pickle.dumps(store))
    assert np.array_equal(other.pixels(1, "aerial", [0])[0], store.pixels(1, "aerial", [0])[0])
    before = store.fingerprint
    (tmp_path / "raw").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"reads from .*raw, which is not there; set data\.root="):
        SceneStore(tmp_path / "store")
    assert SceneStore(tmp_path / "store", tmp_path / "moved").fingerprint == before
    with pytest.raises(StoreError, match="holds images, these data are parcels"):
        Store(tmp_path / "store")
