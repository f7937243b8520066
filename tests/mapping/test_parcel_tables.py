"""Parcels become tables: what the method predicts, names, codes, files that the specifications allow."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import geopandas as gpd
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pytest
import shapely
import torch
import yaml

from eo_adapt.assemble import build_task
from eo_adapt.calibration import calibrated
from eo_adapt.data import hcat
from eo_adapt.data.store import Store
from eo_adapt.mapping import parcels
from eo_adapt.mapping.parcels import predict_parcels
from eo_adapt.trained import load_run


@pytest.fixture(scope="module")
def store(crops: Path) -> Store:
    data = build_task(yaml.safe_load((crops / "config.yaml").read_text()))[1]
    return data.store


@pytest.fixture(scope="module")
def table(crops: Path, store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("table") / "parcels.parquet"
    predict_parcels(crops, store, out, row_group=250, batch=100, command="predict x")
    return out


def test_it_holds_what_the_method_predicts(crops: Path, store: Store, table: Path) -> None:
    frame, one = gpd.read_parquet(table), load_run(crops)
    number, names = one.number(), list(one.legend.names)
    assert frame["parcel_id"].tolist() == store.index["parcel_id"].tolist()
    assert set(frame["domain"]) == {one.domains[number]}
    assert set(frame["model"]) == {one.digest}
    rows = torch.arange(len(store))[::17]
    logits = one.logits(store.gather(rows, one.bands), number)
    p = calibrated(logits, one.temperature).numpy()
    some = frame.iloc[rows.numpy()]
    np.testing.assert_allclose(some[[f"p_{name}" for name in names]], p, atol=1e-5)
    assert (some["class"].to_numpy() == np.array(names)[p.argmax(1)]).mean() > 0.99
    np.testing.assert_allclose(some["confidence"], p.max(1), atol=1e-5)
    np.testing.assert_allclose(some["entropy"], -(p * np.log(p)).sum(1), atol=1e-5)
    for name, code in set(zip(frame["class"], frame["hcat"], strict=True)):
        assert hcat.names()[code] == name
    expected = gpd.read_parquet(store.path / "index.parquet").geometry
    assert frame.geometry.geom_equals(expected).all()


def test_it_is_geoparquet(table: Path) -> None:
    """The metadata that GeoParquet 1.0 and 1.1 ask for, checked one by one."""
    file = pq.ParquetFile(table)
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    check_geoparquet(geo, file)
    assert file.metadata.num_row_groups == -(-file.metadata.num_rows // 250)
    assert file.schema_arrow.metadata[b"eo_adapt:command"] == b"predict x"


def check_geoparquet(geo: dict[str, Any], file: pq.ParquetFile) -> None:
    assert geo["version"] in ("1.0.0", "1.1.0")
    assert geo["primary_column"] in geo["columns"]
    for name, column in geo["columns"].items():
        assert name in file.schema_arrow.names
        assert file.schema_arrow.field(name).type in ("binary", "large_binary")
        assert column["encoding"] == "WKB"
        assert isinstance(column["geometry_types"], list)
        kinds = {
            "Point",
            "LineString",
            "Polygon",
            "MultiPoint",
            "MultiLineString",
            "MultiPolygon",
            "GeometryCollection",
        }
        assert {kind.removesuffix(" Z") for kind in column["geometry_types"]} <= kinds
        shapes = gpd.GeoSeries.from_wkb(file.read([name])[name].to_pandas())
        if column["geometry_types"]:
            assert set(shapes.geom_type) <= set(column["geometry_types"])
        if column.get("crs") is not None:
            assert {"type", "id"} <= set(column["crs"]) or "$schema" in column["crs"]
        if "bbox" in column:
            low, high = np.array(column["bbox"]).reshape(2, -1)[:, :2]
            assert (shapes.total_bounds[:2] >= low - 1e-9).all()
            assert (shapes.total_bounds[2:] <= high + 1e-9).all()
        assert column.get("edges", "planar") in ("planar", "spherical")
        assert column.get("orientation", "counterclockwise") == "counterclockwise"


def test_an_unfinished_table_without_parcels_does_not_block(
    crops: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "parcels.parquet"
    with monkeypatch.context() as patched:
        patched.setattr(parcels, "_inputs", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            predict_parcels(crops, store, out, row_group=250)
    assert list(tmp_path.glob(".*/plan.json"))
    assert predict_parcels(crops, store, out, row_group=300)["parcels"] == len(store)


def test_it_goes_on_after_a_stop(
    crops: Path, store: Store, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "parcels.parquet", []

    def told(line: str) -> None:
        seen.append(line)
        if len(seen) == 2:
            raise KeyboardInterrupt

    how = {"row_group": 250, "batch": 100, "command": "predict x"}
    with pytest.raises(KeyboardInterrupt):
        predict_parcels(crops, store, out, **how, told=told)
    assert not out.exists()
    with pytest.raises(ValueError, match=r"unfinished table of other settings; different: row_group: 250 there, 100"):
        predict_parcels(crops, store, out, row_group=100, batch=100)
    predict_parcels(crops, store, out, **how, told=seen.append)
    assert len(seen) == 2 + -(-len(store) // 250) - 2
    assert out.read_bytes() == table.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=true"):
        predict_parcels(crops, store, out, **how)
    assert [path.name for path in tmp_path.iterdir()] == ["parcels.parquet"]


def test_a_geopackage_says_the_same(crops: Path, store: Store, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "parcels.gpkg"
    predict_parcels(crops, store, out, row_group=250, batch=100)
    info = pyogrio.read_info(out)
    assert (info["driver"], info["crs"], info["features"]) == ("GPKG", "EPSG:4326", len(store))
    one, other = gpd.read_file(out), gpd.read_parquet(table)
    assert one["class"].tolist() == other["class"].tolist()
    np.testing.assert_array_equal(one["confidence"], other["confidence"])


@pytest.mark.parametrize("adapt", ["tent", "adabn", "label_shift"])
def test_it_adapts_and_does_so_alike_each_time(
    adapt: str, crops: Path, store: Store, table: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        predict_parcels(crops, store, tmp_path / f"{name}.parquet", adapt=adapt, row_group=250, batch=100)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    columns = [f"p_{name}" for name in load_run(crops).legend.names]
    changed = gpd.read_parquet(tmp_path / "a.parquet")[columns].to_numpy()
    assert np.isfinite(changed).all()
    if adapt != "label_shift":  # whose estimate may lie within the noise
        assert np.abs(changed - gpd.read_parquet(table)[columns].to_numpy()).max() > 1e-4


def test_what_does_not_fit_is_said(crops: Path, aerial: Path, store: Store, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in one of \['.parquet', '.gpkg'\]"):
        predict_parcels(crops, store, tmp_path / "x.shp")
    with pytest.raises(ValueError, match="labels pixels: give input= a scene"):
        predict_parcels(aerial, store, tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"adapt is one of \['none', 'tent', 'adabn', 'label_shift'\]; got 'tant'"):
        predict_parcels(crops, store, tmp_path / "x.parquet", adapt="tant")
    one = load_run(crops)
    one.card["units"]["s2"] = "dB"
    with pytest.raises(ValueError, match=r"s2 is in reflectance in the store .*; the run was trained on dB"):
        parcels.check_store(one, store)
    one = load_run(crops)
    one.card["bands"]["s2"] = ["B99"]
    with pytest.raises(ValueError, match=r"s2 has no band \['B99'\]; it has"):
        parcels.check_store(one, store)
    one.card["bands"] = {"s1": ["VV"]}
    with pytest.raises(ValueError, match=r"the run reads the sensor s1; the store .* has \['s2'\]"):
        parcels.check_store(one, store)


BOX = shapely.box(0, 0, 1, 1)
MANY = shapely.MultiPolygon([BOX, shapely.box(2, 2, 3, 3)])


@pytest.mark.parametrize(
    ("groups", "kind"),
    [
        ([[BOX], [MANY]], "MultiPolygon"),
        ([[MANY], [BOX, None]], "MultiPolygon"),
        ([[None], [BOX]], "Polygon"),
        ([[shapely.Point(0, 0)], [BOX]], "Unknown"),
        ([[None], [None]], "Unknown"),
        ([[shapely.force_3d(BOX, 7.0)], [shapely.force_3d(BOX, 7.0)]], "Polygon Z"),
    ],
)
def test_a_layer_has_one_type_whatever_its_first_rows_are(groups: list[list], kind: str, tmp_path: Path) -> None:
    every = gpd.GeoDataFrame(geometry=[shape for group in groups for shape in group], crs="EPSG:4326")
    every.to_parquet(tmp_path / "index.parquet")
    geo = json.loads(pq.read_schema(tmp_path / "index.parquet").metadata[b"geo"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # GDAL warns of geometries that are none of the layer's type
        for group in groups:
            wkb = pa.array([None if s is None else bytes(shapely.to_wkb(s)) for s in group], pa.binary())
            table = pa.table({"parcel_id": ["x"] * len(group), "geometry": wkb})
            parcels._append(table, tmp_path / "out.gpkg", "layer", parcels.kind_of(geo))
    assert pyogrio.read_info(tmp_path / "out.gpkg")["geometry_type"] == kind
    found = gpd.read_file(tmp_path / "out.gpkg")
    assert len(found) == len(every)
    assert all(a is b or (a.equals(b)) for a, b in zip(found.geometry, every.geometry, strict=True))
