"""From a trained run to files, as a user types it; on embedded images and on real ones."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import echo
import geopandas as gpd
import numpy as np
import pytest
import rasterio
import torch
import yaml
from quick import ROOT
from rio_cogeo import cog_validate

from eo_adapt.assemble import build_task
from eo_adapt.data.loader import Part, PartLoader
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.export import main as export_main
from eo_adapt.mapping.mapper import of_run
from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.mapping.scenes import map_scenes, scenes_of
from eo_adapt.mapping.work import LEDGER
from eo_adapt.predict import main as predict_main
from eo_adapt.registry import config
from eo_adapt.trained import load_run

BANDS = "red,green,blue,nir,elevation"
REAL = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def data(aerial: Path) -> SceneDataModule:
    found = build_task(yaml.safe_load((aerial / "config.yaml").read_text()))[1]
    assert isinstance(found, SceneDataModule)
    return found


def test_a_map_says_what_evaluation_says(aerial: Path, data: SceneDataModule, tmp_path: Path) -> None:
    """Of a patch of the run's own data, as one window."""
    one, row = load_run(aerial), int(data.parcels[-1].rows[3])
    number = one.number()
    batch = next(iter(PartLoader(data.reader.plain(), Part(torch.tensor([row]), None), 1)))
    logits = one.logits(batch.inputs, number)[0]
    path = data.store.root / data.store.raster(row, "aerial").path
    how = Settings(tile=64, overlap=0, bands=BANDS.split(","), probabilities=True)
    map_scene(aerial, path, tmp_path / "map.tif", how)
    np.testing.assert_array_equal(echo.read(tmp_path / "map.tif")[0], logits.argmax(0))
    p = torch.softmax(logits / one.temperature, 0).numpy()
    assert (np.abs(echo.read(tmp_path / "map_probabilities.tif") - 254 * p) <= 0.51).all()
    with rasterio.open(tmp_path / "map.tif") as file:
        colours = [file.colormap(1)[i][:3] for i in range(len(one.legend))]
        assert file.tags()["EO_ADAPT_CHECKPOINT_SHA256"] == one.digest
    own = data.store.classes.colours
    assert [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in colours] == [own[name].lower() for name in one.legend.names]


