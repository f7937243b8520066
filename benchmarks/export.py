"""What exports where, and how fast it then runs on one core.

python benchmarks/export.py table                # every encoder and head, small, random weights: formats and free sizes
python benchmarks/export.py speed                # parcels and patches a second: torch, .pt2, onnxruntime
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnx
import onnxruntime
import torch

from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.encoders.utae import UTAE
from eo_adapt.exporting.about import FORMAT
from eo_adapt.exporting.formats import SUFFIXES, read, write
from eo_adapt.exporting.inputs import Layout, layout_of
from eo_adapt.exporting.network import PlainNetwork
from eo_adapt.exporting.write import difference, first_line, traced
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build

SMALL: dict[str, Any] = {"widths": [16, 16], "decoder": [16], "heads": 4, "d_model": 32}
WIDTHS = {"widths": [16, 16, 16, 8, 8]}
S2, TWO, MANY = {"s2": 10}, {"s2": 10, "s1": 2}, {"aerial": 4, "s2": 10, "s1_asc": 2}
IMAGE = partial(TimmPyramid, backbone="test_resnet")
FLAT = {name: partial(UTAE, **SMALL, down=1) for name in ("s2", "s1_asc")}
Case = tuple[str, dict[str, Any], str, dict[str, Any], dict[str, int]]


def cases() -> Iterator[tuple[str, Case]]:
    """Name -> encoder, its options, head, its options, sensors."""
    for name in ("pse_ltae", "pse_tae", "ltae", "tae", "tempcnn", "gru", "parcel_transformer"):
        yield name, (name, {}, "classify", {}, S2)
    for scheme in ("early", "mid", "late", "decision"):
        head = "decision" if scheme == "decision" else "classify"
        yield f"parcel fusion, {scheme}", ("parcel_fusion", {"scheme": scheme}, head, {}, TWO)
    yield "utae", ("utae", SMALL, "dense", {}, S2)
    yield "utae, paps", ("utae", SMALL, "paps", {}, S2)
    yield "tsvit", ("tsvit", {"width": 32, "tokens": 3, "size": 8}, "dense", {}, S2)
    yield "unet3d", ("unet3d", {"widths": [8, 16]}, "dense", {}, S2)
    for scheme in ("early", "mid", "late", "added", "decision"):
        head = "map_decision" if scheme == "decision" else "dense"
        yield (
            f"series fusion, {scheme}",
            ("series_fusion", {"scheme": scheme, "branch": partial(UTAE, **SMALL)}, head, {}, TWO),
        )
    for backbone in ("test_resnet", "test_convnext", "test_efficientnet", "test_vit"):
        head, more = ("segformer", {}) if backbone == "test_vit" else ("fpn", {})
        yield f"timm_pyramid {backbone}, {head}", ("timm_pyramid", {"backbone": backbone}, head, more, {"aerial": 4})
    for head, more in (("unet", WIDTHS), ("upernet", {"width": 32}), ("segformer", {}), ("deeplabv3plus", {})):
        yield (
            f"timm_pyramid test_resnet, {head}",
            ("timm_pyramid", {"backbone": "test_resnet"}, head, more, {"aerial": 4}),
        )
    for scheme in ("late", "added"):
        options = {"branch": IMAGE, "branches": FLAT, "scheme": scheme}
        yield f"map fusion, {scheme}", ("map_fusion", options, "unet", WIDTHS, MANY)
    yield "point_pillars", ("point_pillars", {"backbone": "test_resnet"}, "unet", WIDTHS, {"lidar": 5})


def made(case: Case) -> tuple[PlainNetwork, Layout, dict[str, int]]:
    encoder, options, head, more, sensors = case
    torch.manual_seed(0)
    net = build("encoder", encoder, sensors=sensors, **options)
    plain = {name: (0.0, 1.0) if name == "lidar" else (0.3, 0.2) for name in sensors}
    statistics = {name: ([plain[name][0]] * n, [plain[name][1]] * n) for name, n in sensors.items()}
    model = Model(net, build("head", head, encoder=net, classes=12, **more), Normalise(statistics)).eval()
    network = PlainNetwork(model, 1.0).eval().requires_grad_(False)
    return network, layout_of(network.encoder, {}), sensors


def about_of(layout: Layout) -> dict[str, Any]:
    empty: dict[str, Any] = {key: {} for key in ("bands", "units", "statistics", "legend")}
    return {"format": FORMAT, "domain": "a", "maps": False, "temperature": 1.0, **empty, **layout.to_dict()}


def sizes(layout: Layout) -> str:
    free = [f"{a.name} x {a.step}" if a.step > 1 else a.name for a in layout.axes.values() if a.dynamic]
    fixed = [f"{a.name} = {a.size}" for a in layout.axes.values() if not a.dynamic]
    return ", ".join(free) + (f"; fixed: {', '.join(fixed)}" if fixed else "")


def table(only: str) -> None:
    print("| network | .pt2 | ONNX | free sizes | seconds |\n|---|---|---|---|---:|")
    for name, case in cases():
        if only not in name:
            continue
        network, layout, sensors = made(case)
        began = time.process_time()
        program, layout, failures = traced(network, layout, sensors, ["pt2", "onnx"], False)
        said = {}
        with tempfile.TemporaryDirectory() as folder:
            for form in ("pt2", "onnx"):
                path = Path(folder) / f"network{SUFFIXES[form]}"
                try:
                    if form in failures:
                        raise RuntimeError(failures[form])
                    write(form, path, about_of(layout), network, program, layout)
                    said[form] = f"{difference(path, network, layout, sensors):.0e}"
                except Exception as error:  # whatever it is goes into the table
                    said[form] = "no: " + first_line(error)[:120]
        row = f"| {name} | {said['pt2']} | {said['onnx']} | {sizes(layout)} | {time.process_time() - began:.0f} |"
        print(row, flush=True)


def rate(call: Callable[[], Any], samples: int, seconds: float) -> float:
    """Samples a second of CPU time, the best of three rounds: other work on the machine only slows."""
    with torch.no_grad():
        call(), call()
        best = 0.0
        for _ in range(3):
            began, done = time.process_time(), 0
            while time.process_time() - began < seconds / 3:
                call()
                done += samples
            best = max(best, done / (time.process_time() - began))
    return best


def speed(seconds: float) -> None:
    image = ("timm_pyramid", {}, "unet", {}, {"aerial": 5})
    jobs: list[tuple[str, Case, int, dict[str, int]]] = [
        ("pse_ltae, 64 parcels, 30 dates, 32 pixels", ("pse_ltae", {}, "classify", {}, S2), 64,
         {"s2.time": 30, "s2.pixels": 32}),
        ("ltae, 256 parcels, 30 dates", ("ltae", {}, "classify", {}, S2), 256, {"s2.time": 30}),
        ("resnet18 U-Net, 4 patches of 128 x 128", image, 4, {"aerial.height": 128, "aerial.width": 128}),
        ("utae, 1 patch of 64 x 64, 20 dates", ("utae", {}, "dense", {}, S2), 1,
         {"s2.time": 20, "s2.height": 64, "s2.width": 64}),
    ]  # fmt: skip
    print("| network and batch | torch | .pt2 | onnxruntime |\n|---|---:|---:|---:|")
    for name, case, batch, wanted in jobs:
        network, layout, sensors = made(case)
        program, layout, failures = traced(network, layout, sensors, ["pt2", "onnx"], False)
        assert not failures, failures
        tensors = layout.example(sensors, batch=batch)
        tensors = {e.name: _grown(tensors[e.name], e.axes, wanted) for e in layout.entries}
        found = [rate(lambda: network(tensors), batch, seconds)]  # noqa: B023  (called at once)
        with tempfile.TemporaryDirectory() as folder:
            for form in ("pt2", "onnx"):
                path = Path(folder) / f"network{SUFFIXES[form]}"
                write(form, path, about_of(layout), network, program, layout)
                _, runner = read(path)
                found.append(rate(lambda: runner(tensors), batch, seconds))  # noqa: B023
        print(f"| {name} | " + " | ".join(f"{x:,.1f}" for x in found) + " |", flush=True)


def _grown(x: torch.Tensor, axes: tuple[str, ...], wanted: dict[str, int]) -> torch.Tensor:
    for i, axis in enumerate(axes):
        if axis in wanted:
            x = x.repeat_interleave(-(-wanted[axis] // x.shape[i]), i).narrow(i, 0, wanted[axis])
    return torch.ones_like(x) if x.dtype == torch.bool else x  # nothing masked: all of them do the same work


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("table", "speed"))
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--only", default="", help="table: networks whose name holds this")
    options = parser.parse_args()
    torch.set_num_threads(1)
    where = f"{os.cpu_count()} cores ({platform.machine()}), load {os.getloadavg()[0]:.1f}, 1 thread"
    print(f"python {' '.join(sys.argv)}; {where}")
    print(f"torch {torch.__version__}, onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}\n")
    table(options.only) if options.what == "table" else speed(options.seconds)
