"""Two simulated scans as a store of scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from eo_adapt.data.lidar.tiles import Making
from eo_adapt.data.parts import Split
from eo_adapt.data.readers.lidar_scenes import LidarScenes
from eo_adapt.data.scenes.datamodule import SceneDataModule
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.data.scenes.writer import write_scenes
from eo_adapt.data.synthetic.lidar import LidarWorld
from eo_adapt.types import Domain, Shift

EAST, NORTH = 700_000.0, 6_600_000.0
SMALL = {"size": 64.0, "sites": {"dense": {"density": 4.0}, "sparse": {"density": 0.7, "relief": 8.0}}}
MAKING = Making(window=16, fill=3.0, most=4)


def reader(folder: Path, **options: Any) -> LidarScenes:
    columns = {"region": "{site}", "sensor": "lidar"}
    return LidarScenes(
        **{"tiles": "*.laz", "path": r"(?P<site>.+)\.laz", "columns": columns, "making": MAKING}
        | {"folder": str(folder)}
        | options
    )


def scanned(folder: Path) -> tuple[Path, SceneStore]:
    LidarWorld(**SMALL).write(folder / "raw")
    scans = reader(folder / "made")
    write_scenes(folder / "store", "scans", folder / "raw", scans.read(folder / "raw"), scans.sensors, scans.classes)
    return folder, SceneStore(folder / "store")


def module(store: SceneStore, bands: dict[str, list[str]], **options: Any) -> SceneDataModule:
    shift = Shift((Domain("dense", "scans", {"region": "dense"}),), (Domain("sparse", "scans", {"region": "sparse"}),))
    split = Split(block_size=0.0, buffer=0.0)
    data = SceneDataModule(
        shift, 0, "closed", False, "scans", store=str(store.path), bands=bands, split=split, batch_size=3, **options
    )
    data.setup()
    return data