@pytest.fixture(scope="module")
def mosaic(data: SceneDataModule, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patches of the target side by side."""
    rows = data.parcels[-1].rows[:6]
    values = [data.store.pixels(int(row), "aerial", range(5))[0] for row in rows]
    image = np.concatenate([np.concatenate(values[:3], 2), np.concatenate(values[3:], 2)], 1)
    place = rasterio.transform.from_origin(700_000, 6_600_000, 0.2, 0.2)
    return echo.write(
        tmp_path_factory.mktemp("mosaic") / "mosaic.tif", image, BANDS.split(","), crs="EPSG:2154", transform=place
    )


def test_an_exported_network_makes_the_same_map(aerial: Path, mosaic: Path, tmp_path: Path) -> None:
    pytest.importorskip("safetensors")
    export_main(config(f"run={aerial}", f"out={tmp_path / 'export'}", "formats=[safetensors]", name="export"))
    how = Settings(tile=64, overlap=16, probabilities=True)
    for name, source in (("run", aerial), ("export", tmp_path / "export")):
        map_scene(source, mosaic, tmp_path / f"{name}.tif", how)
    one, other = (echo.read(tmp_path / f"{name}_probabilities.tif").astype(int) for name in ("run", "export"))
    assert np.abs(one - other).max() <= 1  # norms are folded
    with rasterio.open(tmp_path / "run.tif") as first, rasterio.open(tmp_path / "export.tif") as second:
        assert first.colormap(1) == second.colormap(1)
        same = "EO_ADAPT_CHECKPOINT_SHA256"
        assert first.tags()[same] == second.tags()[same]


@pytest.mark.parametrize("adapt", ["tent", "adabn", "label_shift"])
def test_it_learns_from_the_scene_first_and_then_maps_all_of_it_alike(
    adapt: str, aerial: Path, mosaic: Path, tmp_path: Path
) -> None:
    how = Settings(tile=64, overlap=16, batch=4, adapt=adapt, probabilities=True)
    map_scene(aerial, mosaic, tmp_path / "whole.tif", how)
    mapper, bands = of_run(aerial), []

    def told(line: str) -> None:
        bands.append(line)
        if len(bands) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_scene(mapper, mosaic, tmp_path / "stopped.tif", how, told=told)
    ledger = tmp_path / ".stopped.tif.part" / LEDGER
    ledger.write_bytes(b"\x01" + bytes(ledger.stat().st_size - 1))  # as if only the first band were in
    facts = map_scene(mapper, mosaic, tmp_path / "stopped.tif", how)
    assert facts["resumed"] == 1
    map_scene(aerial, mosaic, tmp_path / "plain.tif", replace(how, adapt="none"))
    maps = {name: echo.read(tmp_path / f"{name}_probabilities.tif") for name in ("whole", "stopped", "plain")}
    np.testing.assert_array_equal(maps["whole"], maps["stopped"])
    if adapt != "label_shift":  # whose estimate may lie within the noise
        assert (maps["whole"] != maps["plain"]).mean() > 0.05
    with pytest.raises(ValueError, match=r"adapt is one of \['none', 'tent', 'adabn', 'label_shift'\]; got 'tant'"):
        map_scene(mapper, mosaic, tmp_path / "x.tif", replace(how, adapt="tant"))
    assert not (tmp_path / "x.tif").exists()


def predict(*words: str) -> None:
    predict_main(config(*words, name="predict"))


def test_the_command_says_what_it_did_and_what_is_wrong(
    aerial: Path, mosaic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        f"run={aerial}",
        f"input.aerial={mosaic}",
        "output=out/map (1).tif",
        "tile=64",
        "entropy=true",
        "figure=true",
    ]
    command = [sys.executable, "-m", "eo_adapt.predict", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "band 3/3" in done.stdout
    assert "0.02 megapixels" in done.stdout
    out = tmp_path / "out" / "map (1).tif"
    assert cog_validate(out)[0]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with rasterio.open(out) as file:
        assert file.tags()["EO_ADAPT_COMMAND"].startswith("python -m eo_adapt.predict run=")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileExistsError, match=r"map \(1\).tif is there already; overwrite=true"):
        predict(*words)
    predict(f"input={out}", "output=outlines.gpkg", "minimum=0.2", "simplify=0.5")
    frame = gpd.read_file("outlines.gpkg")
    assert f"{len(frame)} polygons: outlines.gpkg" in capsys.readouterr().out
    frame[["geometry"]].iloc[:5].to_file("layer.gpkg")
    predict(f"input={out}", "output=classes.parquet", "parcels=layer.gpkg")
    assert gpd.read_parquet("classes.parquet")["mapped"].min() > 0.9
    with pytest.raises(ValueError, match=r"predict needs \['run', 'input'\]"):
        predict("output=x.tif")
    with pytest.raises(ValueError, match="progress is lines or none"):
        predict(*words, "progress=bar")


@pytest.mark.skipif(not (REAL / "vhr_buildings").is_dir(), reason="no real images here")
def test_a_folder_of_real_tiles_is_mapped(tmp_path: Path) -> None:
    """JPEG-compressed tiles in Web Mercator, by a network that tells how red a pixel is."""
    (tmp_path / "in").mkdir()
    tiles = sorted((REAL / "vhr_buildings" / "kampala" / "images").glob("*.tif"))[:3]
    for tile in tiles:
        (tmp_path / "in" / tile.name).symlink_to(tile)
    mapper = echo.mapper(sensors={"img": echo.spec(("red", "green", "blue"), scale=1 / 64, offset=-0.5)}, gsd=0.3)
    scenes = scenes_of(str(tmp_path / "in"))
    assert isinstance(scenes, list)
    how = Settings(tile=128, bands=["red", "green", "blue"])
    found = map_scenes(mapper, scenes, tmp_path / "out", how)
    assert [entry["status"] for entry in found["scenes"].values()] == ["done"] * 3
    for tile in tiles:
        out = tmp_path / "out" / tile.name
        assert cog_validate(out)[0]
        with rasterio.open(out) as file, rasterio.open(tile) as given:
            assert (file.crs, file.transform, file.shape) == (given.crs, given.transform, given.shape)
            expected = np.round(given.read(1) / 64 - 0.5).clip(0, 4)
            np.testing.assert_array_equal(file.read(1), expected)
    with pytest.raises(RuntimeError, match=r"pixels of 0.29\d+ m, the checkpoint was trained on 0.13 m.*resample=keep"):
        map_scenes(replace(mapper, card={**mapper.card, "gsd": {"img": 0.13}}), scenes, tmp_path / "no", how)


@pytest.mark.skipif(not (REAL / "s1_s2_stacks").is_dir(), reason="no real images here")
def test_a_real_stack_of_dates_is_read_by_name(tmp_path: Path) -> None:
    """Twelve months of Sentinel-2 over Belgium, 158 bands called <product>-<band>|<date>, in one file."""
    from eo_adapt.mapping.looks import entries
    from eo_adapt.mapping.scene import open_scene

    path = REAL / "s1_s2_stacks" / "belgium_31UFS_2020-11_2021-10.tif"
    bands = ("B08", "B04")
    spec = echo.spec(bands, kind="series", dtype="uint16", units="reflectance", scale=1e-4, nodata=65535)
    card = echo.mapper(sensors={"s2": spec}).card
    from eo_adapt.data.scenes.store import imagery_of

    given = entries({"s2": {"path": path, "bands": {b: f"S2-L2A-{b}" for b in bands}}}, {"s2": imagery_of(spec)})
    scene = open_scene(given, card)
    assert scene.year == 2021
    assert len(scene.looks["s2"].frames) == 12
    look = scene.inputs(scene.read(0, (0,), 128), torch.device("cpu"))["s2"]
    assert look.values.shape == (1, 12, 2, 128, 128)
    assert look.days is not None
    assert look.days[0, 0] == -61  # 1 November 2020
    with rasterio.open(path) as file:
        number = file.descriptions.index("S2-L2A-B04|2021-06-01") + 1
        expected = file.read(number)
    assert look.valid_pixels is not None
    shown = look.valid_pixels[0, 7, :100, :100].numpy()
    np.testing.assert_array_equal(shown, expected != 65535)
    np.testing.assert_allclose(look.values[0, 7, 1, :100, :100].numpy()[shown], expected[shown] * 1e-4, rtol=1e-5)
    assert not look.valid_pixels[..., 100:, :].any()
    scene.close()


def test_a_store_becomes_a_table_by_command(crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = build_task(yaml.safe_load((crops / "config.yaml").read_text()))[1].store
    predict(f"run={crops}", f"input={store.path}", f"output={tmp_path}/p.parquet", "progress=none")
    assert f"{len(store)} parcels" in capsys.readouterr().out
    assert len(gpd.read_parquet(tmp_path / "p.parquet")) == len(store)
