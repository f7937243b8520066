"""Speed of maps: patches a second of the reader, milliseconds of a training step, and what each method adds to it.

python benchmarks/aerial.py                  # CPU, float32: ResNet-34 U-Net, 4 images of 5 x 512 x 512 a domain
python benchmarks/aerial.py --device cuda    # and bf16, torch.compile
python benchmarks/aerial.py --size 128 --backbone resnet18 --steps 2 --rounds 3
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.base import Views
from eo_adapt.data.recipe import Recipe, make
from eo_adapt.data.scenes.labels import Remap, joined_names
from eo_adapt.data.scenes.reader import PatchPart, PatchReader
from eo_adapt.data.scenes.store import SceneStore
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build
from eo_adapt.types import Batch, Observation

METHODS = ("source_only", "both", "coral", "csn", "self_training", "geomt")
CLASSES = 12


@dataclass(frozen=True)
class Plan:
    """What is timed, and how."""

    backbone: str = "resnet34"
    head: str = "unet"
    batch: int = 4
    bands: int = 5
    size: int = 512
    device: str = "cpu"
    bf16: bool = False
    compiled: bool = False


class Both(Alignment):
    """A term that costs nothing: gradients of 0 flow through the target, as they do for every method."""

    needs_target = True

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        return {"nothing": 0.0 * torch.stack([view.features.float().mean() for view in targets]).sum()}


class Bench:
    """One method in training: a source and, where the method looks at it, a target; a batch of images each."""

    def __init__(self, plan: Plan, method: str) -> None:
        torch.manual_seed(0)
        self.plan = plan
        encoder = build("encoder", "timm_pyramid", sensors={"aerial": plan.bands}, backbone=plan.backbone)
        head = build("head", plan.head, encoder=encoder, classes=CLASSES)
        self.model = Model(encoder, head, Normalise({"aerial": ([0.4] * plan.bands, [0.2] * plan.bands)}))
        self.alignment = Both() if method == "both" else build("method", method)
        if method == "self_training":
            self.alignment.start = 0.0  # the steps that learn from labels of the teacher
        self.batches = [self.made(labelled) for labelled in (True, False)[: 1 + self.alignment.needs_target]]
        self.model.to(plan.device)
        self.alignment.attach(self.model, Setup(self.model.width, classes=CLASSES))
        self.alignment.to(plan.device)
        if plan.compiled:
            self.model.compile(dynamic=False)
        self.criterion = nn.CrossEntropyLoss()
        parameters = [p for p in (*self.model.parameters(), *self.alignment.parameters()) if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters)

    def made(self, labelled: bool) -> Batch:
        """Random images, resident on the device."""
        plan = self.plan
        images = torch.rand(plan.batch, plan.bands, plan.size, plan.size)
        labels = torch.randint(CLASSES, (plan.batch, plan.size, plan.size)) if labelled else None
        lonlat = torch.rand(plan.batch, 2) * 5 + torch.tensor([0.0, 44.0])
        batch = Batch({"aerial": Observation(images)}, labels, lonlat, torch.arange(plan.batch))
        return batch.to(plan.device)

    def train(self) -> None:
        """One optimiser step, as AdaptationTask takes it."""
        step = Step(self.model, self.criterion, self.alignment.scope, 0.5)
        sources, targets = self.alignment.edit(tuple(self.batches[:1]), tuple(self.batches[1:]), step)
        views = []
        with torch.autocast(torch.device(self.plan.device).type, torch.bfloat16, enabled=self.plan.bf16):
            for i, batch in enumerate((*sources, *targets)):
                with self.alignment.scope(i):
                    features, logits = self.model(batch.inputs)
                views.append(View(features, logits, batch.inputs, i, batch.labels, batch.lonlat))
            loss = self.criterion(views[0].logits.float(), views[0].labels)
            terms = self.alignment(tuple(views[:1]), tuple(views[1:]), step)
        self.optimizer.zero_grad()
        sum(terms.values(), start=loss).backward()
        self.optimizer.step()
        self.alignment.after_step(self.model)

    def time(self, steps: int, warm: int = 1) -> float:
        """Seconds a step."""
        for _ in range(warm):
            self.train()
        self.wait()
        start = time.perf_counter()
        for _ in range(steps):
            self.train()
        self.wait()
        return (time.perf_counter() - start) / steps

    def wait(self) -> None:
        """Until the device is done."""
        if torch.device(self.plan.device).type == "cuda":
            torch.cuda.synchronize()


def reading(plan: Plan, rounds: int) -> float:
    """Windows of GeoTIFFs in FLAIR#1's layout, one process: seconds a batch of deflated ones, with labels.

    Patches are read from the page cache; every round reads each patch once, in an order of its own.
    """
    recipe, taken = Recipe.load("flair1"), {}
    few = {"departments": ["D006_2020"], "zones": 2, "grid": 4, "size": plan.size}
    print("| GeoTIFF | MB a patch | patches / s | ms a batch |\n|---|---|---|---|")
    for compress in ("deflate", "none"):
        with TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            make({**recipe.synthetic, **few, "compress": compress}).write(raw)
            store = recipe.prepare(raw, Path(folder) / "store")
            assert isinstance(store, SceneStore)
            remap = Remap.to(store.classes, store.names, joined_names(store.classes, {}))
            part = PatchPart(torch.arange(len(store)), None, remap)
            reader = PatchReader(store, {"aerial": store.sensors["aerial"].bands}, {"aerial": ([0.0] * 5, [1.0] * 5)})
            once(reader, part, plan.batch, 0)
            taken[compress] = float(np.median([once(reader, part, plan.batch, 1 + i) for i in range(rounds)]))
            size = np.mean([path.stat().st_size for path in raw.rglob("IMG_*.tif")]) / 1e6
        print(f"| {compress} | {size:.2f} | {1 / taken[compress]:.0f} | {1e3 * plan.batch * taken[compress]:.0f} |")
    print()
    return plan.batch * taken["deflate"]


def once(reader: PatchReader, part: PatchPart, batch: int, seed: int) -> float:
    """Seconds a patch."""
    order = torch.randperm(len(part), generator=torch.Generator().manual_seed(seed)).split(batch)
    start = time.perf_counter()
    for positions in order:
        reader.batch(part, positions)
    return (time.perf_counter() - start) / len(part)


def precisions(plan: Plan, steps: int, loading: float) -> None:
    """A step of source_only: float32, and on a GPU what makes it faster; and the share of reading for it."""
    plans = [plan]
    if torch.device(plan.device).type == "cuda":
        half = replace(plan, bf16=True)
        plans += [half, replace(half, compiled=True)]
    print("| precision | compile | ms / step | images / s | peak GB | reading / step | workers |")
    print(f"{'|---' * 7}|")
    for one in plans:
        if torch.device(plan.device).type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = Bench(one, "source_only").time(steps, warm=3 if one.compiled else 1)
        words = ("bf16" if one.bf16 else "fp32", "yes" if one.compiled else "no")
        numbers = f"{1e3 * seconds:.0f} | {one.batch / seconds:.1f} | {peak(one):.1f} | {100 * loading / seconds:.1f} %"
        print(f"| {' | '.join(words)} | {numbers} | {math.ceil(loading / seconds)} |", flush=True)
    print("\nreading / step: by one process, of deflated patches; workers: so many keep up with the network.")


def peak(plan: Plan) -> float:
    """Peak memory in GB: of the GPU, or of this process so far."""
    if torch.device(plan.device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def methods(plan: Plan, names: Sequence[str], steps: int, rounds: int) -> None:
    """Cost of each method, interleaved with source_only so that a busy machine hurts all alike."""
    taken: dict[str, list[float]] = {name: [] for name in names}
    benches = {name: Bench(plan, name) for name in names}
    for _ in range(rounds):
        for name, bench in benches.items():
            taken[name].append(bench.time(steps))
    print("\n| method | ms / step | images / s | times source_only | over both |\n|---|---|---|---|---|")
    for name in names:
        seconds = float(np.median(taken[name]))
        times = [np.median([a / b for a, b in zip(taken[name], taken[base], strict=True)]) for base in METHODS[:2]]
        images = plan.batch * len(benches[name].batches) / seconds
        print(f"| {name} | {1e3 * seconds:.0f} | {images:.1f} | {times[0]:.2f} | {100 * (times[1] - 1):+.1f} % |")
    print("\nboth: source and target go through the network and back, no term; source_only leaves the target out;")
    print("csn sends no gradient through it; self_training also labels it with a teacher and looks at a strong view.")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in vars(Plan()).items():
        if not isinstance(default, bool):
            parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--steps", type=int, default=2, help="timed at once, after one that is not")
    parser.add_argument("--rounds", type=int, default=3, help="how often each method has its turn")
    parser.add_argument("--methods", nargs="*", default=METHODS[2:], choices=METHODS[2:])
    asked = vars(parser.parse_args())
    steps, rounds, names = (asked.pop(name) for name in ("steps", "rounds", "methods"))
    plan = Plan(**asked)
    on_gpu = torch.device(plan.device).type == "cuda"
    print(
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{torch.cuda.get_device_name() if on_gpu else 'no GPU'}, {torch.get_num_threads()} threads\n"
        f"{plan.backbone} {plan.head}, {plan.batch} x {plan.bands} x {plan.size} x {plan.size} a domain\n"
    )
    precisions(plan, steps, reading(plan, rounds))
    fast = replace(plan, bf16=on_gpu)
    methods(fast, (*METHODS[:2], *names), steps, rounds)


if __name__ == "__main__":
    main()
