"""Training speed: parcels per second, share of the loader, cost of each alignment, memory, resident arrays.

python benchmarks/speed.py                        # CPU: PSE + L-TAE, batch 128, T = 30, 10 bands, 32 pixels
python benchmarks/speed.py --device cuda --series # GPU: parcel series, mapped against resident, bf16, compile
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.base import Views
from eo_adapt.data.loader import DomainLoader, Part, Reader, Steps
from eo_adapt.data.store import Store
from eo_adapt.model import Model, Normalise
from eo_adapt.optim import Optim
from eo_adapt.registry import build
from eo_adapt.selection.last import Last
from eo_adapt.task import AdaptationTask
from eo_adapt.trainer import Candidates, TrainerOptions
from eo_adapt.types import DomainBatch

BANDS = tuple(f"B{i:02d}" for i in range(10))
METHODS = ("source_only", "both", "coral", "mmd", "dann", "csn")
BASE = "both"  # source and target forward and backward, without any maths between them: what a term is compared with


def fake_store(folder: Path, parcels: int, dates: int, pixels: int) -> Store:
    """A store with random values, written as the store's layout says (StoreWriter would take minutes for a million)."""
    import json

    rng = np.random.default_rng(0)
    (folder / "s2").mkdir(parents=True)
    rows = parcels * dates * pixels
    with (folder / "s2" / "values.bin").open("wb") as file:
        for first in range(0, rows, 2_000_000):
            n = min(2_000_000, rows - first)
            file.write(rng.integers(200, 6000, (n, len(BANDS)), dtype=np.uint16).tobytes())
    np.tile(np.linspace(1, 360, dates).astype(np.int16), parcels).tofile(folder / "s2" / "days.bin")
    np.ones(parcels * dates, np.bool_).tofile(folder / "s2" / "valid.bin")
    np.tile(np.array([[dates, pixels]], np.int32), (parcels, 1)).tofile(folder / "s2" / "sizes.bin")
    if pixels > 1:
        np.ones(rows, np.bool_).tofile(folder / "s2" / "pixels.bin")
    place = {"lon": rng.uniform(0, 9, parcels), "lat": rng.uniform(45, 50, parcels), "label": "a", "geometry": b""}
    pd.DataFrame({"parcel_id": np.arange(parcels).astype(str), **place}).to_parquet(folder / "index.parquet")
    sensors = {"s2": {"bands": BANDS, "units": "reflectance", "scale": 1e-4, "offset": 0.0, "dtype": "uint16"}}
    about = {"format": 1, "recipe": "speed", "parcels": parcels, "dropped": 0, "sensors": sensors, "files": {}}
    (folder / "store.json").write_text(json.dumps(about))
    return Store(folder)


class Both(Alignment):
    """A term that costs nothing: gradients of 0 flow through the target, as they do for every method."""

    needs_target = True

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, torch.Tensor]:
        return {"nothing": 0.0 * sum(view.features.float().mean() for view in targets)}


@contextmanager
def store(parcels: int, dates: int, pixels: int) -> Iterator[Store]:
    """A store that is gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        yield fake_store(Path(place) / "store", parcels, dates, pixels)


class Bench:
    """One method on one store: a source and a target domain, batch 128 each."""

    def __init__(self, made: Store, method: str, device: str, resident: bool, bf16: bool, compiled: bool) -> None:
        torch.manual_seed(0)
        self.device, self.bf16 = torch.device(device), bf16
        arrays = {"s2": made.arrays["s2"].to(device)} if resident else None
        reader = Reader(made, {"s2": BANDS}, 32, arrays)
        half = len(made) // 2
        labels = torch.randint(0, 20, (half,))
        sources = [Part(torch.arange(half), labels)]
        encoder = build("encoder", "pse_ltae", sensors={"s2": len(BANDS)})
        head = build("head", "classify", encoder=encoder, classes=20)
        self.model = Model(encoder, head, Normalise({"s2": ([0.3] * 10, [0.15] * 10)}))
        self.alignment = Both() if method == BASE else build("method", method)
        targets = [Part(torch.arange(half, len(made)), None)] if self.alignment.needs_target else []
        self.steps = Steps(reader, sources, targets, 128, 0, 0)
        self.parcels = 128 * (1 + len(targets))
        self.alignment.attach(self.model, Setup(self.model.width))
        self.model.to(self.device)
        self.alignment.to(self.device)
        if compiled:
            self.model.encoder.compile(dynamic=False)
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW([*self.model.parameters(), *self.alignment.parameters()])

    def train(self, batch: DomainBatch) -> None:
        """One optimiser step, as AdaptationTask takes it."""
        batches = [b.to(self.device, non_blocking=True) for b in (*batch.sources, *batch.targets)]
        views = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for i, b in enumerate(batches):
                with self.alignment.scope(i):
                    features, logits = self.model(b.inputs)
                views.append(View(features, logits, b.inputs, i, b.labels, b.lonlat))
        step = Step(self.model, self.criterion, self.alignment.scope, 0.5)
        loss = self.criterion(views[0].logits.float(), views[0].labels)
        terms = self.alignment(tuple(views[:1]), tuple(views[1:]), step)
        loss = loss + sum(terms.values(), start=loss.new_zeros(()))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def wait(self) -> None:
        """Until the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, steps: int, warm: int = 3) -> tuple[float, float]:
        """(seconds a step, seconds of it in the loader)."""
        for i in range(warm):
            self.train(self.steps[0, i])
        self.wait()
        start, loading = time.perf_counter(), 0.0
        for i in range(steps):
            before = time.perf_counter()
            batch = self.steps[0, warm + i]
            loading += time.perf_counter() - before
            self.train(batch)
        self.wait()
        return (time.perf_counter() - start) / steps, loading / steps


