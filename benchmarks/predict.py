"""How fast are maps made, beside the network alone? How much memory do they take? How many parcels a second?

The network is the default of task=aerial (or --backbone), with random weights: what it says does not matter here. Its
bare speed is that of windows which lie on the device already, one batch after the other. The map is made of a GeoTIFF
of random counts: read, blended, written and turned into a Cloud-Optimised GeoTIFF. Both are timed in one process, the
bare network before and after, so that other work on the machine hurts both. Memory is the largest resident size of a
process of its own that maps a scene of so many rows with a network of one layer.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
import torch

from eo_adapt.benchmarking.output import as_markdown, machine
from eo_adapt.mapping.answer import Answer, Network
from eo_adapt.mapping.mapper import Mapper, plain
from eo_adapt.mapping.maps import Settings, map_scene
from eo_adapt.registry import build
from eo_adapt.types import Observation

BANDS = ("red", "green", "blue", "nir")
CLASSES = 12
BLOCK = 512


def network_of(device: torch.device, backbone: str) -> Network:
    """A network as task=aerial trains it, or one layer."""
    from eo_adapt.model import Model, Normalise

    torch.manual_seed(0)
    if backbone == "one_layer":
        layer = torch.nn.Conv2d(len(BANDS), CLASSES, 3, padding=1).to(device).eval()
        return lambda inputs: layer(inputs["aerial"].values).detach()
    encoder = build("encoder", "timm_pyramid", sensors={"aerial": len(BANDS)}, backbone=backbone, pretrained="none")
    head = build("head", "unet", encoder=encoder, classes=CLASSES)
    model = Model(encoder, head, Normalise({"aerial": ([100.0] * len(BANDS), [50.0] * len(BANDS))}))
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return plain(model, device)


def mapper_of(backbone: str, gsd: float) -> Mapper:
    names = [f"class {i}" for i in range(CLASSES)]
    imagery = {"bands": list(BANDS), "units": "digital number", "kind": "raster", "dtype": "uint8"}
    card = {
        "bands": {"aerial": list(BANDS)},
        "imagery": {"aerial": imagery},
        "statistics": {"aerial": [[100.0] * len(BANDS), [50.0] * len(BANDS)]},
        "gsd": {"aerial": gsd},
        "legend": {"names": names, "codes": names},
    }
    return Mapper(partial(network_of, backbone=backbone), card, "benchmark", "0" * 64)


def write_scene(path: Path, height: int, width: int, gsd: float) -> None:
    """A tiled GeoTIFF of random blocks, a few of them over and over: made fast, and no easier to read."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 255, (8, len(BANDS), BLOCK, BLOCK), np.uint8)
    place = rasterio.transform.from_origin(600_000, 5_600_000, gsd, gsd)
    size = {"height": height, "width": width, "count": len(BANDS), "dtype": "uint8"}
    how = {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "lzw", "bigtiff": "if_safer"}
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32631", transform=place, **size, **how) as file:
        for number, name in enumerate(BANDS, 1):
            file.set_band_description(number, name)
        for number, (_, window) in enumerate(file.block_windows(1)):
            file.write(blocks[number % 8][:, : window.height, : window.width], window=window)


def bare(answer: Answer, batch: int, tile: int, device: torch.device, seconds: float) -> float:
    """Megapixels of windows a second of the network alone."""
    values = torch.randint(0, 255, (batch, len(BANDS), tile, tile), device=device).float()
    seen = torch.ones(batch, tile, tile, dtype=torch.bool, device=device)
    inputs = {"aerial": Observation(values, valid_pixels=seen)}

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    answer(inputs)
    wait()
    count, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        answer(inputs)
        wait()
        count += 1
    return count * batch * tile**2 / (time.perf_counter() - began) / 1e6


