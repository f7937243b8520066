"""The one trainer: any encoder, any head, any alignment."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from .align import Alignment, Setup, Step, View
from .data.sampler import generator
from .metrics import confusion, per_class
from .model import Model
from .optim import Optim
from .selection.base import Criterion, Outputs, best
from .selection.sample import balanced_pixels
from .types import IGNORE, Batch, DomainBatch, Inputs, Output, Side, SidedOutput
from .view import view_of

PIXELS = 64  # of each predicted class and batch of maps, that criteria look at


class NotFiniteError(RuntimeError):
    """A loss term became NaN or infinite."""


class AdaptationTask(pl.LightningModule):
    """Trains a model on labelled source batches with an alignment towards target batches.

    Args:
        model: The network.
        alignment: The method.
        criterion: (logits, labels) -> scalar task loss.
        optim: Optimiser and schedule.
        criteria: Name -> criterion; each epoch's scores are logged as ``select/<name>``.
        selection: Which of them chooses the checkpoint; also logged as ``select/chosen``.
        sources: Number of labelled domains.
        targets: Number of unlabelled domains.
        classes: Number of classes.
        provides: View fields that the data have, of those an alignment may need.
        seed: Each batch's randomness (dropout, augmentation) follows from this and the batch's number.
        card: What a user of the checkpoint must know (bands, units, legend, config); plain types only.
        keys: Rows of a batch -> parcel ids, for messages.
        names: Class names; methods that take options by class look them up.

    Raises:
        ValueError: At construction, if the alignment or the criterion needs what the data do not have.
    """

    def __init__(
        self,
        model: Model,
        alignment: Alignment,
        criterion: nn.Module,
        optim: Optim,
        criteria: Mapping[str, Criterion],
        selection: str,
        sources: int,
        targets: int,
        classes: int,
        provides: frozenset[str],
        seed: int = 0,
        card: dict[str, Any] | None = None,
        keys: Callable[[Tensor], list[str]] = lambda rows: list(map(str, rows.tolist())),
        names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        check_needs(alignment, criteria[selection], sources, targets, provides)
        alignment.attach(model, Setup(model.width, sources, targets, classes, tuple(names), model.branches))
        self.model, self.alignment, self.criterion = model, alignment, criterion
        # A criterion that needs a target is only watched where there is one.
        self.criteria = {name: c for name, c in criteria.items() if targets or not c.needs_target}
        self.optim, self.selection = optim, selection
        self.sources, self.seed, self.card, self.keys = sources, seed, dict(card or {}), keys
        self.history: dict[str, list[float]] = {name: [] for name in self.criteria}
        self.warmup = 0
        self._outputs: list[list[Outputs]] = []

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
        return self._view(batch, domain)[0]

    def _view(self, batch: Batch, domain: int) -> tuple[View, Mapping[str, Side], dict[str, Tensor]]:
        """The same, what each modality says alone (heads with auxiliary supervision), and the head's own loss."""
        with self.alignment.scope(domain):
            output = self.model(batch.inputs)
            own = self.model.own_loss(output, batch)
        sides = output.sides if isinstance(output, SidedOutput) else {}
        return view_of(output, batch, domain), sides, own

    def training_step(self, batch: DomainBatch, batch_idx: int) -> Tensor:
        """Sum of the task loss and the alignment's weighted terms."""
        step = Step(self.model, self.criterion, self.alignment.scope, self.progress)
        sources, targets = self.alignment.edit(batch.sources, batch.targets, step)
        seen = [self._view(b, i) for i, b in enumerate((*sources, *targets))]
        views = tuple(view for view, *_ in seen)
        labelled, unlabelled = views[: len(sources)], views[len(sources) :]
        task = torch.stack([self.criterion(v.logits.float(), v.labels) for v in labelled]).mean()
        terms = {"task": task} | self._auxiliary(labelled, [sides for _, sides, _ in seen])
        terms |= _means("head", [own for *_, own in seen[: len(sources)]])
        if all(map(torch.isfinite, terms.values())):  # else methods would complain of features, and name no parcels
            terms |= self.alignment(labelled, unlabelled, step)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise NotFiniteError(self._not_finite(terms, batch, batch_idx))
        logged = {f"loss/{name}": term.detach() for name, term in terms.items()}
        self.log_dict(
            logged | {f"monitor/{name}": value for name, value in self.alignment.monitors().items()},
            on_step=False,
            on_epoch=True,
            batch_size=len(batch.sources[0]),
        )
        return total

    def _auxiliary(self, views: Sequence[View], sides: Sequence[Mapping[str, Side]]) -> dict[str, Tensor]:
        """Weighted task loss of each modality alone, over the labelled samples that have it; a mean over domains."""
        found: dict[str, list[Tensor]] = {}
        for view, said in zip(views, sides, strict=False):
            for name, (logits, present, weight) in said.items():
                labels = view.labels
                assert labels is not None  # noqa: S101  (labelled views have labels)
                known = labels.where(present.view(-1, *[1] * (labels.ndim - 1)), IGNORE)
                found.setdefault(name, []).append(weight * self.criterion(logits.float(), known))
        return {f"auxiliary/{name}": torch.stack(terms).sum() / len(views) for name, terms in found.items()}

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
        """Let the alignment settle on the targets, and forget the last epoch's outputs."""
        if self.alignment.settles:
            with torch.no_grad():
                self.alignment.settle(self.model, self._labelled(), self._unlabelled())
        self._outputs = [[] for _ in self.trainer.val_dataloaders]  # type: ignore[union-attr]

    def _labelled(self) -> dict[int, Iterator[tuple[Inputs, Tensor]]]:
        """Number of each source domain -> its validation batches, on this device."""
        loaders = self.trainer.val_dataloaders[: self.sources]  # type: ignore[index]
        batches = {i: _on(self.device, loader) for i, loader in enumerate(loaders)}
        return {i: ((b.inputs, b.labels) for b in known if b.labels is not None) for i, known in batches.items()}

    def _unlabelled(self) -> dict[int, Iterator[Inputs]]:
        """Number of each target domain -> its adaptation batches, on this device."""
        loaders = self.trainer.datamodule.adapt_dataloaders()  # type: ignore[attr-defined]
        return {i: (batch.inputs for batch in _on(self.device, loader)) for i, loader in loaders.items()}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect what the model says of one domain's validation samples."""
        with self.alignment.scope(dataloader_idx):
            output = self.model(batch.inputs)
            output = Output(output.features, self.alignment.adjust(output.logits))
            probes = self._probe(batch.inputs, output) if dataloader_idx >= self.sources else {}
        stream = generator(self.seed, dataloader_idx, batch_idx)
        logits, features, labels = balanced_pixels(output, batch.labels, PIXELS, stream)
        labels = None if labels is None else labels.cpu()
        self._outputs[dataloader_idx].append(Outputs(logits.float().cpu(), labels, features.float().cpu(), probes))

    def _probe(self, inputs: Inputs, output: Output) -> dict[str, Tensor]:
        looks = {name: c.probe(inputs, output, lambda x: self.model(x).logits) for name, c in self.criteria.items()}
        return {name: look.cpu() for name, look in looks.items() if look is not None}

    def on_validation_epoch_end(self) -> None:
        """Score the epoch by every criterion, and let the alignment propose class weights."""
        domains = [_join(outputs) for outputs in self._outputs]
        sources, targets = domains[: self.sources], domains[self.sources :]
        for name, criterion in self.criteria.items():
            score = criterion.score(sources, targets, self.current_epoch)
            self.history[name].append(score)
            self.log(f"select/{name}", score)
        self.warmup += 0 < self.alignment.start >= self.progress
        self.log("select/chosen", self.final_scores()[-1], prog_bar=True)
        self._reweigh(sources)

    def final_scores(self) -> list[float]:
        """Score of every epoch so far by the criterion that chooses; nan before the alignment has set in."""
        scores = self.criteria[self.selection].over(self.history, self.selection)
        return [math.nan] * self.warmup + scores[self.warmup :]

    def chosen(self) -> int:
        """The epoch that the criterion chooses among those so far.

        Raises:
            SelectionError: If none of them has a score.
        """
        return best(self.final_scores(), self.selection)

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
        """Let the checkpoint say what it is, and what every epoch so far scored."""
        checkpoint["card"], checkpoint["history"], checkpoint["warmup"] = self.card, self.history, self.warmup

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A resumed run chooses among all epochs, not only its own."""
        self.history, self.warmup = checkpoint["history"], checkpoint["warmup"]


def check_needs(
    alignment: Alignment, selection: Criterion, sources: int, targets: int, provides: frozenset[str]
) -> None:
    """Refuse a method or a criterion whose needs the data do not meet, before anything is read.

    Raises:
        ValueError: Saying what is needed and what is there.
    """
    name = type(alignment).__name__
    if missing := alignment.needs - provides:
        raise ValueError(f"{name} needs {sorted(missing)} in every batch; this data provides {sorted(provides)}")
    if alignment.images_only and "images" not in provides:
        raise ValueError(
            f"{name} changes parts of images, and these data hold parcels: take method=self_training or "
            "method=timematch, or a task with images"
        )
    if sources < alignment.min_sources:
        raise ValueError(
            f"{name} compares labelled domains, so it needs at least {alignment.min_sources} sources; "
            f"shift.sources has {sources}"
        )
    if (alignment.needs_target or alignment.settles) and not targets and not alignment.uses_target_labels:
        raise ValueError(f"{name} needs a target domain in training; shift.targets is empty")
    if selection.needs_target and not targets:
        raise ValueError(
            f"selection by {type(selection).__name__} needs a target domain; there is none to validate on "
            "(choose selection=source_val)"
        )


def _means(what: str, found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Terms that all domains have, as means over the domains."""
    return {f"{what}/{name}": torch.stack([terms[name] for terms in found]).mean() for name in found[0]}


def _on(device: torch.device, loader: Iterable[Batch]) -> Iterator[Batch]:
    return (batch.to(device) for batch in loader)


def _join(parts: Sequence[Outputs]) -> Outputs:
    known = [part.labels for part in parts if part.labels is not None]
    return Outputs(
        logits=torch.cat([part.logits for part in parts]),
        labels=torch.cat(known) if known else None,
        features=torch.cat([part.features for part in parts]),
        probes={name: torch.cat([part.probes[name] for part in parts]) for name in parts[0].probes},
    )
