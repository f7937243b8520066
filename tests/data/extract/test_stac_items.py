"""STAC on disk and behind a small server: bands, offsets, tiles, and items that lack something."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_tiles import boxes, extract, small_grid, values_of, write_tif

from eo_adapt.data.extract.errors import BadImageError
from eo_adapt.data.extract.stac import read_stac

GRID = small_grid()
Read = partial(read_stac, sensor="s2", bands=["B04"], mask="", offset="auto")


def item(name: str, assets: dict[str, str], **properties: Any) -> dict[str, Any]:
    left, bottom, right, top = 15.0, 46.04, 15.01, 46.05
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": ["https://stac-extensions.github.io/eo/v1.0.0/schema.json"],
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "bbox": [left, bottom, right, top],
        "properties": {
            "datetime": "2021-05-01T10:10:35Z",
            "platform": "sentinel-2a",
            "s2:processing_baseline": "03.00",
            "s2:mgrs_tile": "33TVM",
            "sat:relative_orbit": 22,
            **properties,
        },
        "links": [],
        "assets": {
            key: {"href": href, "type": "image/tiff; application=geotiff", "roles": ["data"]}
            for key, href in assets.items()
        },
    }


def collection(path: Path, *items: dict[str, Any]) -> str:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return str(path)


def test_an_item_says_what_it_is(tmp_path: Path) -> None:
    where = collection(tmp_path / "c.json", item("a", {"B04": "./b04.tif", "SCL": "./scl.tif"}))
    (one,) = Read(where, mask="SCL")
    assert not isinstance(one, BadImageError)
    assert one.name == "s2 33TVM 2021-05-01 S2A orbit 022"
    assert one.bands["B04"].path == str(tmp_path / "b04.tif")
    assert (one.bands["B04"].scale, one.bands["B04"].offset, one.bands["B04"].nodata) == (1e-4, 0, (0.0,))
    assert one.mask is not None
    assert one.mask.path.endswith("scl.tif")


def test_bands_by_common_name(tmp_path: Path) -> None:
    plain = item("a", {"B04": "./b04.tif"})
    plain["assets"]["B04"]["eo:bands"] = [{"name": "B04", "common_name": "red"}]
    (one,) = Read(collection(tmp_path / "c.json", plain), bands=["red"])
    assert list(one.bands) == ["red"]


@pytest.mark.parametrize(
    ("properties", "raster", "offset"),
    [
        ({}, {}, 0),
        ({"s2:processing_baseline": "04.00"}, {}, -0.1),
        ({"s2:processing_baseline": "04.00", "earthsearch:boa_offset_applied": True}, {"offset": -0.1}, 0),
        ({"s2:processing_baseline": "03.00"}, {"scale": 1e-4, "offset": -0.1}, -0.1),
        ({"processing:version": "05.09", "s2:processing_baseline": "05.09"}, {"scale": 1e-4, "offset": 0}, 0),
    ],
)
def test_offsets(properties: dict[str, Any], raster: dict[str, float], offset: float, tmp_path: Path) -> None:
    plain = item("a", {"B04": "./b04.tif"}, **properties)
    plain["assets"]["B04"]["raster:bands"] = [{"nodata": 0, **raster}]
    (one,) = Read(collection(tmp_path / "c.json", plain))
    assert one.bands["B04"].offset == pytest.approx(offset)
    (one,) = Read(str(tmp_path / "c.json"), offset=-1000)
    assert one.bands["B04"].offset == pytest.approx(-0.1)


@pytest.mark.parametrize(
    ("asset", "scale", "offset"),
    [
        ({"raster:scale": 2e-4, "raster:offset": 0}, 2e-4, 0),
        ({"raster:offset": -0.1}, 1e-4, -0.1),
        ({"bands": [{"name": "B04", "raster:scale": 2e-4, "raster:offset": 0.0}], "raster:offset": -0.1}, 2e-4, 0),
        ({"bands": [{"name": "B04"}], "raster:offset": 0}, 1e-4, 0),
        ({"bands": [{"name": "B04"}]}, 1e-4, -0.1),
    ],
)
def test_items_of_stac_1_1(asset: dict[str, Any], scale: float, offset: float, tmp_path: Path) -> None:
    plain = {**item("a", {"B04": "./b04.tif"}), "stac_version": "1.1.0"}
    plain["properties"]["s2:processing_baseline"] = "05.00"
    plain["assets"]["B04"].update(asset)
    (one,) = Read(collection(tmp_path / "c.json", plain))
    assert one.bands["B04"].scale == pytest.approx(scale)
    assert one.bands["B04"].offset == pytest.approx(offset)


def test_items_that_cannot_be_used(tmp_path: Path) -> None:
    silent = item("b", {"B04": "./b04.tif"})
    del silent["properties"]["s2:processing_baseline"]
    good, bad = item("a", {"B04": "./b04.tif"}), item("c", {"B08": "./b08.tif"})
    first, second, third = Read(collection(tmp_path / "c.json", good, silent, bad))
    assert not isinstance(first, BadImageError)
    assert "STAC item b says neither raster:bands offset nor s2:processing_baseline" in str(second)
    assert "STAC item c has no asset for 'B04'; it has ['B08']" in str(third)


def test_tiles_of_one_pass_have_one_moment(tmp_path: Path) -> None:
    take = {"s2:datatake_id": "GS2A_20210501T101031_030591_N03.00"}
    one = item("a", {"B04": "./a.tif"}, **take)
    other = item("b", {"B04": "./b.tif"}, **take, **{"s2:mgrs_tile": "33TWM", "datetime": "2021-05-01T10:10:49Z"})
    assert {x.moment for x in Read(collection(tmp_path / "c.json", one, other))} == {"2021-05-01T10:10:31"}
    plain = item("a", {"B04": "./a.tif"})
    del plain["properties"]["sat:relative_orbit"]
    (x,) = Read(collection(tmp_path / "c.json", plain))
    assert x.moment == "2021-05-01T10:10:35"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "cannot be read as STAC"),
        ("no json", "cannot be read as STAC"),
        ('{"type": "FeatureCollection", "features": []}', "holds no STAC item"),
    ],
)
def test_files_that_are_no_stac(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        list(Read(str(tmp_path / "c.json")))


def test_a_catalogue_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no STAC json .*c\.json"):
        list(Read(str(tmp_path / "c.json")))


def test_a_catalogue_with_links(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(item("a", {"B04": "./b04.tif"})))
    links = [{"rel": "root", "href": "./catalog.json"}, {"rel": "item", "href": "./a/a.json"}]
    catalog = {"type": "Catalog", "id": "c", "stac_version": "1.0.0", "description": "c", "links": links}
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    (one,) = Read(str(tmp_path / "catalog.json"))
    assert one.bands["B04"].path == str(folder / "b04.tif")


def test_a_store_out_of_items(tmp_path: Path, rng) -> None:
    """A date without the asset is listed; the others make the store."""
    frame = boxes((0, 0, 100, 100), (200, 200, 290, 310))
    frame.to_file(tmp_path / "parcels.gpkg", driver="GPKG")
    images = [rng.integers(1000, 2000, (50, 60)).astype(np.uint16) for _ in range(2)]
    for number, image in enumerate(images):
        write_tif(tmp_path / f"b04_{number}.tif", image, GRID)
    write_tif(tmp_path / "scl.tif", np.full((25, 30), 4, np.uint8), small_grid(30, 25, 20.0))
    items = [
        item(f"i{n}", {"B04": f"./b04_{n}.tif", "SCL": "./scl.tif"}, datetime=f"2021-05-0{n + 1}T10:10:10Z")
        for n in range(2)
    ]
    items[1]["properties"]["s2:processing_baseline"] = "04.00"
    items.append(item("i2", {"B04": "./b04_1.tif"}, datetime="2021-05-03T10:10:10Z"))
    collection(tmp_path / "items.json", *items)
    store = extract(tmp_path, images="items.json", pattern="", offset="auto", mask="scl", max_failed=0.5)
    values, days, valid = values_of(store)
    assert days[0].tolist() == [120, 121]
    assert valid.all()
    np.testing.assert_allclose(
        values[0], [images[0][:10, :10].mean() / 1e4, images[1][:10, :10].mean() / 1e4 - 0.1], atol=6e-5
    )
    assert "has no asset for 'SCL'" in (store.path / "failed.csv").read_text()
    assert store.index["region"].tolist() == ["33TVM", "33TVM"]


class Interface(BaseHTTPRequestHandler):
    """A STAC API with one item."""

    found: dict[str, Any]
    asked: list[dict[str, Any]]

    def _say(self, plain: dict[str, Any]) -> None:
        body = json.dumps(plain).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        here = f"http://127.0.0.1:{self.server.server_port}"  # type: ignore[attr-defined]
        links = [{"rel": rel, "href": here + path, "type": "application/json", **more} for rel, path, more in (
            ("self", "/", {}), ("root", "/", {}), ("search", "/search", {"method": "POST"}),
        )]  # fmt: skip
        conforms = ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"]
        plain = {"type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "x", "links": links}
        self._say(plain | {"conformsTo": conforms})

    def do_POST(self) -> None:
        self.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._say({"type": "FeatureCollection", "features": [self.found], "links": []})

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def interface() -> Iterator[tuple[str, type[Interface]]]:
    handler = type("Handler", (Interface,), {"found": item("a", {"B04": "/data/b04.tif"}), "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()


def test_an_interface_is_searched(interface: tuple[str, type[Interface]]) -> None:
    address, handler = interface
    search = {"collections": ["sentinel-2-l2a"], "bbox": [15.0, 46.0, 15.1, 46.1], "datetime": "2021-05-01"}
    (one,) = Read(address, search=search)
    assert one.bands["B04"].path == "/data/b04.tif"
    assert handler.asked[0]["collections"] == ["sentinel-2-l2a"]
    assert handler.asked[0]["bbox"] == [15.0, 46.0, 15.1, 46.1]


def test_an_interface_that_does_not_answer() -> None:
    with pytest.raises(ConnectionError, match=r"the STAC interface at http://127\.0\.0\.1:9 does not answer"):
        list(Read("http://127.0.0.1:9"))
