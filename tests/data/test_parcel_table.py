"""Parcel tables: the spellings of one table that are read alike, and every bad input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas as pd
import pytest
import shapely
import torch

from eo_adapt import registry
from eo_adapt.data.readers.parcel_table import ParcelTable, ParcelTables
from eo_adapt.data.records import Record, Sensor
from eo_adapt.data.store import Store
from eo_adapt.data.writer import StoreWriter

SMALL = pd.DataFrame(
    {
        "pid": [11, 12, 13],
        "crop": ["a", "b", "b"],
        "x": [10.0, 10.5, 11.0],
        "y": [50.0, 50.5, 51.0],
        "B2|2020-11-01": [100, 200, 300],
        "B3|2020-11-01": [110, 210, 65535],
        "B2|2021-03-01": [120, np.nan, 320],
        "B3|2021-03-01": [130, 230, 330],
        "area": [1.5, 2.5, 3.5],
    }
)
SPEC: dict[str, Any] = {
    "file": "t.csv",
    "columns": {"id": "pid", "label": "crop", "lon": "x", "lat": "y"},
    "constants": {"year": 2021, "country": "BE"},
    "attributes": ["area"],
    "series": {
        "s2": {
            "layout": "wide",
            "pattern": r"(?P<band>B\d)\|(?P<date>.*)",
            "names": {"B2": "B02", "B3": "B03"},
            "factor": 1e-4,
            "nodata": 65535,
            "sensor": {"bands": ["B02", "B03"]},
        }
    },
}
LONG = {"layout": "long", "date": "when", "factor": 1e-4, "nodata": 65535, "columns": {"B02": "B2", "B03": "B3"}}


def small(tmp_path: Path, frame: pd.DataFrame = SMALL, **changes: Any) -> list[Record]:
    spec = {**SPEC, **changes}
    path = tmp_path / spec["file"]
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".gpkg":
        geopandas.GeoDataFrame(frame, geometry=geopandas.points_from_xy(frame["x"], frame["y"]), crs=4326).to_file(path)
    return list(ParcelTable(**spec).read(tmp_path))


def long_table() -> pd.DataFrame:
    rows = [
        {"pid": r["pid"], "crop": r["crop"], "x": r["x"], "y": r["y"], "area": r["area"], "when": date}
        | {band: r[f"{band}|{date}"] for band in ("B2", "B3")}
        for date in ("2021-03-01", "2020-11-01")
        for _, r in SMALL.iterrows()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("file", ["t.csv", "t.parquet", "t.gpkg"])
@pytest.mark.parametrize("layout", ["wide", "long"])
def test_kinds_and_layouts_agree(tmp_path: Path, file: str, layout: str) -> None:
    if layout == "long":
        series = {"s2": {**LONG, "sensor": Sensor(("B02", "B03"))}}
        found = small(tmp_path, long_table(), file=file, series=series)
    else:
        found = small(tmp_path, file=file)
    assert [(record.key, record.label, record.lon) for record in found] == [
        ("11", "a", 10.0),
        ("12", "b", 10.5),
        ("13", "b", 11.0),
    ]
    assert found[0].series["s2"].days.tolist() == [-61, 59]
    assert found[0].country == "BE"
    values = np.stack([record.series["s2"].values for record in found])
    expected = [[[0.01, 0.011], [0.012, 0.013]], [[0.02, 0.021], [np.nan, 0.023]], [[0.03, np.nan], [0.032, 0.033]]]
    np.testing.assert_allclose(values, np.array(expected), rtol=1e-6)
    assert found[2].attributes is not None
    assert found[2].attributes.tolist() == [3.5]


def test_days_of_year_in_rows(tmp_path: Path) -> None:
    table = long_table().assign(when=lambda t: t["when"].map({"2021-03-01": 60, "2020-11-01": -60}))
    spec = {key: value for key, value in LONG.items() if key != "date"}
    found = small(tmp_path, table, series={"s2": {**spec, "doy": "when", "sensor": {"bands": ["B02", "B03"]}}})
    assert found[1].series["s2"].days.tolist() == [-61, 59]


def test_drop_rules_and_label_codes(tmp_path: Path) -> None:
    frame = SMALL.assign(crop=[1, 2, 3])
    found = small(tmp_path, frame, drop={"area": [1.5, 9]}, labels={2: "wheat"}, hcat={"wheat": 3301010100})
    assert [(record.label, record.hcat) for record in found] == [("wheat", "3301010100"), ("3", "")]
    assert len(small(tmp_path, SMALL.assign(crop=pd.Series(["a", None, "b"], dtype=object)), drop={"crop": None})) == 2


def outlines(tmp_path: Path, name: str, crs: int | None, ids: list[int] | None = None) -> None:
    places = geopandas.GeoSeries(geopandas.points_from_xy(SMALL["x"], SMALL["y"]), crs=4326).to_crs(32632).buffer(50)
    frame = geopandas.GeoDataFrame({"ID": ids or [13, 11, 12]}, geometry=places.iloc[[2, 0, 1]].to_numpy(), crs=crs)
    frame.to_parquet(tmp_path / name) if name.endswith("parquet") else frame.to_file(tmp_path / name)


@pytest.mark.parametrize("name", ["o.gpkg", "o.shp", "o.parquet"])
def test_outlines_are_joined_and_reprojected(tmp_path: Path, name: str) -> None:
    outlines(tmp_path, name, 32632)
    spec: dict[str, Any] = {"columns": {"id": "pid", "label": "crop"}, "outlines": {"file": name, "id": "ID"}}
    for record, lon, lat in zip(small(tmp_path, **spec), SMALL["x"], SMALL["y"], strict=True):
        assert (record.lon, record.lat) == pytest.approx((lon, lat), abs=1e-5)
        assert shapely.from_wkb(record.geometry).contains(shapely.Point(lon, lat))


def test_outlines_of_the_table_itself(tmp_path: Path) -> None:
    found = small(tmp_path, file="t.gpkg", columns={"id": "pid", "label": "crop"}, outlines={})
    assert [record.lon for record in found] == SMALL["x"].tolist()
    assert found[0].geometry is not None


@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_outlines_without_crs(tmp_path: Path) -> None:
    outlines(tmp_path, "o.shp", None)
    with pytest.raises(ValueError, match=r"o.shp states no CRS.*crs: EPSG:"):
        small(tmp_path, outlines={"file": "o.shp", "id": "ID"})
    found = small(
        tmp_path, columns={"id": "pid", "label": "crop"}, outlines={"file": "o.shp", "id": "ID", "crs": "EPSG:32632"}
    )
    assert found[0].lon == pytest.approx(10.0, abs=1e-5)


def test_outlines_that_do_not_fit(tmp_path: Path) -> None:
    outlines(tmp_path, "o.gpkg", 32632, [13, 11, 99])
    with pytest.raises(ValueError, match=r"no outline of 1 parcels, first \['12'\]"):
        small(tmp_path, outlines={"file": "o.gpkg", "id": "ID"})
    outlines(tmp_path, "o2.gpkg", 32632, [13, 11, 11])
    with pytest.raises(ValueError, match=r"two outlines, first \['11'\]"):
        small(tmp_path, outlines={"file": "o2.gpkg", "id": "ID"})
    with pytest.raises(ValueError, match=r"no column 'pid' \(for parcel id\)"):
        small(tmp_path, outlines={"file": "o.gpkg"})
    with pytest.raises(ValueError, match=r"layers \['o'\]"):
        small(tmp_path, outlines={"file": "o.gpkg", "id": "ID", "layer": "parcels"})
    with pytest.raises(FileNotFoundError, match=r"gone.gpkg"):
        small(tmp_path, outlines={"file": "gone.gpkg", "id": "ID"})


@pytest.mark.parametrize("file", ["t.csv", "t.parquet", "t.gpkg"])
def test_missing_and_cut_tables(tmp_path: Path, file: str) -> None:
    small(tmp_path, file=file)
    data = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=rf"{file} cannot be read"):
        list(ParcelTable(**{**SPEC, "file": file}).read(tmp_path))
    (tmp_path / file).unlink()
    with pytest.raises(FileNotFoundError, match=rf"looked for .*{file}"):
        list(ParcelTable(**{**SPEC, "file": file}).read(tmp_path))


def test_csv_cut_inside_its_last_number(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text()[:-2])
    with pytest.raises(ValueError, match="does not end with a line break"):
        list(ParcelTable(**SPEC).read(tmp_path))


def test_missing_column_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no column 'crops' \(for label\); nearest: \['crop'\]; all columns: \['pid', 'crop'"
    ):
        small(tmp_path, columns={**SPEC["columns"], "label": "crops"})
    with pytest.raises(ValueError, match=r"no column 'dupl' \(for drop rule dupl\)"):
        small(tmp_path, drop={"dupl": True})


def test_no_number_names_row_and_column(tmp_path: Path) -> None:
    frame = SMALL.astype({"B3|2020-11-01": object})
    frame.loc[2, "B3|2020-11-01"] = "cloudy"
    with pytest.raises(ValueError, match=r"row 3 \(parcel 13\), column 'B3\|2020-11-01' holds 'cloudy'"):
        small(tmp_path, frame, drop={"pid": 11})


def test_repeated_ids(tmp_path: Path) -> None:
    frame = pd.concat([SMALL, SMALL.iloc[:2]])
    with pytest.raises(ValueError, match=r"2 parcel ids occur more than once, first \['11', '12'\]"):
        small(tmp_path, frame)
    with pytest.raises(ValueError, match=r"1 rows have no id in column 'pid', first row 2"):
        small(tmp_path, SMALL.assign(pid=[1, np.nan, 3]))


def test_rows_that_do_not_fit(tmp_path: Path) -> None:
    series = {"s2": {**LONG, "sensor": {"bands": ["B02", "B03"]}}}
    table = long_table()
    with pytest.raises(ValueError, match=r"1 rows repeat a date of their parcel, first parcels \['11'\]"):
        small(tmp_path, pd.concat([table, table.iloc[:1]]), series=series)
    with pytest.raises(ValueError, match=r"more than one label, first \['13'\]"):
        small(tmp_path, table.assign(crop=[*"abbab", "c"]), series=series)
    with pytest.raises(ValueError, match=r"t.csv, column 'when': 'spring' is no date"):
        small(tmp_path, table.assign(when=["spring", *table["when"][1:]]), series=series)


def test_label_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"row 2 \(parcel 12\) has no label.*drop: \{crop: null\}"):
        small(tmp_path, SMALL.assign(crop=pd.Series(["a", None, "b"], dtype=object)))


def test_bands_and_dates_are_complete(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"date 2021-03-01 has no column of the bands \['B03'\]"):
        small(tmp_path, SMALL.drop(columns="B3|2021-03-01"))
    with pytest.raises(ValueError, match=r"no column matches .* for the bands \['B03'\]; bands found: \['B02', 'B3'\]"):
        small(tmp_path, series={"s2": {**SPEC["series"]["s2"], "names": {"B2": "B02"}}})


WIDE = SPEC["series"]["s2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": {**SPEC["columns"], "regoin": "x"}}, "regoin"),
        ({"columns": {"id": "pid", "label": "crop"}}, r"needs columns for \['lat', 'lon'\]"),
        ({"constants": {}}, r"needs columns for \['year'\]"),
        ({"series": {"s2": {**WIDE, "patern": "x"}}}, "no 'patern', did you mean 'pattern'"),
        ({"series": {"s2": {**WIDE, "layout": "broad"}}}, "layout: wide or layout: long; got 'broad'"),
        ({"series": {"s2": {**WIDE, "pattern": "B.*"}}}, r"one of \['doy', 'date', 'step'\]"),
        ({"series": {"s2": {**WIDE, "pattern": "(?P<doy>.*)"}}}, r"needs \(\?P<band>"),
        ({"series": {"s2": {**WIDE, "pattern": "(?P<band>B)(?P<step>.*)"}}}, "start and end"),
        ({"series": {"s2": {**LONG, "sensor": {"bands": ["B2"]}}}}, r"not of \['B02', 'B03'\]"),
        ({"outlines": {"flie": "x"}}, "no 'flie', did you mean 'file'"),
        ({"outlines": "fields.gpkg"}, "outlines is a mapping"),
        ({"file": "t.xlsx"}, "of no kind that is read"),
    ],
)
def test_wrong_specs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(ParcelTable(**{**SPEC, **changes}).read(tmp_path))


def test_tables_need_the_same_sensors() -> None:
    other = {**SPEC, "series": {"s1": WIDE}}
    with pytest.raises(ValueError, match="same sensors"):
        ParcelTables([SPEC, other])


def test_growing_degree_days_reach_the_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        {"id": f"{region}{i}", "crop": "ab"[i % 2], "lon": 20 + 3 * (region == "s") + i / 50, "lat": 45 + (i % 7) / 10,
         "region": region, "doy": doy, "ndvi": rng.random(), "heat": 7.5 * doy}
        for region in "ns" for i in range(60) for doy in (40, 90, 140)
    ]  # fmt: skip
    pd.DataFrame(rows).to_csv(tmp_path / "long.csv", index=False)
    table = ParcelTable(
        file="long.csv",
        columns={"id": "id", "label": "crop", "lon": "lon", "lat": "lat", "region": "region"},
        series={
            "vi": {
                "layout": "long",
                "doy": "doy",
                "gdd": "heat",
                "columns": {"NDVI": "ndvi"},
                "sensor": {"bands": ["NDVI"], "units": "1", "scale": 1e-4, "offset": -1.0},
            }
        },
    )
    with StoreWriter(tmp_path / "store", "own", table.sensors) as writer:
        for record in table.read(tmp_path):
            writer.add(record)
    inputs = Store(tmp_path / "store").gather(torch.arange(4), {"vi": ["NDVI"]})
    assert inputs["vi"].gdd is not None
    assert inputs["vi"].gdd.tolist() == [[300, 675, 1050]] * 4
    cfg = registry.config("encoder=ltae", "encoder.temporal.position=gdd")
    encoder = registry.instantiate(cfg.encoder, sensors={"vi": 1}).eval()
    warmer = {"vi": replace(inputs["vi"], gdd=inputs["vi"].gdd + 200)}
    assert not torch.allclose(encoder(inputs).maps[0], encoder(warmer).maps[0])
    later = {"vi": replace(inputs["vi"], days=inputs["vi"].days + 20)}
    assert torch.equal(encoder(inputs).maps[0], encoder(later).maps[0])