def alignments(made: Store, device: str, steps: int, resident: bool = False) -> None:
    """Cost of each alignment, interleaved with source_only so that a busy machine hurts all alike."""
    benches = {m: Bench(made, m, device, resident, False, False) for m in METHODS}
    taken: dict[str, list[float]] = {m: [] for m in METHODS}
    loaded: dict[str, list[float]] = {m: [] for m in METHODS}
    for _ in range(5):
        for method, bench in benches.items():
            seconds, loading = bench.time(steps)
            taken[method].append(seconds)
            loaded[method].append(loading)
    print("| method | s / step | parcels / s | over both | loader share |\n|---|---|---|---|---|")
    for m in METHODS:
        s = np.median(taken[m])
        extra = np.median([a / b for a, b in zip(taken[m], taken[BASE], strict=True)])
        share = 100 * np.median(loaded[m]) / s
        print(f"| {m} | {s:.4f} | {benches[m].parcels / s:.0f} | {100 * (extra - 1):+.1f} % | {share:.1f} % |")
    print("\nboth: source and target go through the network and back, no term; source_only leaves the target out;")
    print("csn sends no gradient through it.\n")


def epoch(made: Store, device: str) -> None:
    """One epoch from disk to the optimiser through AdaptationTask and Lightning, against the bare loop."""
    bench = Bench(made, "coral", device, False, False, False)
    seconds, _ = bench.time(10)
    task = AdaptationTask(
        bench.model,
        build("method", "coral"),
        nn.CrossEntropyLoss(),
        Optim(),
        {"last": Last()},
        "last",
        1,
        1,
        0,
        frozenset({"labels"}),
    )
    options = TrainerOptions(max_epochs=1, accelerator="gpu" if device == "cuda" else "cpu", progress="none")
    with tempfile.TemporaryDirectory() as place:
        trainer, _ = options.build(Path(place), [], False)
        trainer.limit_val_batches = 0
        trainer.callbacks = [c for c in trainer.callbacks if not isinstance(c, Candidates)]  # nothing to choose from
        start = time.perf_counter()
        trainer.fit(task, DomainLoader(bench.steps))
        taken = time.perf_counter() - start
    rate = bench.parcels * len(bench.steps) / taken
    print(f"one epoch with coral through Lightning: {rate:.0f} parcels / s; bare loop {bench.parcels / seconds:.0f}\n")


def paths(made: Store, device: str, steps: int) -> None:
    """Mapped files against resident arrays, precision and compilation."""
    print("| arrays | precision | compile | parcels / s |\n|---|---|---|---|")
    for resident in (False, True):
        for bf16 in (False, True) if device == "cuda" else (False,):  # much slower than fp32 on most CPUs
            for compiled in (False, True) if device == "cuda" else (False,):
                bench = Bench(made, BASE, device, resident, bf16, compiled)
                seconds, _ = bench.time(steps, warm=10)
                words = ("resident" if resident else "mapped", "bf16" if bf16 else "fp32", "yes" if compiled else "no")
                print(f"| {' | '.join(words)} | {bench.parcels / seconds:.0f} |", flush=True)


def memory(sizes: list[int]) -> None:
    """Peak memory after a hundred batches, by number of parcels: files are mapped, so it must not grow with them."""
    print("\n| parcels | store MB | growth of anonymous memory, MB |\n|---|---|---|")
    for parcels in sizes:
        with store(parcels, 30, 1) as made:
            bench = Bench(made, "source_only", "cpu", False, False, False)
            before = anonymous()
            for i in range(100):
                bench.steps[0, i]
            size = sum(p.stat().st_size for p in made.path.rglob("*.bin")) / 1e6
            print(f"| {parcels} | {size:.0f} | {anonymous() - before:.0f} |")


def anonymous() -> float:
    """Private memory of this process in MB, mapped files not counted."""
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) / 1e3


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--series", action="store_true", help="parcel series (S = 1) instead of pixel sets")
    parser.add_argument("--parcels", type=int, default=4000)
    parser.add_argument("--steps", type=int, default=10)
    asked = parser.parse_args()
    gpu = torch.cuda.get_device_name() if asked.device == "cuda" else "no GPU"
    print(
        f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} cores, {gpu}, "
        f"{torch.get_num_threads()} threads\n"
    )
    with store(asked.parcels, 30, 1 if asked.series else 32) as made:
        alignments(made, asked.device, asked.steps, resident=asked.device == "cuda")
        epoch(made, asked.device)
        paths(made, asked.device, asked.steps)
    if asked.device == "cpu":
        memory([10_000, 100_000, 1_000_000])
    print(f"\npeak resident set {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f} GB")


if __name__ == "__main__":
    main()