def speed(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row: the scene at one pixel size, beside the bare network."""
    scene = folder / "scene.tif"
    write_scene(scene, args.size, args.size, 1.0)
    how = Settings(tile=args.tile, batch=args.batch, device=args.device, readers=args.readers, precision=args.precision)
    device, mapper = torch.device(how.devices[0]), mapper_of(args.backbone, 1.0)
    answer = Answer(mapper.loads(device), 1.0, precision=how.precision)
    batch = args.batch or (16 if device.type == "cuda" else 4)
    before = bare(answer, batch, args.tile, device, args.seconds)
    facts = map_scene(mapper, scene, folder / "map.tif", how)
    after = bare(answer, batch, args.tile, device, args.seconds)
    alone = (before + after) / 2
    step = args.tile - args.tile // 8
    rows = -(-(args.size - args.tile) // step) + 1 if args.size > args.tile else 1
    windows = rows**2 * args.tile**2 / 1e6
    rate = facts["megapixels"] / facts["seconds"]
    return {
        "scene": f"{args.size} x {args.size}",
        "bare network, Mpx/s": f"{alone:.2f} ({before:.2f}, {after:.2f})",
        "windows in the map, Mpx/s": f"{windows / facts['computing']:.2f}",
        "share": f"{windows / facts['computing'] / alone:.1%}",
        "share with COG": f"{windows / facts['seconds'] / alone:.1%}",
        "windows / scene": f"{windows / facts['megapixels']:.2f}",
        "scene, Mpx/s": f"{rate:.2f}",
        "km2/h at 1.0 m": f"{rate * 3600:.0f}",
        "km2/h at 0.2 m": f"{rate * 3600 * 0.04:.0f}",
    }


def memory(args: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """One row a height: peak memory of a process that maps it."""
    found = []
    for rows in args.rows:
        scene = folder / f"rows{rows}.tif"
        write_scene(scene, rows, args.width, 1.0)
        command = [sys.executable, __file__, "--alone", str(scene), str(folder / f"rows{rows}_map.tif")]
        done = subprocess.run([*command, "--tile", str(args.tile)], capture_output=True, text=True, check=True)
        found.append({"rows": rows, "columns": args.width, "peak MB": f"{float(done.stdout.split()[-1]):.0f}"})
        scene.unlink()
    return found


def map_alone(scene: Path, out: Path, tile: int) -> None:
    """Map a scene and print the peak memory of this process, MB."""
    map_scene(mapper_of("one_layer", 1.0), scene, out, Settings(tile=tile, batch=4, device="cpu"))
    status = Path("/proc/self/status").read_text()  # resource.getrusage would start at what the parent held
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def parcels(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One row: the embedded parcels, by the default network of task=crops after a step of training."""
    from eo_adapt.assemble import build_task
    from eo_adapt.mapping.parcels import predict_parcels
    from eo_adapt.registry import config
    from eo_adapt.train import run

    words = ["trainer=smoke", "trainer.progress=none", "figures=false", "logger=csv", "data.steps_per_epoch=1"]
    run(config("task=crops", *words), folder / "run")
    import yaml

    store = build_task(yaml.safe_load((folder / "run" / "config.yaml").read_text()))[1].store
    facts = predict_parcels(folder / "run", store, folder / "parcels.parquet", device=args.device)
    rate = facts["parcels"] / facts["seconds"]
    return {"parcels": facts["parcels"], "seconds": f"{facts['seconds']:.1f}", "parcels/s": f"{rate:.0f}"}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000, help="rows and columns of the scene")
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--batch", type=int, default=0, help="0 = as predict chooses")
    parser.add_argument("--backbone", default="resnet34", help="of timm")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the bare network, twice")
    parser.add_argument("--rows", type=int, nargs="*", default=[5_000, 10_000, 20_000, 40_000], help="[] = no memory")
    parser.add_argument("--width", type=int, default=5_000)
    parser.add_argument("--no-parcels", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="for scenes and maps; else a temporary one")
    parser.add_argument("--alone", type=Path, nargs=2, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        map_alone(*args.alone, args.tile)
        return
    print(f"`python benchmarks/predict.py {' '.join(sys.argv[1:])}`; {machine()}\n")
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        print(as_markdown(pd.DataFrame([speed(args, Path(place))])), "\n", flush=True)
        if args.rows:
            print(as_markdown(pd.DataFrame(memory(args, Path(place)))), "\n", flush=True)
        if not args.no_parcels:
            print(as_markdown(pd.DataFrame([parcels(args, Path(place))])), "\n")


if __name__ == "__main__":
    main()
