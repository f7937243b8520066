"""A shift -> loaders of domain batches. Target labels stay here until the evaluator asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch

from ..align.options import check_choice
from ..types import IGNORE, Shift
from .legend import UNKNOWN, Kind, LabelSet, Legend
from .loader import DomainLoader, Part, PartLoader, Reader, Steps
from .parts import DomainParcels, SealedLabelsError, Split, choose_classes, divide, few, splits_frame
from .recipe import Generator, Recipe
from .sampler import generator
from .statistics import band_statistics, check_days
from .store import Store, band_numbers

SAMPLINGS = ("uniform", "balanced")
RESIDENT = ("auto", "yes", "no")


class DomainDataModule(pl.LightningDataModule):
    """Serves the domains of a shift.

    Args:
        shift: Which domains; its recipe must be ``recipe``.
        seed: Seed of the run: order of parcels and pixel draws.
        kind: ``closed`` | ``open`` | ``partial`` label set.
        oracle: Train on target labels instead of source labels (the upper bound).
        shots: Of these, only so many a class, drawn by ``seed``; 0 = all.
        recipe: Name of the data recipe.
        root: Folder of the raw files; prepared into the cache on first use. "" = use ``store`` or ``generator``.
        store: Folder of a store prepared before; "" = prepare from ``root`` or ``generator``.
        generator: Synthetic generator of embedded data; empty for real data.
        bands: Sensor -> names of the bands to use; empty = all.
        days: First and last day (since 1 January) to use, e.g. those that all domains see; empty = all.
        classes: Only these classes; empty = all.
        join: New class -> the classes that it stands for.
        coarsen: ``none`` | ``shared`` | HCAT depth ``"1"``..``"5"`` | a named legend: join classes by HCAT code.
        min_per_class: Source classes with fewer training parcels are not learnt.
        split: How domains are divided.
        batch_size: Parcels a domain and training step.
        steps_per_epoch: 0 = see the largest labelled domain once.
        pixels: Pixels drawn a parcel, for pixel sets.
        sampling: ``uniform``, or ``balanced``: each class of a labelled domain equally often.
        workers: Processes that prepare training batches; 0 is fastest for parcels, which are mapped from disk.
        resident: Keep the arrays on the accelerator: ``auto`` if half of its free memory holds them | ``yes`` | ``no``.
    """

    maps, score = False, "closed_macro_f1"  # a class a pixel?  what benchmarks compare by

    def __init__(
        self,
        shift: Shift,
        seed: int,
        kind: Kind,
        oracle: bool,
        recipe: str,
        shots: int = 0,
        root: str = "",
        store: str = "",
        generator: Generator | Mapping[str, Any] | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        days: Sequence[float] = (),
        classes: Sequence[str] = (),
        join: Mapping[str, Sequence[str]] | None = None,
        coarsen: str = "none",
        min_per_class: int = 5,
        split: Split | None = None,
        batch_size: int = 128,
        steps_per_epoch: int = 0,
        pixels: int = 32,
        sampling: Literal["uniform", "balanced"] = "uniform",
        workers: int = 0,
        resident: Literal["auto", "yes", "no"] = "auto",
    ) -> None:
        super().__init__()
        if other := sorted({d.recipe for d in shift.domains} - {recipe}):
            raise ValueError(f"the shift is about recipe {other}, the data are {recipe!r}; choose data= to fit shift=")
        check_choice("data.sampling", sampling, SAMPLINGS)
        check_choice("data.resident", resident, RESIDENT)
        if batch_size < 2:
            raise ValueError(f"data.batch_size must be at least 2 (batch statistics); got {batch_size}")
        self.shift, self.seed, self.kind, self.oracle, self.shots = shift, seed, kind, oracle, shots
        self.recipe, self.root, self.place, self.generator = recipe, root, store, generator
        self.wanted_bands, self.days, self.classes = dict(bands or {}), tuple(days), tuple(classes)
        self.join, self.coarsen = dict(join or {}), coarsen
        self.min_per_class, self.split = min_per_class, split or Split()
        self.batch_size, self.steps_per_epoch, self.pixels = batch_size, steps_per_epoch, pixels
        self.sampling, self.workers, self.resident = sampling, workers, resident
        self.reveal_target_val = False  # set by selection=oracle, which stamps the result
        self.targets_in_fit = True  # False for methods that do not look at targets: then nothing of them is touched
        self.class_weights: torch.Tensor | None = None
        self._ready = self._is_open = False

    def open_store(self) -> Store:
        """The store, prepared on first use.

        Raises:
            FileNotFoundError: If there is neither a store nor raw files; says what to set.
        """
        if self.place:
            return Store(Path(self.place))
        if self.root or self.generator:
            store = Recipe.load(self.recipe).cached(Path(self.root) if self.root else None, self.generator)
            store.expect("parcels")
            return store  # type: ignore[return-value]
        raise FileNotFoundError(
            f"no {self.recipe} data are shipped: set data.root=<folder of the raw files>, or prepare them once with "
            f"`python -m eo_adapt.prepare recipe={self.recipe} raw=<folder> out=<store>` and set data.store=<store>"
        )

    def setup(self, stage: str | None = None) -> None:
        """Open the store, divide the domains, choose the classes, measure the bands."""
        if self._ready:
            return
        self.store = self.open_store()
        known = divide(self.store, self.shift, self.split, self.coarsen, self.join)
        self.label_set: LabelSet = choose_classes(known, self.kind, self.classes, self.min_per_class)
        self._sealed = {d.domain.name: d for d in known}
        self.parcels = [d if d.role == "source" else d.unlabelled() for d in known]
        self.legend = self.label_set.legend
        self.bands = self._bands()
        self.reader = Reader(self.store, self.bands, self.pixels, days=self.days)
        learnt = "target" if self.oracle else "source"
        self.labelled = [d for d in known if d.role == learnt]
        self.unlabelled = [] if self.oracle else [d for d in self.parcels if d.role == "target"]
        check_days(self.reader, {d.domain.name: d.rows for d in self.parcels})
        self.statistics = band_statistics(self.reader, [self._labelled_part(d, "train") for d in self.labelled])
        self._ready = True

    def _bands(self) -> dict[str, tuple[str, ...]]:
        if unknown := sorted(set(self.wanted_bands) - set(self.store.sensors)):
            raise LookupError(f"data.bands names sensors {unknown}; the store has {sorted(self.store.sensors)}")
        names = self.wanted_bands or {name: sensor.bands for name, sensor in self.store.sensors.items()}
        for name, bands in names.items():
            band_numbers(self.store.sensors[name], bands, name)
        return {name: tuple(bands) for name, bands in names.items()}

    @property
    def sensors(self) -> dict[str, int]:
        """Sensor -> number of bands (and of parcel attributes, where there are), what encoders are built with."""
        sensors = {name: len(bands) for name, bands in self.bands.items()}
        attributes = self.store.attributes
        return sensors if attributes is None else {**sensors, "attributes": attributes.shape[1]}

    @property
    def provides(self) -> frozenset[str]:
        """View fields that alignments may need."""
        return frozenset(
            {"labels", "lonlat", "days"} if bool(torch.isfinite(self.store.lonlat).all()) else {"labels", "days"}
        )

    # -- parts -------------------------------------------------------------------------------------------------------

    def _labelled_part(self, d: DomainParcels, split: str) -> Part:
        """Parcels whose class is learnt, with labels. With few shots there are no others, for validation neither."""
        rows, names = d.of("train" if self.shots else split)
        labels = self.legend.encode(names)
        keep = np.flatnonzero(labels != IGNORE)
        if not len(keep):
            raise ValueError(f"no {split} parcel of {d.domain.name!r} has one of the classes {list(self.legend.names)}")
        keep = few(labels, keep, self.shots, self.seed) if self.shots else keep
        return Part(torch.from_numpy(rows[keep]), torch.from_numpy(labels[keep]))

    def _unlabelled_part(self, d: DomainParcels, split: str) -> Part:
        """All parcels, whatever their class: nobody could leave out private classes without labels."""
        return Part(torch.from_numpy(d.of(split)[0]), None)

    def steps(self) -> Steps:
        """What training iterates."""
        sources = [self._labelled_part(d, "train") for d in self.labelled]
        targets = [self._unlabelled_part(d, "train") for d in self.unlabelled] if self.targets_in_fit else []
        steps = Steps(self.reader, sources, targets, self.batch_size, self.seed, self._steps_per_epoch())
        if self.class_weights is None and self.sampling == "balanced":
            self.class_weights = torch.ones(len(self.legend))
        if self.class_weights is not None:
            self._weigh(steps, self.class_weights)
        return steps

    def _steps_per_epoch(self) -> int:
        """A few labels are shown as often as all source labels would be: one budget for all methods."""
        if self.steps_per_epoch or not self.shots:
            return self.steps_per_epoch
        sizes = [len(d.of("train")[0]) for d in self.parcels if d.role == "source"]
        return -(-max(sizes) // self.batch_size)

    def _weigh(self, steps: Steps, weights: torch.Tensor) -> None:
        for part, sampler in zip(steps.sources, steps.samplers, strict=False):
            assert part.labels is not None  # noqa: S101  (labelled parts have labels)
            share = torch.bincount(part.labels, minlength=len(self.legend)).clamp_min(1).float()
            sampler.weights = (weights.cpu() / share)[part.labels]

    def reweigh(self, weights: torch.Tensor) -> None:
        """Draw classes in these proportions from now on: (K,) weights, what ``Alignment.class_weights`` proposes."""
        self.class_weights = weights.cpu()
        self._weigh(self.loader.steps, self.class_weights)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run must know: the rest follows from (seed, epoch, step)."""
        return {"class_weights": self.class_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.class_weights = state_dict["class_weights"]

    # -- loaders -----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DomainLoader:
        """Loader of :class:`~eo_adapt.types.DomainBatch`."""
        self._make_resident()
        steps = self.steps()
        workers = 0 if self.reader.arrays else self.workers
        self.loader = DomainLoader(steps, workers, self._position)
        return self.loader

    def _position(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 0
        return self.trainer.current_epoch, self.trainer.fit_loop.epoch_loop.batch_progress.current.ready

    def _make_resident(self) -> None:
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        size = sum(ragged.nbytes for ragged in self.store.arrays.values())
        fits = device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2
        if self.reader.arrays is None and (self.resident == "yes" or (self.resident == "auto" and fits)):
            arrays = {name: ragged.to(device) for name, ragged in self.store.arrays.items() if name in self.bands}
            self.reader = replace(self.reader, arrays=arrays)

    def val_parts(self) -> list[Part]:
        """Validation parts: labelled domains with labels, then unlabelled ones without (unless revealed)."""
        labelled = [self._labelled_part(d, "val") for d in self.labelled]
        if self.reveal_target_val:
            return labelled + [self._labelled_part(self._sealed[d.domain.name], "val") for d in self.unlabelled]
        return labelled + [self._unlabelled_part(d, "val") for d in self.unlabelled]

    def val_dataloader(self) -> list[PartLoader]:
        """One loader a training domain."""
        return [PartLoader(self.reader, part, 512) for part in self.val_parts()]

    def adapt_dataloaders(self) -> dict[int, PartLoader]:
        """Number of each target domain -> its unlabelled adaptation parcels, shuffled once."""
        targets = {i: d for i, d in enumerate(self.parcels) if d.role == "target" and not self.oracle}
        rows = {i: self._unlabelled_part(d, "train").rows for i, d in targets.items()}
        order = {i: torch.randperm(len(at), generator=generator(self.seed, i)) for i, at in rows.items()}
        return {i: PartLoader(self.reader, Part(at[order[i]], None), 512) for i, at in rows.items()}

    # -- the sealed test ---------------------------------------------------------------------------------------------

    @contextmanager
    def opened(self, audit: Callable[[], None]) -> Iterator[None]:
        """Open the target's labels inside, after ``audit`` has written down who does: evaluator or k-shot tuning."""
        audit()
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False

    def _known(self, d: DomainParcels) -> DomainParcels:
        if not self._is_open:
            raise SealedLabelsError(
                f"the labels of {d.domain.name!r} are sealed: only the evaluator opens them, in "
                "`with data.opened(audit):`"
            )
        return self._sealed[d.domain.name]

    def scored_classes(self) -> Legend:
        """Rows and columns of the confusion matrices: the learnt classes, then those that only the truth may have."""
        if self.label_set.unknown:
            return Legend((*self.legend.names, UNKNOWN))
        everywhere = {name for d in self.parcels for name in self._known(d).of("test")[1].tolist()} - {""}
        if self.classes:
            everywhere &= set(self.classes)
        return Legend((*self.legend.names, *sorted(everywhere - set(self.legend.names))))

    def sealed(self, d: DomainParcels, split: str = "test") -> Part:
        """Labelled parcels of any domain, in :meth:`scored_classes`.

        Raises:
            SealedLabelsError: Outside of :meth:`opened`.
        """
        rows, names = self._known(d).of(split)
        labels = self.scored_classes().encode(names)
        if self.label_set.unknown:
            labels = np.where((labels == IGNORE) & (names != ""), len(self.legend), labels)
        keep = labels != IGNORE
        return Part(torch.from_numpy(rows[keep]), torch.from_numpy(labels[keep]))

    def splits_frame(self) -> pd.DataFrame:
        """One row a parcel: id, domain, role, split, x, y."""
        return splits_frame(self.store, self.parcels)
