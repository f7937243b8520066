"""Real scans: heights above ground against a plain gridding, in metres and in feet, classified and not."""

from __future__ import annotations

import csv
from pathlib import Path

import laspy
import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from rasterio.features import rasterize

from eo_adapt.data.lidar.cloud import Cloud
from eo_adapt.data.lidar.frame import Frame
from eo_adapt.data.lidar.rasterise import rasterise
from eo_adapt.data.lidar.write import ndsm

REAL = Path(__file__).parents[2] / "../shared/data/lidar"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="no ../shared/data")
FOOT = 0.3048


def gridded(path: Path, frame: Frame, turn: Transformer | None, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Highest point and mean ground of each pixel, by sorting: no line of it is shared with what is tested."""
    las = laspy.read(path)
    kind = np.asarray(las.classification)
    keep = (kind != 7) & (kind != 18)
    x, y, z = (np.asarray(v)[keep] for v in (las.x, las.y, las.z))
    if turn is not None:
        x, y = turn.transform(x, y)
    west, north, side = frame.transform[2], frame.transform[5], frame.transform[0]
    column, row = np.floor((x - west) / side).astype(int), np.floor((north - y) / side).astype(int)
    top, soil = (np.full((frame.height, frame.width), np.nan) for _ in range(2))
    order = np.argsort(z)
    top[row[order], column[order]] = z[order] * unit  # the last one written is the highest
    low = kind[keep] == 2
    key = row[low] * frame.width + column[low]
    pixels, which = np.unique(key, return_inverse=True)
    soil.ravel()[pixels] = np.bincount(which, z[low] * unit) / np.bincount(which)
    return top, soil


SITES = ["fr_herault", "fr_0931_6449_bat", "fr_0726_6764_pont", "stbarth", "us_autzen_oregon", "us_neon_sjer052"]


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("pixel", [1.0, 2.0])
def test_heights_above_ground_agree_with_a_plain_gridding(site: str, pixel: float) -> None:
    with (REAL / "sites.csv").open() as file:
        row = next(r for r in csv.DictReader(file) if r["site"] == site)
    cloud = Cloud(REAL / f"{site}.laz", f"EPSG:{row['epsg']}")
    feet = site == "us_autzen_oregon"
    crs = "EPSG:32610" if feet else cloud.crs
    frame = Frame.around(cloud.about().bounds_in(crs), crs, pixel)
    found = rasterise([cloud], frame)
    turn = Transformer.from_crs(cloud.crs, crs, always_xy=True) if feet else None
    top, soil = gridded(cloud.path, frame, turn, FOOT if feet else 1.0)
    np.testing.assert_array_equal(found.seen, np.isfinite(top))
    np.testing.assert_allclose(found.band("dsm")[found.seen], top[found.seen], atol=1e-3)
    both = np.isfinite(top - soil)
    assert both.mean() > 0.05
    np.testing.assert_allclose(found.band("ndsm")[both], (top - soil)[both], atol=1e-3)
    if pixel > 1:
        return
    published = float(row["ndsm_p99"]) * (FOOT if feet else 1.0)
    assert np.nanpercentile(found.band("ndsm"), 99) == pytest.approx(published, rel=0.15)


def test_the_ground_found_by_its_form_is_near_that_of_the_publisher() -> None:
    for site, epsg in (("fr_herault", 2154), ("stbarth", 5490), ("us_neon_sjer052", 32611)):
        cloud = Cloud(REAL / f"{site}.laz", f"EPSG:{epsg}")
        frame = Frame.around(cloud.about().bounds, cloud.crs, 1.0)
        known, found = (rasterise([cloud], frame, ("dtm",), how).band("dtm") for how in ("class", "filter"))
        error = np.abs(known - found)
        assert np.median(error) < 0.1, site
        assert np.percentile(error, 90) < 0.5, site


def test_surface_minus_terrain_of_washington_is_its_height_where_both_see_the_same() -> None:
    """The height raster has the first returns, the surface model does not: trees and edges are lower in the latter.

    On flat roofs and bare ground both must see the same thing.
    """
    folder = REAL / "washington_dc"
    found = ndsm(folder / "dsm.tif", folder / "dtm.tif")
    with rasterio.open(folder / "hag.tif") as file:
        height = file.read(1)
    seen, ours = found.seen, found.band("ndsm")
    assert seen.mean() == pytest.approx(0.996, abs=0.001)
    assert np.corrcoef(ours[seen], height[seen])[0, 1] > 0.7
    assert (ours[seen] <= height[seen] + 1.0).mean() > 0.9
    flat = seen & (height < 0.3)
    assert np.median(np.abs(ours[flat])) < 0.3
    roofs = _inside_of_large_roofs(folder / "buildings.geojson", found.frame)
    assert roofs.sum() > 300
    assert np.median(np.abs(ours - height)[roofs & seen]) < 1.5


def _inside_of_large_roofs(path: Path, frame: Frame) -> np.ndarray:
    import geopandas

    outlines = geopandas.read_file(path).to_crs(frame.crs)
    outlines = outlines[outlines["SQMETERS"] > 1500]
    shapes = [shape for shape in outlines.geometry.buffer(-8) if not shape.is_empty]
    drawn = rasterize(shapes, (frame.height, frame.width), transform=rasterio.Affine(*frame.transform))
    return np.asarray(drawn, bool)
