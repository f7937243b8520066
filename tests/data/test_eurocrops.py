"""EuroCrops as parcel layers: columns, ids, codes as text, each layer in its own CRS, bad outlines named."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely

from eo_adapt.data.layers import COLUMNS, ParcelLayers
from eo_adapt.data.readers.eurocrops import EuroCrops
from eo_adapt.data.recipe import Recipe
from eo_adapt.data.synthetic.eurocrops import EuroCropsWorld

REAL = Path(__file__).parents[3] / "shared/data/eurocrops_vectors"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("eurocrops")
    EuroCropsWorld(parcels=30).write(root)
    return root


def shapefile(root: Path, name: str, crs: str | None = "EPSG:3059", **columns: Any) -> Path:
    frame = {"EC_trans_n": "Maize", "EC_hcat_n": "maize", "EC_hcat_c": "3301010600", "PID": [1, 2, 3], **columns}
    squares = [shapely.box(100 * i, 0, 100 * i + 50, 50) for i in range(3)]
    geometry = frame.pop("geometry", squares)
    (root / name).mkdir(parents=True)
    data = {key: value if isinstance(value, list) else [value] * 3 for key, value in frame.items()}
    geopandas.GeoDataFrame(data, geometry=geometry, crs=crs).to_file(root / name / f"{name}_EC21.shp")
    return root / name / f"{name}_EC21.shp"


def read(root: Path, **options: Any) -> dict[str, geopandas.GeoDataFrame]:
    return {layer.name: layer.frame for layer in EuroCrops(**options).layers(root)}


def test_layout_is_genuine(world: Path) -> None:
    names = {path.name: zipfile.ZipFile(path).namelist() for path in world.glob("*.zip")}
    assert set(names) == {"LV_2021.zip", "SI_2021.zip"}
    assert "LV_2021/LV_2021_EC21.shp" in names["LV_2021.zip"]
    assert "SI_2021_EC21.shp" in names["SI_2021.zip"]  # without a folder, as the original
    assert all(len(entries) == 4 for entries in names.values())


def test_layers(world: Path) -> None:
    found = read(world, ids={"LV_2021": "PARCEL_ID"})
    assert {name: frame.crs.to_epsg() for name, frame in found.items()} == {"LV_2021": 3059, "SI_2021": 3794}
    raw = geopandas.read_file(f"zip://{world}/LV_2021.zip!LV_2021/LV_2021_EC21.shp")
    frame = found["LV_2021"]
    assert tuple(frame.columns) == COLUMNS
    coded = raw[raw["EC_hcat_c"].notna()]
    assert frame["id"].tolist() == coded["PARCEL_ID"].astype(str).tolist()
    assert frame["hcat"].tolist() == coded["EC_hcat_c"].tolist()
    assert frame["hcat_name"].tolist() == coded["EC_hcat_n"].tolist()
    assert frame["crop"].tolist() == coded["EC_trans_n"].tolist()
    assert set(frame["country"]) == {"LV"}
    assert set(frame["year"]) == {2021}
    assert set(frame["region"]) == {"LV008"}
    assert set(frame["crs"]) == {"EPSG:3059"}
    assert shapely.equals(frame.geometry.to_numpy(), coded.geometry.to_numpy()).all()
    assert found["SI_2021"]["id"].iloc[0] == "SI_2021-0"


def test_rows_without_a_code_are_left_out_and_listed(world: Path, tmp_path: Path) -> None:
    layers = Recipe.load("eurocrops").prepare(world, tmp_path / "out")
    assert isinstance(layers, ParcelLayers)
    assert (len(layers), layers.about["dropped"]) == (58, 2)
    left = pd.read_csv(tmp_path / "out" / "LV_2021.dropped.csv", dtype=str)
    assert left["reason"].tolist() == ["no HCAT code"]


def test_what_is_written_is_geoparquet_in_the_original_crs(world: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    layers = Recipe.load("eurocrops").prepare(world, tmp_path / "out")
    about = json.loads(pq.read_schema(tmp_path / "out" / "SI_2021.parquet").metadata[b"geo"])
    assert about["columns"]["geometry"]["crs"]["id"]["code"] == 3794
    assert isinstance(layers, ParcelLayers)
    assert layers.names == ["LV_2021", "SI_2021"]
    assert layers.read("SI_2021").crs.to_epsg() == 3794
    assert layers.read("SI_2021")["hcat"].str.len().eq(10).all()
    with pytest.raises(LookupError, match=r"no layer called 'EE'; there are \['LV_2021', 'SI_2021'\]"):
        layers.read("EE")


def test_damaged_layers_are_refused(world: Path, tmp_path: Path) -> None:
    Recipe.load("eurocrops").prepare(world, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "layers.json").read_text())
    (tmp_path / "out" / "SI_2021.parquet").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"are damaged: SI_2021\.parquet is missing or cut"):
        ParcelLayers(tmp_path / "out")
    (tmp_path / "out" / "layers.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(ValueError, match="have format 99, not 1"):
        ParcelLayers(tmp_path / "out")
    (tmp_path / "out" / "layers.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        ParcelLayers(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no parcel layers at"):
        ParcelLayers(tmp_path)


def test_nothing_is_trained_on_outlines(world: Path) -> None:
    with pytest.raises(ValueError, match="holds outlines of parcels without images"):
        Recipe.load("eurocrops").cached(world)


def test_an_unpacked_shapefile_goes_before_its_archive(world: Path, tmp_path: Path) -> None:
    (tmp_path / "LV_2021.zip").write_bytes((world / "LV_2021.zip").read_bytes())
    shapefile(tmp_path, "LV_2021")
    assert len(read(tmp_path)["LV_2021"]) == 3


def test_codes_that_a_table_reader_would_spoil(tmp_path: Path) -> None:
    shapefile(tmp_path, "LV_2021", EC_hcat_c=["3301010600", " 3302000000", "33"])
    (layer,) = EuroCrops().layers(tmp_path)
    assert layer.frame["hcat"].tolist() == ["3301010600", "3302000000"]
    assert layer.dropped["reason"].tolist() == ["no HCAT code"]


def test_bad_outlines(tmp_path: Path) -> None:
    bow = shapely.Polygon([(0, 0), (100, 100), (100, 0), (0, 100)])
    flat = shapely.Polygon([(0, 0), (50, 0), (100, 0)])
    shapefile(tmp_path, "LV_2021", geometry=[bow, flat, None])
    (layer,) = EuroCrops().layers(tmp_path)
    assert layer.frame["id"].tolist() == ["LV_2021-0"]
    assert layer.frame.geometry.is_valid.all()
    assert layer.frame.geometry.area.iloc[0] == pytest.approx(5000)
    assert layer.dropped["reason"].tolist() == ["no polygon"] * 2


def test_names_of_layers(tmp_path: Path) -> None:
    for name in ("BE_VLG_2021", "PT", "RO_ny", "odd"):
        shapefile(tmp_path, name)
    found = read(tmp_path)
    facts = {name: (frame["country"].iloc[0], int(frame["year"].iloc[0])) for name, frame in found.items()}
    assert facts == {"BE_VLG_2021": ("BE", 2021), "PT": ("PT", 0), "RO_ny": ("RO", 0), "odd": ("", 0)}


def test_errors_name_what_to_do(world: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"looked for shapefiles .*parts=\[LV_2021\]"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no layers \['EE_2021'\] below .*there are \['LV_2021', 'SI_2021'\]"):
        read(world, layers_of=["EE_2021"])
    with pytest.raises(ValueError, match="layers_of is a list"):
        EuroCrops(layers_of="LV_2021")
    path = shapefile(tmp_path, "CZ_2023", crs=None)
    with pytest.raises(
        ValueError, match=r"states no CRS; say which in the reader's crs, e\.g\. crs: \{CZ_2023: EPSG:5514\}"
    ):
        read(tmp_path)
    assert read(tmp_path, crs={"CZ_2023": "EPSG:5514"})["CZ_2023"].crs.to_epsg() == 5514
    with pytest.raises(ValueError, match=r"no column 'PIDD' \(for parcel id\); nearest: \['PID'\]"):
        read(tmp_path, crs={"CZ_2023": "EPSG:5514"}, ids={"CZ_2023": "PIDD"})
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "LV_2021.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"LV_2021\.zip cannot be read"):
        read(tmp_path)


def test_ids_that_occur_twice(tmp_path: Path) -> None:
    shapefile(tmp_path, "LV_2021", PID=[7, 7, 8])
    with pytest.raises(
        ValueError, match=r"1 ids of column 'PID' occur twice, first \[(np\.int64\()?7\)?\]; choose another"
    ):
        read(tmp_path, ids={"LV_2021": "PID"})


def test_a_file_without_the_columns(tmp_path: Path) -> None:
    path = shapefile(tmp_path, "LV_2021")
    geopandas.read_file(path).drop(columns="EC_hcat_c").to_file(path)
    with pytest.raises(ValueError, match=r"has no column 'EC_hcat_c' \(for HCAT code\)"):
        read(tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_real_parcels(tmp_path: Path) -> None:
    layers = Recipe.load("eurocrops").prepare(REAL, tmp_path / "out")
    assert isinstance(layers, ParcelLayers)
    assert layers.about["layers"] == {"LV_2021": 100, "SI_2021": 100}
    for name, place in (("LV_2021", (21, 55, 29, 59)), ("SI_2021", (13, 45, 17, 47))):
        frame = layers.read(name)
        west, south, east, north = frame.to_crs("EPSG:4326").total_bounds
        assert place[0] < west < east < place[2]
        assert place[1] < south < north < place[3]
        assert frame["id"].is_unique
        assert frame.geometry.is_valid.all()
        assert frame["hcat"].str.fullmatch(r"33\d{8}").all()
    assert np.isclose(layers.read("SI_2021").geometry.area.iloc[0], 3386.67, atol=1)
