"""What a trained network says, batch by batch, as its method predicts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ..data.datamodule import DomainDataModule
from ..data.loader import Part, PartLoader
from ..data.sampler import generator
from ..task import AdaptationTask
from ..types import IGNORE, Batch, Inputs, Output

PIXELS = 64  # of each patch, drawn alike from all places: what calibration looks at


def said_of(
    task: AdaptationTask,
    data: DomainDataModule,
    part: Part,
    domain: int,
    shown: Callable[[Batch], Inputs] = lambda batch: batch.inputs,
) -> Iterator[tuple[Batch, Tensor, Output]]:
    """Batch by batch: what was read, logits as the method predicts, and the network's own output, where the network is.

    Args:
        task: The trained network and its method.
        data: The domains.
        part: Which samples.
        domain: Their domain's number.
        shown: What the network is shown of a batch; all of it by default.
    """
    grad = contextlib.nullcontext() if task.alignment.learns_at_test else torch.no_grad()
    seen: list[Output] = []
    hook = task.model.register_forward_hook(lambda model, inputs, output: seen.append(output))
    with grad, contextlib.ExitStack() as stack:
        stack.callback(hook.remove)
        for batch in PartLoader(data.reader.plain(), part, 1024):
            inputs = {name: o.to(task.device) for name, o in shown(batch).items()}
            seen.clear()
            with task.alignment.scope(domain):
                logits = task.alignment.predict(task.model, inputs).detach()
            yield batch, logits, seen[-1]  # a method may look more than once; its last look counts


def sampled_of(task: AdaptationTask, data: DomainDataModule, parts: Sequence[Part]) -> tuple[Tensor, Tensor]:
    """Logits (M, L) and labels (M,) of sampled pixels of labelled patches, one part a labelled domain, pooled."""
    said = [
        sampled(logits, batch.labels.to(logits.device), int(batch.rows[0]))
        for i, part in enumerate(parts)
        for batch, logits, _ in said_of(task, data, part, 0 if data.oracle else i)
        if batch.labels is not None
    ]
    return torch.cat([logits for logits, _ in said]), torch.cat([labels for _, labels in said])


def sampled(logits: Tensor, labels: Tensor, number: int, pixels: int = PIXELS) -> tuple[Tensor, Tensor]:
    """Logits (M, L) and labels (M,) of up to ``pixels`` places a patch, those that are labelled, on the CPU.

    Args:
        logits: (B, L, H, W).
        labels: (B, H, W), ``IGNORE`` where unknown.
        number: What the draw follows from.
        pixels: Places a patch.
    """
    size = labels[0].numel()
    stream = generator(number, size)
    at = torch.stack([torch.randperm(size, generator=stream)[:pixels] for _ in labels]).to(labels.device)
    truth = labels.flatten(1).gather(1, at)
    said = logits.flatten(2).gather(2, at[:, None].expand(-1, logits.shape[1], -1)).transpose(1, 2)
    return said[truth != IGNORE].float().cpu(), truth[truth != IGNORE].cpu()
