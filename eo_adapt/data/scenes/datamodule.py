"""Images with masks through the same doors as parcels: splits, sealed labels, steps that follow from the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from ...align.options import check_choice
from ...types import Shift
from ..datamodule import DomainDataModule
from ..legend import UNKNOWN, Kind, Legend
from ..loader import Part, Steps
from ..parts import DomainParcels, Split
from ..recipe import Generator, Recipe
from .augment import Augment
from .labels import Remap, joined_names
from .moments import statistics_of
from .parts import DomainPatches, choose_map_classes, divide_patches, few_patches
from .points import check_bands
from .reader import PatchPart, PatchReader
from .sampling import rare_classes, wanted_classes
from .store import SceneStore

SAMPLINGS = ("uniform", "balanced", "rare")
CORRUPT = ("error", "skip")


class SceneDataModule(DomainDataModule):
    """Serves the domains of a shift as images with masks.

    Args:
        shift: Which domains; its recipe must be ``recipe``.
        seed: Seed of the run: order of patches, crops, augmentation.
        kind: ``closed`` | ``open`` | ``partial`` label set.
        oracle: Train on target labels instead of source labels (the upper bound).
        recipe: Name of the data recipe.
        shots: Of these, only so many patches a class, drawn by ``seed``; 0 = all.
        root: Folder of the raw files; also where those of ``store`` lie now. "" = use ``store`` or ``generator``.
        store: Folder of a store prepared before; "" = prepare from ``root`` or ``generator``.
        generator: Synthetic generator of embedded data; empty for real data.
        bands: Sensor -> names of the bands to use; empty = all.
        classes: Only these classes; empty = all.
        join: New class -> the classes that it stands for.
        min_per_class: Source classes with fewer training pixels are not learnt.
        split: How domains are divided; whole zones, never patches.
        batch_size: Patches a domain and training step.
        steps_per_epoch: 0 = see the largest labelled domain once.
        crop: Pixels of a training crop's side; 0 = whole patches.
        augment: What training batches of all domains go through; None = nothing.
        sampling: ``uniform`` | ``balanced`` (each class equally often) | ``rare`` (rare ones more often).
        temperature: Of rare-class sampling; lower = rarer classes more often.
        most: Patches at once in validation and test.
        workers: Processes that read patches.
        keep: Decoded patches stay in memory if all of them fit into so many MB.
        on_corrupt: ``error`` | ``skip`` images that cannot be read when a store is prepared; "" = as the recipe says.
    """

    maps, score = True, "closed_miou"

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
        generator: Generator | None = None,
        bands: Mapping[str, Sequence[str]] | None = None,
        classes: Sequence[str] = (),
        join: Mapping[str, Sequence[str]] | None = None,
        min_per_class: int = 1,
        split: Split | None = None,
        batch_size: int = 8,
        steps_per_epoch: int = 0,
        crop: int = 0,
        augment: Augment | None = None,
        sampling: Literal["uniform", "balanced", "rare"] = "uniform",
        temperature: float = 0.1,
        most: int = 8,
        workers: int = 0,
        keep: int = 512,
        on_corrupt: Literal["", "error", "skip"] = "",
    ) -> None:
        check_choice("data.sampling", sampling, SAMPLINGS)
        check_choice("data.on_corrupt", on_corrupt or "error", CORRUPT)
        if crop < 0 or most < 1:
            raise ValueError(f"data.crop must be >= 0 (0 = whole patches) and data.most >= 1; got {crop} and {most}")
        super().__init__(
            shift,
            seed,
            kind,
            oracle,
            recipe,
            shots,
            root,
            store,
            generator,
            bands,
            classes=classes,
            join=join,
            min_per_class=min_per_class,
            split=split,
            batch_size=batch_size,
            steps_per_epoch=steps_per_epoch,
            workers=workers,
            resident="no",
        )
        self.crop, self.augment, self.most, self.on_corrupt = crop, augment, most, on_corrupt
        self.drawn, self.temperature, self.keep = sampling, temperature, keep

    def open_store(self) -> SceneStore:  # type: ignore[override]
        if self.place:
            return SceneStore(Path(self.place), self.root)
        if not (self.root or self.generator):
            super().open_store()  # says what to set
        recipe = Recipe.load(self.recipe)
        if self.on_corrupt:
            recipe = replace(recipe, on_corrupt=self.on_corrupt)
        store = recipe.cached(Path(self.root)) if self.root else recipe.cached(None, self.generator)
        store.expect("images")
        return store  # type: ignore[return-value]

    def setup(self, stage: str | None = None) -> None:
        """Open the store, divide the domains, choose the classes, sum up the bands."""
        if self._ready:
            return
        self.store: SceneStore = self.open_store()  # type: ignore[assignment]
        self.store.keep = self.store.nbytes <= self.keep * 2**20
        known = divide_patches(self.store, self.shift, self.split, self.join)
        self.label_set = choose_map_classes(known, self.kind, self.classes, self.min_per_class)
        self._sealed = {d.domain.name: d for d in known}
        self.parcels = [d if d.role == "source" else d.unlabelled() for d in known]
        self.legend, self.bands = self.label_set.legend, self._bands()
        check_bands(self.bands, self.store.sensors)
        self.names = joined_names(self.store.classes, self.join)
        learnt = "target" if self.oracle else "source"
        self.labelled = [d for d in known if d.role == learnt]
        self.unlabelled = [] if self.oracle else [d for d in self.parcels if d.role == "target"]
        rows = np.concatenate([self._labelled_part(d, "train").rows.numpy() for d in self.labelled])
        self.statistics = statistics_of(self.store, self.bands, rows)
        self.patches = PatchReader(
            self.store, self.bands, self.statistics, self.crop, self.most, self.augment, workers=self.workers
        )
        self.reader = self.patches  # type: ignore[assignment]
        self._check_leave()
        self._ready = True

    def _check_leave(self) -> None:
        there = {band for bands in self.bands.values() for band in bands}
        everywhere = {band for sensor in self.store.sensors.values() for band in sensor.bands}
        if self.augment and (wrong := sorted(set(self.augment.leave) - there - everywhere)):
            raise LookupError(f"data.augment.leave names bands {wrong}; the data have {sorted(everywhere)}")

    @property
    def stuff(self) -> frozenset[str]:
        """Classes that are no things to be told apart, as they are called once classes are joined."""
        return frozenset(self.names[name] for name in self.store.classes.stuff)

    def give_instances(self) -> None:
        """Let labelled batches say which pixels are one thing, from now on.

        Raises:
            ValueError: If the data do not tell.
        """
        if not self.store.has_instances:
            raise ValueError(
                f"the store of {self.recipe} does not tell parcels apart (no patch has instances), and this head "
                "learns them one by one: choose data that do (PASTIS with its folder INSTANCE_ANNOTATIONS, embedded "
                "tiles, a scene folder with instances), or another head, e.g. head=dense"
            )
        self.patches = replace(self.patches, instances=True)
        self.reader = self.patches  # type: ignore[assignment]

    @property
    def provides(self) -> frozenset[str]:
        placed = all(bool(torch.isfinite(self.store.lonlat[d.rows]).all()) for d in self.parcels)
        kinds = {self.store.sensors[name].kind for name in self.bands}
        given = {"labels"} | ({"images"} if kinds != {"points"} else set()) | ({"days"} if "series" in kinds else set())
        return frozenset(given | ({"lonlat"} if placed else set()))

    # -- parts -------------------------------------------------------------------------------------------------------

    def _counts(self, d: DomainParcels, legend: Legend) -> np.ndarray:
        """(N, K) pixels of each class of a legend in each patch of a domain."""
        assert isinstance(d, DomainPatches)  # noqa: S101  (setup made them)
        places = [d.names.index(name) if name in d.names else None for name in legend.names]
        none = np.zeros(len(d.rows), np.int64)
        return np.stack([none if k is None else d.counts[:, k] for k in places], 1)

    def _remap(self, legend: Legend) -> Remap:
        return Remap.to(self.store.classes, legend.names, self.names)

    def _labelled_part(self, d: DomainParcels, split: str) -> PatchPart:
        """Patches that hold a learnt class, with labels. With few shots there are no others, for validation neither."""
        at = np.flatnonzero(d.split == ("train" if self.shots else split))
        counts = self._counts(d, self.legend)[at]
        keep = np.flatnonzero(counts.sum(1))
        if not len(keep):
            raise ValueError(
                f"no {split} patch of {d.domain.name!r} has one of the classes {list(self.legend.names)}"
                + ("; its labels are all kept for the test" if isinstance(d, DomainPatches) and d.transductive else "")
            )
        if self.shots:
            keep = keep[few_patches(counts[keep], self.shots, self.seed)]
        return PatchPart(torch.from_numpy(d.rows[at[keep]]), None, self._remap(self.legend))

    def _unlabelled_part(self, d: DomainParcels, split: str) -> Part:
        assert isinstance(d, DomainPatches)  # noqa: S101  (setup made them)
        return PatchPart(torch.from_numpy(d.seen(split)), None)

    def few_labelled(self, d: DomainParcels, number: int) -> PatchPart:
        """Up to ``number`` training patches a learnt class of a domain, with labels, drawn by the run's seed.

        Raises:
            SealedLabelsError: Outside of :meth:`opened`.
            ValueError: If there are fewer than 2.
        """
        known = self._known(d)
        at = np.flatnonzero(known.split == "train")
        counts = self._counts(known, self.legend)[at]
        some = np.flatnonzero(counts.sum(1))
        drawn = some[few_patches(counts[some], number, self.seed)]
        if len(drawn) < 2:
            raise ValueError(
                f"target {d.domain.name!r} has {len(drawn)} training patches of the classes {list(self.legend.names)}; "
                "tuning needs at least 2"
            )
        return PatchPart(torch.from_numpy(known.rows[at[drawn]]), None, self._remap(self.legend))

    def steps(self) -> Steps:
        if self.class_weights is None and self.drawn != "uniform":
            self.class_weights = self._class_weights()
        return super().steps()

    def _class_weights(self) -> torch.Tensor:
        """(K,) how often each class is drawn."""
        if self.drawn == "balanced":
            return torch.ones(len(self.legend))
        counts = sum(self._counts(d, self.legend)[d.split == "train"].sum(0) for d in self.labelled)
        return rare_classes(torch.from_numpy(np.asarray(counts)), self.temperature)

    def _weigh(self, steps: Steps, weights: torch.Tensor) -> None:
        """Draw patches so that classes come in these proportions, and crops that hold the class drawn."""
        parts = []
        for d, part, sampler in zip(self.labelled, steps.sources, steps.samplers, strict=False):
            counts = self._counts(d, self.legend)[np.searchsorted(d.rows, part.rows.numpy())]
            wanted = wanted_classes(torch.from_numpy(counts), weights.double() / weights.sum())
            sampler.weights = wanted.sum(1)
            parts.append(replace(part, wanted=wanted) if isinstance(part, PatchPart) else part)
        steps.sources = tuple(parts)

    # -- loaders -----------------------------------------------------------------------------------------------------

    def _make_resident(self) -> None:
        """Images are never resident; they become numbers where the network is."""
        if self.trainer is not None:
            self.reader = replace(self.patches, device=self.trainer.strategy.root_device)  # type: ignore[assignment]

    # -- the sealed test ---------------------------------------------------------------------------------------------

    def scored_classes(self) -> Legend:
        """Rows and columns of the confusion matrices: the learnt classes, then those that only the truth may have."""
        if self.label_set.unknown:
            return Legend((*self.legend.names, UNKNOWN))
        everywhere = {name for d in self.parcels for name in self._pixels(d)}
        if self.classes:
            everywhere &= set(self.classes)
        return Legend((*self.legend.names, *sorted(everywhere - set(self.legend.names))))

    def _pixels(self, d: DomainParcels) -> Mapping[str, int]:
        known = self._known(d)
        assert isinstance(known, DomainPatches)  # noqa: S101  (setup made them)
        return known.pixels(known.scored)

    def sealed(self, d: DomainParcels, split: str = "test") -> PatchPart:
        """Labelled patches of any domain, in :meth:`scored_classes`; for "test" those that are scored.

        Raises:
            SealedLabelsError: Outside of :meth:`opened`.
        """
        known = self._known(d)
        assert isinstance(known, DomainPatches)  # noqa: S101  (setup made them)
        names = self.names
        if self.label_set.unknown:
            names = {old: new if new in self.legend.names else UNKNOWN for old, new in names.items()}
        keep = (known.split == (known.scored if split == "test" else split)) & (known.counts.sum(1) > 0)
        remap = Remap.to(self.store.classes, self.scored_classes().names, names)
        return PatchPart(torch.from_numpy(known.rows[keep]), None, remap)
