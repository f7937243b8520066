"""What a user has is never replaced by a map: not the images, not files that only happen to be called alike."""

from __future__ import annotations

import json
from pathlib import Path

import echo
import numpy as np
import pytest

from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.scenes import map_scenes, scenes_of

HOW = Settings(tile=32, overlap=8)


def scenes(folder: Path) -> list[Path]:
    folder.mkdir()
    echo.write(folder / "a.tif", echo.classes(40, 30))
    found = scenes_of(str(folder))
    assert isinstance(found, list)
    return found


def test_an_image_is_not_replaced_by_its_map(tmp_path: Path) -> None:
    image = echo.write(tmp_path / "in_entropy.tif", echo.classes(40, 30))
    before = image.read_bytes()
    (tmp_path / "link.tif").symlink_to(image)
    for output in (image, tmp_path / "link.tif", tmp_path / "in.tif"):
        how = Settings(tile=32, entropy=True, overwrite=True)
        with pytest.raises(
            ValueError, match=r"is an image of the scene; the map would replace it: set another output="
        ):
            map_scene(echo.mapper(), image, output, how)
    assert image.read_bytes() == before


def test_the_folder_of_scenes_is_no_place_for_maps(tmp_path: Path) -> None:
    files = scenes(tmp_path / "in")
    before = files[0].read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match="maps there would be taken for scenes; set another output="):
            map_scenes(echo.mapper(), files, tmp_path / "in", HOW)
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.tif"]
    assert files[0].read_bytes() == before


def test_a_file_called_like_a_map_stays_however_often_it_is_tried(tmp_path: Path) -> None:
    files = scenes(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.tif").write_text("mine")
    for _ in range(3):
        with pytest.raises(RuntimeError, match=r"a.tif is there already; overwrite=true"):
            map_scenes(echo.mapper(), files, tmp_path / "out", HOW)
        assert (tmp_path / "out" / "a.tif").read_text() == "mine"
    (tmp_path / "out" / "a.tif").unlink()
    assert map_scenes(echo.mapper(), files, tmp_path / "out", HOW)["scenes"]["a.tif"]["status"] == "done"


def test_a_call_that_was_killed_once_the_map_was_there_goes_on(tmp_path: Path) -> None:
    files = scenes(tmp_path / "in")

    class Killed(BaseException):
        pass

    def told(line: str) -> None:
        if line.startswith("1/1"):
            raise Killed

    with pytest.raises(Killed):  # after the map got its name, before the manifest says so
        map_scenes(echo.mapper(), files, tmp_path / "out", HOW, told=told)
    manifest = tmp_path / "out" / "manifest.json"
    assert (tmp_path / "out" / "a.tif").exists()
    assert json.loads(manifest.read_text())["scenes"]["a.tif"]["status"] == "started"
    map_scenes(echo.mapper(), files, tmp_path / "out", HOW)
    assert json.loads(manifest.read_text())["scenes"]["a.tif"]["status"] == "done"
    np.testing.assert_array_equal(echo.read(tmp_path / "out" / "a.tif"), echo.classes(40, 30))
