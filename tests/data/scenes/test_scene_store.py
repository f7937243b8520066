"""A scene store counts, checks and reads what lies in the files, and copies nothing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
from shapely.geometry import Point, box
from tiles import AERIAL, CLASSES, CRS, GSD, NAMES, SIZE, draw, paint, raster, scene, store_of, world, write_tiff

from eo_adapt.data.prepared import StoreError
from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.moments import statistics_of
from eo_adapt.data.scenes.raster import TileError
from eo_adapt.data.scenes.records import Classes, Imagery, Raster, Scene, Vectors
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.store import Store

X, Y = 6e5, 6.6e6


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def one(root: Path, image: np.ndarray, mask: np.ndarray | None = None, **more: object) -> Scene:
    """A patch with these pixels."""
    write_tiff(root / "p.tif", image, X, Y)
    if mask is not None:
        write_tiff(root / "p_m.tif", mask, X, Y)
    return scene("p", X, Y, "z", "A", **({} if mask is not None else {"mask": None}), **more)


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
    sar = {"s1": Imagery(("VH", "VV"), units="dB", scale=0.01, nodata=-32768, dtype="int16")}
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


# -- bad input -------------------------------------------------------------------------------------------------------


def refused(root: Path, message: str, s: Scene, error: type[Exception] = ValueError, **more: object) -> None:
    with pytest.raises(error, match=message):
        store_of(root / "store", root, [s], **more)
    assert not (root / "store").exists()
    assert not [p for p in root.iterdir() if p.name.startswith(".")]


def test_image_and_mask_of_different_size_or_place(tmp_path: Path, rng: np.random.Generator) -> None:
    mask = draw(rng)
    image = paint(mask, rng)
    refused(tmp_path, r"'p': the mask .*p_m\.tif has 8 x 16 pixels, the image 16 x 16", one(tmp_path, image, mask[:8]))
    s = one(tmp_path, image, mask)
    write_tiff(tmp_path / "p_m.tif", mask, X + 30, Y)
    refused(tmp_path, r"the mask .*p_m\.tif lies at .* the image at", s)
    write_tiff(tmp_path / "p_m.tif", mask, X, Y, crs="EPSG:32631")
    refused(tmp_path, r"p_m\.tif is in another CRS than the image", s)


def test_a_second_sensor_of_another_place(tmp_path: Path, rng: np.random.Generator) -> None:
    mask = draw(rng)
    s = one(tmp_path, paint(mask, rng), mask)
    s = replace(s, images={**s.images, "coarse": Raster("c.tif")})
    sensors = {**AERIAL, "coarse": Imagery(("red",))}
    coarse = np.full((1, 4, 4), 9, np.uint8)
    for x, crs, message in ((X + 30, CRS, r"c\.tif covers .* the image of the first sensor"), (X, "EPSG:32631", "CRS")):
        write_tiff(tmp_path / "c.tif", coarse, x, Y, 4 * GSD, crs)
        refused(tmp_path, f"'p': the image of coarse .*{message}", s, sensors=sensors)
    for x in (X, X + GSD):  # less than a pixel of the coarse one
        write_tiff(tmp_path / "c.tif", coarse, x, Y, 4 * GSD)
        assert len(store_of(tmp_path / "ok", tmp_path, [s], sensors=sensors)) == 1


def test_a_missing_band_and_another_type(tmp_path: Path, rng: np.random.Generator) -> None:
    image = paint(draw(rng), rng)
    refused(
        tmp_path,
        r"p\.tif has 2 bands and lacks \['elevation'\] of .*correct the reader's bands",
        one(tmp_path, image[:2]),
    )
    four = np.concatenate([image, image[:1]])
    refused(tmp_path, r"p\.tif has 4 bands, the reader names .*Raster\.bands", one(tmp_path, four))
    refused(tmp_path, r"p\.tif holds uint16, aerial is declared as uint8", one(tmp_path, image.astype(np.uint16) * 200))
    refused(
        tmp_path,
        r"'p' has sensors \['s2'\]; the data set has \['aerial'\]",
        one(tmp_path, image, images={"s2": Raster("p.tif")}),
    )
    refused(tmp_path, "reaches beyond", one(tmp_path, image, images={"aerial": Raster("p.tif", (0, 9, 16, 16))}))


def test_bands_in_another_order(tmp_path: Path, rng: np.random.Generator) -> None:
    import rasterio

    mask = draw(rng)
    s = one(tmp_path, paint(mask, rng), mask)
    for names, fits in (
        (("Red", "green", "DSM minus DTM"), True),
        (("green", "red", "elevation"), False),
        (("b1", "elevation", "b3"), False),
    ):
        with rasterio.open(tmp_path / "p.tif", "r+") as file:
            file.descriptions = names
        if fits:
            assert len(store_of(tmp_path / "ok", tmp_path, [s])) == 1
            continue
        band = "1 'green', the reader calls it 'red'" if names[0] == "green" else "2 'elevation', the .* it 'green'"
        refused(tmp_path, rf"p\.tif calls band {band}.*correct the order of the reader's bands", s)
    picked = replace(s, images={"aerial": Raster("p.tif", bands=(1, 3, 2))})
    assert len(store_of(tmp_path / "by_number", tmp_path, [picked])) == 1


def test_label_ids_outside_the_legend(tmp_path: Path, rng: np.random.Generator) -> None:
    mask = draw(rng)
    mask[0, :3] = 77
    refused(
        tmp_path,
        r"p_m\.tif holds ids \[77\] in 3 pixels; the data set has \{1: 'water'.*ignores \[0\]",
        one(tmp_path, paint(draw(rng), rng), mask),
    )
    refused(
        tmp_path,
        r"p_m\.tif holds float32; a mask holds whole numbers",
        one(tmp_path, paint(draw(rng), rng), mask.astype(np.float32)),
    )
    s = one(tmp_path, paint(draw(rng), rng), mask)
    write_tiff(tmp_path / "p_m.tif", mask, X, Y, nodata=77)  # said to be nothing: ignored
    assert store_of(tmp_path / "ok", tmp_path, [s]).counts.sum() == SIZE * SIZE - 3


def test_negative_ids(tmp_path: Path, rng: np.random.Generator) -> None:
    mask = rng.choice([-1, 0, 1], (SIZE, SIZE)).astype(np.int16)
    classes = Classes({0: "land", 1: "water"}, frozenset({-1}))
    store = store_of(tmp_path / "s", tmp_path, [one(tmp_path, paint(draw(rng), rng), mask)], classes=classes)
    assert store.counts[0].tolist() == [int((mask == 0).sum()), int((mask == 1).sum())]


def test_nothing_but_nodata(tmp_path: Path, rng: np.random.Generator) -> None:
    empty = one(tmp_path, np.full((3, SIZE, SIZE), 255, np.uint8))
    refused(tmp_path, r"'p' holds nothing but nodata \(p\.tif\).*on_empty: drop", empty)
    scenes = [empty, *world(tmp_path, zones=1)]
    store = store_of(tmp_path / "s", tmp_path, scenes, on_empty="drop")
    assert store.about["dropped"] == 1
    assert pd.read_csv(tmp_path / "s" / "dropped.csv")["parcel_id"].tolist() == ["p"]


def test_nothing_but_numbers_that_are_none(tmp_path: Path) -> None:
    heights = {"aerial": replace(AERIAL["aerial"], dtype="float32", nodata=None)}
    empty = one(tmp_path, np.full((3, SIZE, SIZE), np.nan, np.float32))
    refused(tmp_path, r"'p' holds nothing but nodata \(p\.tif\)", empty, sensors=heights)


@pytest.mark.parametrize(
    ("crs", "message"),
    [("EPSG:999999", "has no transformation to longitude and latitude"), ("EPSG:4326", "counts in degrees")],
)
def test_a_crs_without_transformation(tmp_path: Path, rng: np.random.Generator, crs: str, message: str) -> None:
    refused(tmp_path, f"the CRS '{crs}' {message}", one(tmp_path, paint(draw(rng), rng), crs=crs))


def test_corrupt_tiles_are_named_or_skipped(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    scenes = world(raw)
    bad = [s.key for s in scenes[3:40:5]]
    for key in bad:
        whole = (raw / f"{key}.tif").read_bytes()
        (raw / f"{key}.tif").write_bytes(whole[: len(whole) // 2])
    (raw / f"{bad[1]}.tif").unlink()
    with pytest.raises(TileError, match=r"5 tiles cannot be read \(there may be more\)") as caught:
        store_of(tmp_path / "store", raw, scenes)
    assert [key for key in bad if f"  {key}: " in str(caught.value)] == bad[:5]
    assert "data.on_corrupt=skip" in str(caught.value)
    assert f"{bad[1]}.tif is missing" in str(caught.value)
    store = store_of(tmp_path / "store", raw, scenes, on_corrupt="skip")
    assert store.about["skipped"] == len(bad)
    assert pd.read_csv(tmp_path / "store" / "skipped.csv")["parcel_id"].tolist() == bad
    assert not set(bad) & set(store.index["parcel_id"])
    (raw / f"{scenes[0].key}.tif").write_bytes(b"no image")
    with pytest.raises(TileError, match=r"patch 'A0_0': .*A0_0\.tif cannot be read"):
        store.pixels(0, "aerial", [0])


def test_damaged_masks_and_polygons(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    scenes = world(raw, zones=1)
    store = store_of(tmp_path / "store", raw, scenes)
    (raw / "A0_1_m.tif").write_bytes((raw / "A0_1_m.tif").read_bytes()[:200])
    for keep in (False, True):
        store.keep = keep
        with pytest.raises(TileError, match=r"patch 'A0_1': .*A0_1_m\.tif cannot be read"):
            store.labels(1, Remap.to(CLASSES, ["roof"]))
    with pytest.raises(TileError, match=r"(?s)1 tiles cannot be read:\n  A0_1: .*A0_1_m\.tif"):
        store_of(tmp_path / "again", raw, scenes)
    assert store_of(tmp_path / "again", raw, scenes, on_corrupt="skip").about["skipped"] == 1
    (raw / "l.gpkg").write_bytes(b"SQLite format 3")
    drawn = replace(scenes[0], mask=Vectors("l.gpkg", "kind"))
    with pytest.raises(ValueError, match=r"l\.gpkg cannot be read .*get the file again, or correct the layer"):
        store_of(tmp_path / "drawn", raw, [drawn])


def test_a_key_that_occurs_twice(tmp_path: Path) -> None:
    scenes = world(tmp_path, zones=1)
    with pytest.raises(ValueError, match=r"patch id 'A0_0' occurs twice"):
        store_of(tmp_path / "s", tmp_path, [*scenes, scenes[0]])


def test_names_are_what_ids_are_joined_by() -> None:
    remap = Remap.to(CLASSES, ["green", "water"], {"forest": "green", "water": "water", "roof": "roof", "pool": "pool"})
    ids = np.array([[0, 1, 2, 3, 4, 5]])
    assert remap(ids, None, "x").tolist() == [[UNKNOWN, 1, 0, UNKNOWN, UNKNOWN, 0]]
    assert sorted(NAMES) == [1, 2, 3, 4, 5]
