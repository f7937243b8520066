"""The one trainer: any encoder, any head, any alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from .align import Alignment, Step, View
from .data.sampler import generator
from .metrics import confusion, per_class
from .model import Model
from .optim import Optim
from .selection.base import Criterion, Outputs
from .types import Batch, DomainBatch, Output


class NotFiniteError(RuntimeError):
    """A loss term became NaN or infinite."""


class AdaptationTask(pl.LightningModule):
    """Trains a model on labelled source batches with an alignment towards target batches.

    Args:
        model: The network.
        alignment: The method.
        criterion: (logits, labels) -> scalar task loss.
        optim: Optimiser and schedule.
        selection: Criterion that chooses the checkpoint; logged as ``select/chosen``.
        watched: Other label-free criteria, logged as ``select/<name>``.
        sources: Number of labelled domains.
        targets: Number of unlabelled domains.
        provides: View fields that the data have, of those an alignment may need.
        seed: Each batch's randomness (dropout, augmentation) follows from this and the batch's number.
        card: What a user of the checkpoint must know (bands, units, legend, config); plain types only.
        keys: Rows of a batch -> parcel ids, for messages.

    Raises:
        ValueError: At construction, if the alignment or the criterion needs what the data do not have.
    """

    def __init__(
        self,
        model: Model,
        alignment: Alignment,
        criterion: nn.Module,
        optim: Optim,
        selection: Criterion,
        sources: int,
        targets: int,
        provides: frozenset[str],
        seed: int = 0,
        watched: dict[str, Criterion] | None = None,
        card: dict[str, Any] | None = None,
        keys: Callable[[Tensor], list[str]] = lambda rows: list(map(str, rows.tolist())),
    ) -> None:
        super().__init__()
        check_needs(alignment, selection, targets, provides)
        alignment.attach(model, model.width, sources + targets)
        self.model, self.alignment, self.criterion = model, alignment, criterion
        self.optim, self.selection, self.watched = optim, selection, dict(watched or {})
        self.sources, self.seed, self.card, self.keys = sources, seed, dict(card or {}), keys
        self._outputs: list[list[Output]] = []
        self._labels: list[list[Tensor | None]] = []

    # -- training ----------------------------------------------------------------------------------------------------

    @property
    def progress(self) -> float:
        """Share of the optimiser steps done, in [0, 1]."""
        return self.global_step / max(1, int(self.trainer.estimated_stepping_batches))

    def on_train_batch_start(self, batch: DomainBatch, batch_idx: int) -> None:
        """Seed this batch's randomness: a resumed run and a run that was never stopped draw alike."""
        torch.manual_seed(generator(self.seed, self.current_epoch, batch_idx).initial_seed())

    def view(self, batch: Batch, domain: int) -> View:
        """One domain as the model sees it."""
        with self.alignment.scope(domain):
            features, logits = self.model(batch.inputs)
        days = next((o.days for o in batch.inputs.values() if o.days is not None), None)
        return View(features, logits, batch.inputs, domain, batch.labels, batch.lonlat, days)

    def training_step(self, batch: DomainBatch, batch_idx: int) -> Tensor:
        """Sum of the task loss and the alignment's weighted terms."""
        step = Step(self.model, self.criterion, self.alignment.scope, self.progress)
        sources, targets = self.alignment.edit(batch.sources, batch.targets, step)
        views = tuple(self.view(b, i) for i, b in enumerate((*sources, *targets)))
        labelled, unlabelled = views[: len(sources)], views[len(sources) :]
        task = torch.stack([self.criterion(v.logits.float(), v.labels) for v in labelled]).mean()
        terms = {"task": task} | self.alignment(labelled, unlabelled, step)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise NotFiniteError(self._not_finite(terms, batch, batch_idx))
        self.log_dict(
            {f"loss/{name}": term.detach() for name, term in terms.items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.sources[0]),
        )
        return total

    def _not_finite(self, terms: dict[str, Tensor], batch: DomainBatch, batch_idx: int) -> str:
        bad = [name for name, term in terms.items() if not torch.isfinite(term)]
        keys = {f"domain {i}": self.keys(b.rows)[:5] for i, b in enumerate((*batch.sources, *batch.targets))}
        return (
            f"loss term {bad} became NaN or infinite in epoch {self.current_epoch}, batch {batch_idx}; first parcels "
            f"of the batch: {keys}. Lower optim.lr or the method's weight, set trainer.precision=fp32, or look at "
            "those parcels; the last good checkpoint is kept"
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """The optimiser's step, then the alignment's moment after it."""
        super().optimizer_step(*args, **kwargs)
        self.alignment.after_step(self.model)

    # -- selection ---------------------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Forget the last epoch's outputs."""
        count = len(self.trainer.val_dataloaders)  # type: ignore[arg-type]
        self._outputs, self._labels = [[] for _ in range(count)], [[] for _ in range(count)]

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect what the model says of one domain's validation parcels."""
        with self.alignment.scope(dataloader_idx):
            output = self.model(batch.inputs)
        self._outputs[dataloader_idx].append(Output(output.features.float().cpu(), output.logits.float().cpu()))
        self._labels[dataloader_idx].append(None if batch.labels is None else batch.labels.cpu())

    def on_validation_epoch_end(self) -> None:
        """Score the epoch by every criterion, and let the alignment propose class weights."""
        domains = [_join(outputs, labels) for outputs, labels in zip(self._outputs, self._labels, strict=True)]
        sources, targets = domains[: self.sources], domains[self.sources :]
        for name, criterion in {"chosen": self.selection, **self.watched}.items():
            if targets or not criterion.needs_target:
                score = criterion.score(sources, targets, self.current_epoch)
                self.log(f"select/{name}", score, prog_bar=name == "chosen")
        if not self.trainer.sanity_checking:
            self._reweigh(sources)

    def _reweigh(self, sources: Sequence[Outputs]) -> None:
        matrix = sum(
            confusion(s.labels, s.logits.argmax(1), s.logits.shape[1]) for s in sources if s.labels is not None
        )
        recall = per_class(torch.as_tensor(matrix))["recall"].float()
        weights = self.alignment.class_weights(recall)
        reweigh = getattr(getattr(self.trainer, "datamodule", None), "reweigh", None)
        if weights is not None and reweigh is not None:
            reweigh(weights)

    # -- Lightning's questions ---------------------------------------------------------------------------------------

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a Batch or a DomainBatch."""
        if isinstance(batch, DomainBatch):
            return DomainBatch(*(tuple(b.to(device, non_blocking=True) for b in side) for side in batch))
        return batch.to(device, non_blocking=True)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Everything that wants a gradient, in the model and in the alignment."""
        trained = [p for p in self.parameters() if p.requires_grad]
        optimizer, schedule = self.optim.build(trained, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the checkpoint say what it is."""
        checkpoint["card"] = self.card


def check_needs(alignment: Alignment, selection: Criterion, targets: int, provides: frozenset[str]) -> None:
    """Refuse a method or a criterion whose needs the data do not meet, before anything is read.

    Raises:
        ValueError: Saying what is needed and what is there.
    """
    name = type(alignment).__name__
    if missing := alignment.needs - provides:
        raise ValueError(f"{name} needs {sorted(missing)} in every batch; this data provides {sorted(provides)}")
    if alignment.needs_target and not targets and not alignment.uses_target_labels:
        raise ValueError(f"{name} needs a target domain in training; shift.targets is empty")
    if selection.needs_target and not targets:
        raise ValueError(
            f"selection by {type(selection).__name__} needs a target domain; there is none to validate on "
            "(choose selection=source_val)"
        )


def _join(outputs: Sequence[Output], labels: Sequence[Tensor | None]) -> Outputs:
    known = [label for label in labels if label is not None]
    return Outputs(
        logits=torch.cat([o.logits for o in outputs]),
        labels=torch.cat(known) if known else None,
        features=torch.cat([o.features for o in outputs]),
    )
