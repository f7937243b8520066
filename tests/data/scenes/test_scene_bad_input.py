"""Images that cannot be meant: said in one sentence, and no store is left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiles import (
    AERIAL,
    CLASSES,
    CRS,
    GSD,
    NAMES,
    SIZE,
    X,
    Y,
    draw,
    one,
    paint,
    store_of,
    world,
    write_tiff,
)

from eo_adapt.data.scenes.labels import UNKNOWN, Remap
from eo_adapt.data.scenes.raster import TileError
from eo_adapt.data.scenes.records import Classes, Imagery, Raster, Scene, Vectors


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)


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
