"""Scenes that do not fit a checkpoint are refused in words, and nothing is left behind; or resampled, when asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import echo
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.warp import reproject

from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.scenes import map_scenes, scenes_of

HOW = Settings(tile=32, overlap=8, batch=3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        ({"names": ("colour",)}, r"has no band \['class'\]: .* its bands as \['colour'\]. .*bands=\[class\]"),
        ({"names": ()}, r"it does not say what its bands are. Say what they are, in the file's order: bands=\[class\]"),
        ({"dtype": np.uint16}, "holds uint16; the checkpoint was trained on uint8 images of img, counts x 1"),
        ({"transform": from_origin(6e5, 56e5, 4, 4)}, r"img has pixels of 4 m, .* trained on 10 m: .* 2.5 times as"),
        ({"count": 2, "names": ("class", "class")}, r"img has bands \['class'\] more than once"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(make: dict[str, Any], message: str, tmp_path: Path) -> None:
    image = np.repeat(echo.classes(40, 40), make.pop("count", 1), 0).astype(make.pop("dtype", np.uint8))
    echo.write(tmp_path / "in.tif", image, make.pop("names", ("class",)), **make)
    with pytest.raises(ValueError, match=message):
        map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "map.tif", HOW)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


def test_units_are_believed_only_if_numbers_can_be_such(tmp_path: Path) -> None:
    echo.write(tmp_path / "in.tif", np.full((1, 30, 30), 3000, np.float32))
    sensors = {"img": echo.spec(dtype="float", units="reflectance")}
    with pytest.raises(ValueError, match=r"which is no reflectance: scale them \(Sentinel-2 counts: 1.0e-4\)"):
        map_scene(echo.mapper(sensors=sensors), tmp_path / "in.tif", tmp_path / "map.tif", HOW)
    with rasterio.open(tmp_path / "in.tif", "r+") as file:
        file.scales = (1e-4,)
    with pytest.raises(ValueError, match=r"says that a value is count x 0.0001"):
        map_scene(echo.mapper(sensors=sensors), tmp_path / "in.tif", tmp_path / "map.tif", HOW)


@pytest.mark.parametrize("keep", [0, 30, 2000])
def test_a_damaged_file_is_named(keep: int, tmp_path: Path) -> None:
    path = echo.write(tmp_path / "in.tif", echo.classes(200, 200), compress="deflate")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"in.tif cannot be read .*: get the file again$"):
        map_scene(echo.mapper(), path, tmp_path / "map.tif", HOW)
    assert not (tmp_path / "map.tif").exists()


def test_partners_lie_in_one_crs_or_are_brought_there_when_asked(tmp_path: Path) -> None:
    sensors = {"img": echo.spec(), "other": echo.spec()}
    image = np.kron(echo.classes(10, 10), np.ones((1, 10, 10), np.uint8))
    echo.write(tmp_path / "img.tif", np.zeros((1, 100, 100), np.uint8))
    out = np.full((1, 130, 130), 9, np.uint8)
    there = {"dst_crs": "EPSG:32632", "dst_transform": from_origin(169_000, 5_622_000, 10, 10)}
    with rasterio.open(echo.write(tmp_path / "utm31.tif", image)) as file:
        reproject(rasterio.band(file, 1), out[0], **there, resampling=0, init_dest_nodata=False)
        center = rasterio.warp.transform(file.crs, "EPSG:32632", [600_500], [5_599_500])
    place = from_origin(center[0][0] - 650, center[1][0] + 650, 10, 10)
    with rasterio.open(tmp_path / "utm31.tif") as file:
        reproject(rasterio.band(file, 1), out[0], dst_crs="EPSG:32632", dst_transform=place, resampling=0)
    echo.write(tmp_path / "utm32.tif", out, crs="EPSG:32632", transform=place)
    given = {"img": str(tmp_path / "img.tif"), "other": str(tmp_path / "utm32.tif")}

    mapper = echo.mapper(_other, sensors)
    with pytest.raises(ValueError, match=r"other lies in EPSG:32632, the leading sensor in EPSG:32631. Set resample="):
        map_scene(mapper, given, tmp_path / "map.tif", HOW)
    map_scene(mapper, given, tmp_path / "map.tif", Settings(tile=32, overlap=8, resample="nearest"))
    found = echo.read(tmp_path / "map.tif")[0]
    assert (found == image[0]).mean() > 0.6  # blocks of ten pixels, twice resampled, partners at whole pixels
    with pytest.raises(ValueError, match=r"resample is one of \['nearest', 'bilinear', 'cubic', 'average', 'keep'\]"):
        map_scene(mapper, given, tmp_path / "map2.tif", Settings(resample="near"))


def _other(device: object) -> object:
    import torch

    network = echo.echo(device, "other")  # type: ignore[arg-type]

    def said(inputs):
        side = inputs["img"].values.shape[-1]
        return torch.nn.functional.interpolate(network(inputs), (side, side))

    return said


def test_other_pixel_sizes_are_resampled_when_asked(tmp_path: Path) -> None:
    image = np.kron(echo.classes(20, 15), np.ones((1, 2, 2), np.uint8))
    echo.write(tmp_path / "in.tif", image, transform=from_origin(600_000, 5_600_000, 5, 5))
    map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "map.tif", Settings(tile=32, resample="nearest"))
    np.testing.assert_array_equal(echo.read(tmp_path / "map.tif"), image[:, ::2, ::2])
    with rasterio.open(tmp_path / "map.tif") as file:
        assert file.res == (10, 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("{0}/in.tif", r"reads several sensors, \['img', 'other'\]; .* input.img=<...> input.other=<...>"),
        ({"img": "{0}/in.tif"}, r"input lacks the sensors \['other'\]: add input.other=<...>"),
        ({"img": "{0}/in.tif", "moon": "x"}, r"input names the sensors \['moon'\]; the checkpoint reads"),
    ],
)
def test_every_sensor_is_asked_for(given: Any, message: str, tmp_path: Path) -> None:
    echo.write(tmp_path / "in.tif", echo.classes(40, 40))
    filled = given.format(tmp_path) if isinstance(given, str) else {k: v.format(tmp_path) for k, v in given.items()}
    mapper = echo.mapper(sensors={"img": echo.spec(), "other": echo.spec()})
    with pytest.raises(ValueError, match=message):
        map_scene(mapper, filled, tmp_path / "map.tif", HOW)


def test_an_optional_sensor_may_be_missing(tmp_path: Path) -> None:
    image = echo.classes(40, 40)
    echo.write(tmp_path / "in.tif", image)
    mapper = echo.mapper(sensors={"img": echo.spec(), "more": echo.spec(("x",), kind="series", optional=True)})
    map_scene(mapper, tmp_path / "in.tif", tmp_path / "map.tif", HOW)
    np.testing.assert_array_equal(echo.read(tmp_path / "map.tif"), image)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tta": "d8"}, r"tta is one of \['none', 'flips', 'd4'\]; got 'd8'"),
        ({"scales": (9.0,)}, r"scales are magnifications within 0.25 and 4"),
        ({"precision": "fp8"}, "precision is auto, fp32 or bf16"),
        ({"tile": -1}, "tile and batch are at least 0"),
        ({"device": "gpu"}, "device is auto, cpu, cuda, or several as cuda:0,cuda:1; got 'gpu'"),
        ({"device": "cpu, cuda:99"}, r"device=cuda:99, but torch .* sees .*GPU.* here: set device=auto or cpu"),
    ],
)
def test_options_out_of_range_are_said(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**change)


def test_another_computer_may_have_the_device() -> None:
    assert Settings(device="cuda:99", scheduler="tcp://far:8786").devices == ("cuda:99",)


def test_a_network_of_another_shape_is_said(tmp_path: Path) -> None:
    echo.write(tmp_path / "in.tif", echo.classes(40, 40))
    with pytest.raises(ValueError, match=r"the network answers \(\d, 5, 8, 8\) for \d windows of 32 pixels"):
        map_scene(echo.mapper(_coarse), tmp_path / "in.tif", tmp_path / "map.tif", HOW)
    with pytest.raises(ValueError, match=r"output must end in .tif; got .*map.png"):
        map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "map.png", HOW)
    with pytest.raises(ValueError, match="an exported network stays as it is"):
        map_scene(echo.mapper(), tmp_path / "in.tif", tmp_path / "m.tif", Settings(tile=32, adapt="adabn"))


def _coarse(device: object) -> object:
    network = echo.echo(device)  # type: ignore[arg-type]
    return lambda inputs: network(inputs)[..., ::4, ::4].repeat(1, 1, 1, 1)


def test_a_folder_is_mapped_file_by_file_and_goes_on_after_one_that_fails(tmp_path: Path) -> None:
    images = [echo.classes(40, 30, seed) for seed in range(3)]
    (tmp_path / "in").mkdir()
    for number, image in enumerate(images):
        echo.write(tmp_path / "in" / f"s{number}.tif", image)
    good = (tmp_path / "in" / "s1.tif").read_bytes()
    (tmp_path / "in" / "s1.tif").write_bytes(b"no tiff")
    files, lines = scenes_of(str(tmp_path / "in")), []
    assert isinstance(files, list)
    with pytest.raises(RuntimeError, match=r"1 of 3 scenes failed, .* First: s1.tif: .*s1.tif cannot be read"):
        map_scenes(echo.mapper(), files, tmp_path / "out", HOW)
    assert sorted(p.name for p in (tmp_path / "out").glob("*.tif")) == ["s0.tif", "s2.tif"]
    (tmp_path / "in" / "s1.tif").write_bytes(good)
    map_scenes(echo.mapper(), files, tmp_path / "out", HOW, told=lines.append, figures=True)
    assert [p.name for p in (tmp_path / "out").glob("*.png")] == ["s1.png"]  # of the map that was made now
    assert [line for line in lines if "there already" in line] == [
        "1/3 s0.tif: there already",
        "3/3 s2.tif: there already",
    ]
    for number, image in enumerate(images):
        np.testing.assert_array_equal(echo.read(tmp_path / "out" / f"s{number}.tif"), image)
    with pytest.raises(ValueError, match="holds maps of another checkpoint or other settings"):
        map_scenes(echo.mapper(), files, tmp_path / "out", Settings(tile=64))
    assert scenes_of(str(tmp_path / "in" / "s*.tif")) == files
    with pytest.raises(FileNotFoundError, match="no raster"):
        scenes_of(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="give a raster, a folder or pattern of them, or a yaml"):
        scenes_of(str(tmp_path / "gone.tif"))
