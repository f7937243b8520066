"""Scene folders: templates, tables, windows, vector labels, places; made-up folders and the real ones."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from rasterio.transform import from_origin

from eo_adapt.data.readers.places import Header, header, utm
from eo_adapt.data.readers.scene_folder import SceneFolder
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.raster import TileError
from eo_adapt.data.scenes.records import Imagery, Raster, Scene, Vectors

REAL = Path(__file__).parents[3] / "../shared/data"
SPEC: dict[str, Any] = {
    "images": "*/img_*.tif",
    "path": r"(?P<city>\w+)/img_(?P<n>\d+)\.tif",
    "imagery": {"rgb": {"bands": ["red", "green"], "units": "reflectance", "scale": 0.01, "dtype": "uint16"}},
    "names": {0: "rest", 1: "house"},
    "columns": {"key": "{city}-{n}", "zone": "{city}", "region": "{city}"},
    "mask": "{city}/msk_{n}.tif",
}


def write(
    path: Path, height: int = 10, width: int = 12, bands: int = 2, crs: str = "EPSG:32631", step: float = 2.0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    place = {"crs": crs, "transform": from_origin(5e5 if step > 0.1 else 3.0, 5e6 if step > 0.1 else 45.0, step, step)}
    with rasterio.open(
        path, "w", driver="GTiff", height=height, width=width, count=bands, dtype="uint16", **(place if crs else {})
    ) as file:
        file.write(np.ones((bands, height, width), np.uint16))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for city in ("bonn", "lyon"):
        for n in (1, 2):
            write(tmp_path / city / f"img_{n}.tif")
            write(tmp_path / city / f"msk_{n}.tif", bands=1)
    return tmp_path


def read(root: Path, **changes: Any) -> list[Scene]:
    return list(SceneFolder(**{**SPEC, **changes}).read(root))


def test_templates(folder: Path) -> None:
    found = read(folder, columns={**SPEC["columns"], "country": "{city}", "date": "2021-05-0{n}", "sensor": "drone"},
                 rename={"country": {"bonn": "DE"}})  # fmt: skip
    assert [s.key for s in found] == ["bonn-1", "bonn-2", "lyon-1", "lyon-2"]
    first = found[0]
    assert (first.images, first.mask) == ({"rgb": Raster("bonn/img_1.tif")}, Raster("bonn/msk_1.tif"))
    assert (first.zone, first.region, first.country, first.sensor) == ("bonn", "bonn", "DE", "drone")
    assert (first.year, first.date, found[2].country) == (2021, "2021-05-01", "lyon")
    assert (first.x, first.y, first.crs, first.gsd) == (500012.0, 4999990.0, "EPSG:32631", 2.0)
    assert first.lon == pytest.approx(3.0, abs=1e-3)
    assert first.lat == pytest.approx(45.15, abs=0.01)


def test_sensors_and_classes(folder: Path) -> None:
    reader = SceneFolder(**{**SPEC, "ignored": [255], "colours": {"house": "#ff0000"}})
    assert reader.sensors == {"rgb": Imagery(("red", "green"), "reflectance", 0.01, 0.0, None, "uint16")}
    assert (reader.classes.names, reader.classes.ignored) == ({0: "rest", 1: "house"}, {255})
    assert reader.classes.colours == {"house": "#ff0000"}
    numbered = SceneFolder(**{**SPEC, "imagery": {"rgb": {"bands": {"nir": 4, "red": 1}, "dtype": "uint16"}}})
    assert numbered.sensors["rgb"].bands == ("nir", "red")
    assert next(iter(numbered.read(folder))).images["rgb"].bands == (4, 1)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 20), st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_windows_cover_each_pixel_once(height: int, width: int, size: int, multiple: int) -> None:
    size -= size % multiple
    seen = np.zeros((height, width), int)
    for row, column, window in Header(height, width, None, None).windows(size, multiple):
        top, left, h, w = window or (0, 0, height, width)
        assert (top, left) == (row * size, column * size)
        assert max(h, w) <= (size or 40)
        assert (h % multiple == 0 or height < multiple) and (w % multiple == 0 or width < multiple)  # noqa: PT018
        seen[top : top + h, left : left + w] += 1
    ends = (height // multiple * multiple or height, width // multiple * multiple or width)
    assert (seen[: ends[0], : ends[1]] == 1).all()
    assert seen.sum() == ends[0] * ends[1]


def test_windows_have_their_own_place_and_key(folder: Path) -> None:
    found = [s for s in read(folder, window=6) if s.key.startswith("bonn-1")]
    assert [s.key for s in found] == ["bonn-1-0-0", "bonn-1-0-1", "bonn-1-1-0", "bonn-1-1-1"]
    assert [s.images["rgb"].window for s in found] == [(0, 0, 6, 6), (0, 6, 6, 6), (6, 0, 4, 6), (6, 6, 4, 6)]
    assert [s.mask for s in found] == [Raster("bonn/msk_1.tif", s.images["rgb"].window) for s in found]
    assert [(s.x - 5e5, 5e6 - s.y) for s in found] == [(6, 6), (18, 6), (6, 16), (18, 16)]
    assert {s.zone for s in found} == {"bonn"}
    cut = [s for s in read(folder, multiple=4) if s.key.startswith("bonn-1")]
    assert [(s.key, s.images["rgb"].window) for s in cut] == [("bonn-1", (0, 0, 8, 12))]
    own = read(folder, window=6, columns={"key": "{n}{city}{column}{row}", "zone": "{city}{row}"})
    assert [(s.key, s.zone) for s in own[1:3]] == [("1bonn10", "bonn0"), ("1bonn01", "bonn1")]


def test_vectors_and_missing_masks(folder: Path) -> None:
    (folder / "bonn.gpkg").write_bytes(b"")
    found = read(folder, mask={"path": "{city}.gpkg", "column": "use"}, missing="unlabelled")
    assert [s.mask for s in found] == [Vectors("bonn.gpkg", "use")] * 2 + [None] * 2
    with pytest.raises(FileNotFoundError, match=r"lyon.gpkg.*the mask of lyon/img_1.tif, or set .*missing: unlabelled"):
        read(folder, mask={"path": "{city}.gpkg", "column": "use"})
    assert {s.mask for s in read(folder, mask="")} == {None}


def test_a_table_of_facts(folder: Path) -> None:
    (folder / "facts.csv").write_text(
        "id,camera,taken,n\nbonn-1,A,2019,9\nbonn-2,B,2020,9\nlyon-1,A,2020,9\nlyon-2,NA,,9\n"
    )
    changes = {
        "table": {"file": "facts.csv", "column": "id", "id": "{city}-{n}"},
        "columns": {**SPEC["columns"], "sensor": "{camera}", "year": "{taken}"},
    }
    found = read(folder, **changes)
    assert [(s.sensor, s.year) for s in found] == [("A", 2019), ("B", 2020), ("A", 2020), ("NA", 0)]
    assert found[0].key == "bonn-1"  # the path's n, not the table's
    (folder / "facts.csv").write_text("id,camera,taken\nbonn-1,A,2019\n")
    with pytest.raises(ValueError, match=r"facts.csv has no row with id = 'bonn-2', for the image bonn/img_2.tif"):
        read(folder, **changes)
    (folder / "facts.csv").write_text("id,camera,taken\nbonn-1,A,2019\nbonn-1,B,2019\n")
    with pytest.raises(ValueError, match=r"ids occur twice in column 'id', first \['bonn-1'\]"):
        read(folder, **changes)
    (folder / "facts.csv").write_text("id,camera,taken\nbonn-1,A,May\n")
    with pytest.raises(ValueError, match="'May' is no year"):
        read(folder, **changes)
    (folder / "facts.csv").write_text("id,taken\nbonn-1,2019\n")
    with pytest.raises(ValueError, match=r"template '{camera}' uses 'camera'; known are \['city', .*'taken'\]"):
        read(folder, **changes)


def test_further_sensors(folder: Path) -> None:
    changes = {"imagery": {**SPEC["imagery"], "sar": {"bands": ["VV"]}}, "others": {"sar": "{city}/msk_{n}.tif"}}
    assert read(folder, **changes)[0].images == {"rgb": Raster("bonn/img_1.tif"), "sar": Raster("bonn/msk_1.tif")}
    with pytest.raises(FileNotFoundError, match=r"bonn/sar_1.tif.*the image of sar that belongs to bonn/img_1.tif"):
        read(folder, **{**changes, "others": {"sar": "{city}/sar_{n}.tif"}})
    with pytest.raises(ValueError, match=r"cut images of one sensor only; got window=8, .* sensors \['rgb', 'sar'\]"):
        read(folder, **changes, window=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {"key": "{n}"}}, r"columns need templates for \['zone'\]"),
        ({"columns": {"key": "a", "zone": "b", "city": "c"}}, r"columns and rename are of .*got \['city'\]"),
        ({"missing": "skip"}, r"missing is one of \['error', 'unlabelled'\]; got 'skip'"),
        ({"others": {"sar": "x"}}, r"then those of others; got \['rgb'\] and \['sar'\]"),
        ({"window": -1}, "window is a number of pixels"),
        ({"window": 8, "multiple": 3}, r"got window=8, multiple=3"),
        ({"mask": {"path": "a.gpkg"}}, r"a mask of vectors is a mapping of path, column and layer; got {'path'"),
        ({"mask": "{town}.tif"}, r"templates use \['town'\]; the path's groups are \['city', 'n'\]"),
        ({"imagery": {"rgb": {"bands": {"red": 0}}}}, r"bands of a file are numbered from 1; got {'red': 0}"),
        ({"imagery": {"rgb": {"bands": ["r"], "dtpe": "u"}}}, "imagery rgb has no 'dtpe', did you mean 'dtype'"),
        ({"table": {"file": "a", "column": "b", "colum": "c"}}, "table has no 'colum', did you mean 'column'"),
    ],
)  # fmt: skip
def test_options_are_checked_at_once(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SceneFolder(**{**SPEC, **changes})


def test_folders_that_do_not_fit(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match="images that match"):
        read(folder, images="*.jpg")
    with pytest.raises(ValueError, match=r"'bonn/msk_1.tif', found by .* does not match .*change one"):
        read(folder, images="*/*.tif")


@pytest.mark.parametrize("window", [0, 6])
def test_damaged_images_are_named_or_skipped(folder: Path, tmp_path: Path, window: int) -> None:
    (folder / "bonn" / "img_1.tif").write_bytes(b"II*")
    (folder / "lyon" / "img_2.tif").write_bytes(b"")
    found = read(folder, window=window)
    assert math.isnan(found[0].lon)
    assert found[0].images["rgb"].window is None
    spec = {"_target_": "eo_adapt.data.readers.scene_folder.SceneFolder", **SPEC, "window": window}
    recipe = Recipe("toy", "Toy", {}, {}, reader=spec)
    with pytest.raises(TileError, match=r"(?s)^2 tiles cannot be read:.*bonn-1: .*img_1.*lyon-2: .*on_corrupt: skip"):
        recipe.prepare(folder, tmp_path / "store")
    store = replace(recipe, on_corrupt="skip").prepare(folder, tmp_path / "store")
    assert (len(store), store.about["skipped"]) == (len(found) - 2, 2)
    skipped = (tmp_path / "store" / "skipped.csv").read_text()
    assert "bonn-1" in skipped
    assert "lyon-2" in skipped


# -- places ----------------------------------------------------------------------------------------------------------


def test_pixels_in_degrees_become_metres(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", crs="EPSG:4326", step=1e-4)
    place = header(tmp_path / "a.tif").place()
    assert (place.lon, place.lat) == pytest.approx((3.0006, 44.9995), abs=1e-9)
    assert place.crs == "EPSG:32631"
    metre = 40_007_863 / 360  # a degree of latitude
    assert place.gsd == pytest.approx(1e-4 * metre * math.sqrt(math.cos(math.radians(45))), rel=0.005)


def test_web_mercator_is_stretched(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", crs="EPSG:3857", step=0.5)
    place = header(tmp_path / "a.tif").place()
    assert place.crs == "EPSG:32631"
    assert place.gsd == pytest.approx(0.5 * math.cos(math.radians(place.lat)), rel=0.005)
    assert header(tmp_path / "a.tif").place(crs="EPSG:2154").crs == "EPSG:2154"


def test_no_crs_no_place(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", crs="")
    place = header(tmp_path / "a.tif").place()
    assert math.isnan(place.lon + place.x + place.gsd)
    assert place.crs == ""


def test_a_crs_of_nowhere(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", crs='LOCAL_CS["building site",UNIT["metre",1]]')
    with pytest.raises(ValueError, match=r"a\.tif: its CRS .*building site.* has no transformation to EPSG:4326"):
        header(tmp_path / "a.tif").place()


@pytest.mark.parametrize(
    ("lon", "lat", "code"), [(3, 45, 32631), (-180, -1, 32701), (180, 10, 32660), (32.6, 0.3, 32636)]
)
def test_utm(lon: float, lat: float, code: int) -> None:
    assert utm(lon, lat) == f"EPSG:{code}"


# -- real data -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (REAL / "vhr_buildings").is_dir(), reason="no ../shared/data")
def test_real_buildings() -> None:
    root = REAL / "vhr_buildings"
    found = list(make(Recipe.load("vhr_buildings").reader).read(root))
    assert len(found) == len({s.key for s in found}) == 83
    assert {(s.region, s.country) for s in found} == {("banepa", "NP"), ("kampala", "UG")}
    import pandas as pd

    table = pd.read_csv(root / "tiles.csv").set_index("tile")
    for scene in found:
        row = table.loc[scene.key.split("-")[1]]
        assert (scene.lon, scene.lat) == pytest.approx((row["lon"], row["lat"]), abs=2e-4)
        # The file's pixels are stretched; the table may count another zoom's pixel
        assert 0.12 < scene.gsd < 0.31
        assert scene.mask is not None or not row["mask_given"]
        assert scene.crs in ("EPSG:32645", "EPSG:32636")
    assert sum(s.mask is None for s in found) == (~table["mask_given"]).sum()


@pytest.mark.skipif(not (REAL / "sen1floods11").is_dir(), reason="no ../shared/data")
def test_real_floods() -> None:
    root = REAL / "sen1floods11"
    reader = make(Recipe.load("sen1floods11").reader)
    found = list(reader.read(root))
    assert len(found) == len({s.key for s in found}) == 9 * 16
    import pandas as pd

    table = pd.read_csv(root / "chips.csv").set_index("chip")
    assert {s.region for s in found} == set(table["country"])
    assert all(len(s.country) == 2 for s in found)
    for chip, row in table.iterrows():
        mine = [s for s in found if s.key.startswith(f"{chip}-")]
        assert (np.mean([s.lon for s in mine]), np.mean([s.lat for s in mine])) == pytest.approx(
            (row["lon"], row["lat"]), abs=1e-4
        )
        assert all(8 < s.gsd < 10.1 for s in mine)
    with rasterio.open(root / found[0].images["s1"].path) as file:
        assert file.dtypes[0] == reader.sensors["s1"].dtype
        assert file.nodata == reader.sensors["s1"].nodata
        assert file.scales == (reader.sensors["s1"].scale,) * 2
    with rasterio.open(root / found[0].mask.path) as file:
        assert set(np.unique(file.read())) <= {0, 1, -1} == set(reader.classes.names) | reader.classes.ignored
