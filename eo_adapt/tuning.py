"""The k-shot protocol: chosen weights learn from ``shift.target_labels`` labelled target samples a class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from .data.datamodule import DomainDataModule
    from .data.loader import Part
    from .task import AdaptationTask
    from .types import Batch

TUNED = "tuned"  # key of a checkpoint that has been: with how many labels a class


def tune_checkpoints(task: AdaptationTask, data: DomainDataModule, folder: Path) -> None:
    """Tune the chosen checkpoint, and every epoch that was kept, in place; those that were tuned before stay.

    Does nothing for methods that do not tune. ``last.ckpt`` is not tuned: a resumed run goes on from it. That labels
    are opened is written to ``audit.jsonl``, with ``training`` as its purpose.

    Args:
        task: The run's task; its weights are overwritten.
        data: The domains.
        folder: The run directory.
    """
    import torch

    from .data.sampler import generator
    from .evaluate import device_of, load
    from .rundir import audit
    from .trainer import AtomicCheckpoints

    if not task.alignment.tunes:
        return
    found = [folder / "checkpoints" / "best.ckpt", *sorted((folder / "checkpoints").glob("epoch_*.ckpt"))]
    paths = [path for path in found if TUNED not in _read(path)]
    if not paths:
        return
    config, number = task.card["config"], data.shift.target_labels
    task.to(device_of(config["trainer"]["accelerator"]))
    shots = draw(data, lambda: audit(folder, config, f"tune on {number} labels a class", "training"))
    for path in paths:
        load(task, data, path)
        state = _read(path)
        torch.manual_seed(generator(config["seed"], state["epoch"]).initial_seed())
        tune(task, data, shots)
        AtomicCheckpoints().save_checkpoint({**state, "state_dict": task.state_dict(), TUNED: number}, path)


def stamp(task: AdaptationTask, data: DomainDataModule, checkpoint: str) -> dict[str, Any]:
    """What the report must say of target labels that the weights have learnt from.

    Raises:
        ValueError: If the checkpoint is one that is never tuned.
    """
    if not task.alignment.tunes:
        return {}
    if checkpoint != "best":
        raise ValueError(
            f"{type(task.alignment).__name__} learns from target labels after training, and {checkpoint}.ckpt holds "
            "the weights from before, for resuming; evaluate checkpoint=best"
        )
    return {"uses_target_labels": True, "target_labels": data.shift.target_labels}


def draw(data: DomainDataModule, audit: Callable[[], Any]) -> dict[int, Part]:
    """Number of each target -> its labelled samples: ``shift.target_labels`` a learnt class, drawn by the run's seed.

    They come from the target's training parcels, never from val or test; a class that has fewer gives all.

    Args:
        data: The domains.
        audit: Writes down that labels are opened.

    Raises:
        ValueError: If a target has fewer than 2 such samples.
    """
    import numpy as np
    import torch

    from .data.loader import Part
    from .data.parts import few
    from .data.scenes.datamodule import SceneDataModule

    found: dict[int, Part] = {}
    with data.opened(audit):
        targets = {i: d for i, d in enumerate(data.parcels) if d.role == "target"}
        if isinstance(data, SceneDataModule):
            return {i: data.few_labelled(d, data.shift.target_labels) for i, d in targets.items()}
        known = {i: data.sealed(d, "train") for i, d in targets.items()}
    for i, part in known.items():
        labels = np.asarray(part.labels)
        learnt = np.flatnonzero(labels < len(data.legend))
        if len(learnt) < 2:
            raise ValueError(
                f"target {data.parcels[i].domain.name!r} has {len(learnt)} training parcels of the classes "
                f"{list(data.legend.names)}; tuning needs at least 2"
            )
        at = torch.from_numpy(few(labels, learnt, data.shift.target_labels, data.seed))
        found[i] = Part(part.rows[at], torch.from_numpy(labels)[at])
    return found


def tune(task: AdaptationTask, data: DomainDataModule, shots: dict[int, Part]) -> None:
    """Let the alignment learn from the samples, on the weights that are loaded, and settle again where it settles."""
    import torch

    from .align import Step

    labelled = {}
    for i, part in shots.items():
        batch = data.reader.batch(part, torch.arange(len(part))).to(task.device)
        assert batch.labels is not None  # noqa: S101  (drawn with labels)
        labelled[i] = (batch.inputs, batch.labels)
    task.alignment.tune(task.model, labelled, Step(task.model, task.criterion, task.alignment.scope, 1.0))
    task.eval()
    if task.alignment.settles:
        sources = dict(enumerate(data.val_dataloader()[: task.sources]))
        with torch.no_grad():
            task.alignment.settle(
                task.model,
                {i: _labelled(task, loader) for i, loader in sources.items()},
                {i: (batch.inputs for batch in _on(task, loader)) for i, loader in data.adapt_dataloaders().items()},
            )


def _on(task: AdaptationTask, loader: Iterable[Batch]) -> Iterator[Batch]:
    return (batch.to(task.device) for batch in loader)


def _labelled(task: AdaptationTask, loader: Iterable[Batch]) -> Iterator[tuple[Any, Tensor]]:
    return ((batch.inputs, batch.labels) for batch in _on(task, loader) if batch.labels is not None)


def _read(path: Path) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return state
