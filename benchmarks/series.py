"""Speed and memory of U-TAE on image series, forward and backward, against the published order of the same layers.

python benchmarks/series.py                   # CPU, float32: 2 samples of 30 dates, 10 bands, 128 x 128
python benchmarks/series.py --device cuda     # and bf16, torch.compile
python benchmarks/series.py --size 32 --dates 6 --repeats 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.encoders.utae import UTAE
from eo_adapt.heads.dense import Dense
from eo_adapt.types import Features, Observation

CLASSES = 20


@dataclass(frozen=True)
class Plan:
    """What is timed; ``padding`` invalid dates come on top of ``dates`` valid ones, of which the second half of the
    samples lacks ``fewer``."""

    batch: int = 2
    dates: int = 30
    padding: int = 0
    bands: int = 10
    size: int = 128
    device: str = "cpu"
    bf16: bool = False
    compiled: bool = False
    fewer: int = 0

    @property
    def frames(self) -> int:
        """Valid frames a batch."""
        return sum(self.lengths)

    @property
    def lengths(self) -> list[int]:
        """Valid dates of each sample."""
        return [self.dates - (self.fewer if i >= (self.batch + 1) // 2 else 0) for i in range(self.batch)]

    def series(self) -> Observation:
        """Random images five days apart, padding with zeros at the end."""
        total = self.dates + self.padding
        generator = torch.Generator().manual_seed(0)
        values = torch.randn(self.batch, total, self.bands, self.size, self.size, generator=generator)
        valid = torch.arange(total) < torch.tensor(self.lengths)[:, None]
        values = values.where(valid[..., None, None, None], 0.0)
        return Observation(values, torch.arange(total).repeat(self.batch, 1) * 5.0, valid).to(self.device)


class Published(nn.Module):
    """The layers of a U-TAE, run in the order of the official code (Garnot & Landrieu 2021) instead of ours.

    Padding is what equals zero everywhere, looked for before every block; each block first runs over zeros of the
    padded size to learn the shape of its output; the position code and the query are copied for every cell; weights of
    all dates are upsampled and multiplied at once; the norm before the attention sees padded dates.

    Args:
        net: Lends its layers.
        skip: Whether padded frames are skipped, and the pass over zeros made, as published; else every frame is run.
    """

    def __init__(self, net: UTAE, skip: bool = True) -> None:
        super().__init__()
        self.net, self.skip = net, skip

    def forward(self, inputs: dict[str, Observation]) -> Features:
        look = inputs[self.net.sensor]
        padded = (look.values == 0).flatten(2).all(2)
        levels = [self.frames(self.net.first, look.values)]
        for down in self.net.downs:
            levels.append(self.frames(down, levels[-1]))
        out, attention = self.attend(levels[-1], look, padded)
        maps = [out]
        for up, level in zip(reversed(self.net.ups), reversed(levels[:-1]), strict=True):
            maps.append(up(maps[-1], self.join(level, attention, padded)))
        return Features(tuple(reversed(maps)))

    def frames(self, block: nn.Module, x: Tensor) -> Tensor:
        """One block on every date, (B, T, C, H, W) in and out."""
        flat = x.flatten(0, 1)
        if not self.skip:
            return block(flat).unflatten(0, x.shape[:2])
        shape = block(torch.zeros_like(flat)).shape
        padded = (flat == 0).all(-1).all(-1).all(-1)
        if not padded.any():
            return block(flat).unflatten(0, x.shape[:2])
        out = torch.zeros(shape, device=x.device)
        out[~padded] = block(flat[~padded]).float()
        return out.unflatten(0, x.shape[:2])

    def attend(self, x: Tensor, look: Observation, padded: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of every cell; its weights are (heads, B, T, h, w)."""
        layer = self.net.attention
        batch, dates, width, height, long = x.shape
        rows = x.permute(0, 3, 4, 1, 2).reshape(-1, dates, width)
        rows = F.group_norm(rows.transpose(1, 2), layer.norm.num_groups, layer.norm.weight, layer.norm.bias)
        rows = layer.embed(rows.transpose(1, 2))
        days = look.days[:, None].expand(-1, height * long, -1).reshape(-1, dates)
        rows = rows + layer.code(Observation(rows, days))
        query = layer.query[:, None].repeat(1, len(rows), 1).flatten(0, 1)
        key = layer.key(rows).unflatten(2, (layer.heads, -1)).permute(2, 0, 1, 3).flatten(0, 1)
        value = torch.stack(rows.split(rows.shape[2] // layer.heads, 2)).flatten(0, 1)
        hidden = padded[:, None].expand(-1, height * long, -1).flatten(0, 1).repeat(layer.heads, 1)
        scores = (query[:, None] @ key.transpose(1, 2)).squeeze(1) / layer.d_key**0.5
        weights = layer.attention_dropout(scores.masked_fill(hidden, -1e3).softmax(1))
        seen = (weights[:, None].to(value.dtype) @ value).squeeze(1)
        seen = seen.unflatten(0, (layer.heads, -1)).permute(1, 0, 2).flatten(1)
        out = layer.finish(layer.dropout(layer.mlp(seen))).unflatten(0, (batch, height, long)).permute(0, 3, 1, 2)
        weights = weights.unflatten(0, (layer.heads, batch, height, long)).permute(0, 1, 4, 2, 3)
        return out, weights

    def join(self, x: Tensor, attention: Tensor, padded: Tensor) -> Tensor:
        """Maps of all dates to one, each head for its channels."""
        heads, batch = attention.shape[:2]
        weights = F.interpolate(attention.flatten(0, 1), x.shape[3:], mode="bilinear", align_corners=False)
        weights = weights.unflatten(0, (heads, batch)) * (~padded)[None, :, :, None, None]
        parts = torch.stack(x.chunk(heads, 2))
        return torch.cat(list((weights[:, :, :, None] * parts).sum(2)), 1)


def network(which: str, plan: Plan) -> Callable[[], None]:
    """Forward and backward of one network over one batch."""
    torch.manual_seed(0)
    net = UTAE({"s2": plan.bands})
    head = Dense(net, CLASSES).to(plan.device)
    encoder: nn.Module = net.to(plan.device)
    if which != "ours":
        encoder = Published(net, skip=which == "published")
    if plan.compiled:
        encoder.compile(dynamic=False)  # the head stays as it is, as in training
    inputs = {"s2": plan.series()}
    labels = torch.randint(CLASSES, (plan.batch, plan.size, plan.size), device=plan.device)

    def step() -> None:
        with torch.autocast(torch.device(plan.device).type, torch.bfloat16, enabled=plan.bf16):
            logits = head(encoder(inputs))
        F.cross_entropy(logits.float(), labels).backward()
        net.zero_grad()
        head.zero_grad()

    return step


def seconds(step: Callable[[], None], device: str) -> tuple[float, float]:
    """Of one step: by the clock, and of all threads of this process; other work on the machine hurts the first more."""
    wait(device)
    start, busy = time.perf_counter(), time.process_time()
    step()
    wait(device)
    return time.perf_counter() - start, time.process_time() - busy


def wait(device: str) -> None:
    """Until the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()


def turns(work: list[tuple[str, Plan]], repeats: int, warm: int = 1) -> list[tuple[float, float]]:
    """Fastest step of each by either clock, taken in turns so that a busy machine hurts all alike."""
    steps = [(network(which, plan), plan.device) for which, plan in work]
    for step, _ in steps:
        for _ in range(warm):
            step()
    taken = [[seconds(step, device) for step, device in steps] for _ in range(repeats)]
    return [(min(t for t, _ in column), min(busy for _, busy in column)) for column in zip(*taken, strict=True)]


def peak(device: str) -> float:
    """Largest memory so far, bytes."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return 1024.0 * int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])


def memory(which: str, plan: Plan) -> float:
    """Peak bytes of one step over the network and its batch."""
    network(which, replace(plan, dates=1, padding=0, size=16, compiled=False))()  # loads libraries and kernels
    step = network(which, plan)
    before = peak(plan.device)
    if plan.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = float(torch.cuda.memory_allocated())
    step()
    return peak(plan.device) - before


def alone(device: str, work: Callable[..., Any], *asked: object) -> Any:
    """In a forked process, whose peak memory is then that of this work; a GPU is not to be forked and counts itself."""
    if device == "cuda":
        return work(*asked)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(work, asked)


def orders(plan: Plan, repeats: int) -> None:
    """Ours against the published order, and against every frame run: series alike, as PASTIS has them, half padding."""
    print(
        "| dates | padded | order of the layers | s / step | frames / s | ms / valid frame | CPU s | peak MB | ", end=""
    )
    print("times ours | in CPU s |\n|---|---|---|---|---|---|---|---|---|---|")
    names = {"ours": "ours", "published": "published", "every": "every frame, padded or not"}
    longest = 2 * plan.dates + 1  # of 30 dates: 38 to 61, the shortest and the longest series of PASTIS
    plans = [plan, replace(plan, dates=longest, fewer=23 * longest // 61), replace(plan, padding=plan.dates)]
    work = [(which, one) for one in plans for which in names]
    taken = dict(zip(work, alone(plan.device, turns, work, repeats), strict=True))
    for which, one in work:
        (spent, busy), used = taken[which, one], alone(one.device, memory, which, one)
        numbers = f"{spent:.3f} | {one.frames / spent:.1f} | {1e3 * spent / one.frames:.1f} | {busy:.3f}"
        ours = taken["ours", one]
        ratios = f"{spent / ours[0]:.2f} | {busy / ours[1]:.2f}"
        padded = one.batch * (one.dates + one.padding) - one.frames
        words = f"{', '.join(map(str, one.lengths))} | {padded} | {names[which]}"
        print(f"| {words} | {numbers} | {used / 1e6:.0f} | {ratios} |", flush=True)


def precisions(plan: Plan, repeats: int) -> None:
    """What makes ours faster on a GPU."""
    print("\n| precision | compile | s / step | frames / s | peak MB |\n|---|---|---|---|---|")
    for one in (plan, replace(plan, bf16=True), replace(plan, bf16=True, compiled=True)):
        ((spent, _),) = turns([("ours", one)], repeats, warm=3)
        words = f"{'bf16' if one.bf16 else 'fp32'} | {'yes' if one.compiled else 'no'}"
        used = memory("ours", one) / 1e6
        print(f"| {words} | {spent:.3f} | {one.frames / spent:.0f} | {used:.0f} |", flush=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--dates", type=int, default=30)
    parser.add_argument("--bands", type=int, default=10)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = Plan(asked.batch, asked.dates, 0, asked.bands, asked.size, asked.device)
    machine = torch.cuda.get_device_name() if asked.device == "cuda" else f"{os.cpu_count()} cores, no GPU"
    print(
        f"torch {torch.__version__}, {platform.machine()}, {machine}, {asked.threads} threads; {plan.batch} samples of "
    )
    print(
        f"{plan.bands} x {plan.size} x {plan.size}; fastest of {asked.repeats} in turns, MB above network and batch\n"
    )
    orders(plan, asked.repeats)
    if asked.device == "cuda":
        precisions(plan, asked.repeats)


if __name__ == "__main__":
    main()
