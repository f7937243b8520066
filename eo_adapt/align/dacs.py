"""DACS and DAFormer: target images with pasted source classes, labelled by a mean teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .augment import StrongView
from .base import Alignment, Place, Setup, Step, View, Views
from .gather import on_features
from .looks import Look, looks, put, shown
from .options import check_number
from .teacher import Teacher, precision_of, untracked


def class_mask(labels: Tensor, classes: int, share: float = 0.5) -> Tensor:
    """The pixels of some of the classes that a label map holds, drawn anew for each map.

    Args:
        labels: (B, H, W) int64; below 0 is unknown, and never chosen.
        classes: Number of classes K.
        share: Of the classes present, rounded up: at least one where there is any.

    Returns:
        (B, H, W) bool.

    Source: ClassMix (Olsson et al. 2021, arXiv:2007.07936), which takes half of them.
    """
    flat = labels.flatten(1)
    present = torch.zeros(len(flat), classes + 1, dtype=torch.bool, device=flat.device)
    present = present.scatter_(1, flat.clamp_min(-1) + 1, True)[:, 1:]
    luck = torch.rand(present.shape, device=flat.device).masked_fill(~present, -1)
    rank = luck.argsort(1, descending=True).argsort(1)
    wanted = (share * present.sum(1, keepdim=True) - 1e-6).ceil()
    chosen = present & (rank < wanted)
    return chosen.gather(1, flat.clamp_min(0)).view_as(labels) & (labels >= 0)


def judged(logits: Tensor, threshold: float, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A teacher's label of each pixel (B, *S), and of each image (B,) the share of pixels of p >= threshold.

    Args:
        logits: (B, K, *S).
        threshold: Smallest probability of the likeliest class that counts as sure.
        there: (B, *S) bool, pixels that the image shows (:func:`.looks.shown`), others have no say; None = all.
    """
    top, label = logits.float().softmax(1).max(1)
    sure = (top >= threshold).float().flatten(1)
    if there is None:
        return label, sure.mean(1)
    seen = there.flatten(1).float()
    return label, (sure * seen).sum(1) / seen.sum(1).clamp_min(1)


def images_of(method: str, inputs: Any) -> dict[str, Look]:
    """The images among inputs, by name.

    Raises:
        ValueError: If there is none; says what to take for parcels.
    """
    found = looks(inputs)
    if images := {name: look for name, look in found.items() if look.imaged}:
        return images
    shapes = {name or "inputs": tuple(look.values.shape) for name, look in found.items()}
    raise ValueError(
        f"{method} changes parts of images, and there is no image among {shapes}; for parcels take "
        "method=self_training or method=timematch, where a strong view hides dates instead"
    )


def paste(method: str, target: Any, source: Any, rows: Tensor, mask: Tensor) -> Any:
    """Target inputs whose images are those of source samples where a mask says so; other inputs stay the target's.

    Args:
        method: Who asks, for messages.
        target: Inputs of B samples.
        source: Inputs with images of the same names, bands and sizes.
        rows: (B,) which source sample each target sample takes.
        mask: (B, H', W') bool, True = source; each of its cells is a rectangle of the image.

    Raises:
        ValueError: If images differ in bands or size, or are series.
    """
    ours, theirs = images_of(method, target), images_of(method, source)
    for name, look in ours.items():
        other = tuple(theirs[name].values.shape[1:]) if name in theirs else None
        if look.dated or other != tuple(look.values.shape[1:]):
            raise ValueError(
                f"{method} pastes pixels of source images into target images of the same bands and size, without a "
                f"time axis; input {name!r} is {tuple(look.values.shape[1:])} a target sample and {other} a source "
                "sample: crop images alike, choose the same bands, or take method=self_training, which pastes nothing"
            )
    mixed = {}
    for name, look in ours.items():
        where = F.interpolate(mask[:, None].float(), size=look.values.shape[-2:], mode="nearest-exact") > 0.5
        values = torch.where(where, theirs[name].values[rows].to(look.values.dtype), look.values)
        pixels, pasted = look.valid_pixels, theirs[name].valid_pixels
        if pixels is not None and pasted is not None:
            pixels = torch.where(where[:, 0], pasted[rows], pixels)
        mixed[name] = replace(look, values=values, valid_pixels=pixels)
    return put(target, mixed)


class DACS(Alignment):
    """Half of the classes of a source image are pasted into a target image; the student learns the mixture.

    Pasted pixels have their true labels and weight 1, the others the labels of a mean teacher that saw the target image
    as it was, weighted by the share of that image's pixels that the teacher is sure of. The mixture is shown as a
    strong view. Source samples and sources are drawn at random; rare classes are the sampler's business
    (``data.sampling``).

    Source: Tranheden et al. 2021 (arXiv:2007.08702), as in DAFormer (Hoyer et al. 2022, arXiv:2111.14887).
    Deviations: in docs/methods/dacs.md.

    Args:
        weight: Factor of the term.
        threshold: Probability from which on a pixel counts as sure, in [0, 1].
        share: Of the classes of a source image that are pasted, in (0, 1].
        decay: Of the teacher, see :class:`.teacher.Teacher`.
        start: Share of training before the first mixture, in [0, 1).
        strong: Draws strong views; None is ``StrongView()``.

    Raises:
        ValueError: If an option is out of its range.
    """

    place: ClassVar[Place] = "copies"
    needs = frozenset({"labels"})
    needs_target = True
    images_only = True

    def __init__(
        self,
        weight: float = 1.0,
        threshold: float = 0.968,
        share: float = 0.5,
        decay: float = 0.99,
        start: float = 0.0,
        strong: StrongView | None = None,
    ) -> None:
        super().__init__(weight)
        name = type(self).__name__
        check_number(f"{name}.threshold", threshold, least=0, most=1)
        check_number(f"{name}.share", share, above=0, most=1)
        check_number(f"{name}.decay", decay, least=0, most=1)
        check_number(f"{name}.start", start, least=0, below=1)
        self.threshold, self.share, self.decay, self.start = threshold, share, decay, start
        self.strong = strong or StrongView()
        self._sure: list[Tensor] = []

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if setup.classes < 2:
            raise ValueError(
                f"{type(self).__name__} draws classes, so it must know how many there are: attach it with "
                f"Setup(..., classes=K), K >= 2; got {setup.classes}"
            )
        self.classes = setup.classes
        self.teacher = Teacher(model, self.decay)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        self._sure = []
        for view in targets:
            images_of(type(self).__name__, view.inputs)
        if step.progress < self.start:
            return {"mixed": targets[0].features.new_zeros((), dtype=torch.float32)}
        return {"mixed": torch.stack([self._mixed(view, sources, step) for view in targets]).mean()}

    def _mixed(self, view: View, sources: Views, step: Step) -> Tensor:
        with step.scope(view.domain), precision_of(view):
            said = self.teacher(view.inputs)[1]
            label, sure = judged(said, self.threshold, shown(view.inputs, said.shape[2:]))
        self._sure.append(sure.mean())
        inputs, labels, weights = self.mixture(view.inputs, label, sure, sources)
        strong, follow = self.strong(inputs)
        with step.scope(view.domain), precision_of(view), untracked(step.model):
            logits = step.model(strong)[1].float()
        return (follow(weights) * F.cross_entropy(logits, follow(labels), reduction="none")).mean()

    def mixture(self, inputs: Any, label: Tensor, sure: Tensor, sources: Views) -> tuple[Any, Tensor, Tensor]:
        """Inputs, labels (B, H, W) and weights (B, H, W) of mixed target samples.

        Args:
            inputs: Of B target samples.
            label: (B, H, W) the teacher's.
            sure: (B,) weight of each target image.
            sources: Labelled views; all samples of a mixture are of one of them.
        """
        source = sources[int(torch.randint(len(sources), ()))]
        if source.labels is None or source.labels.shape[1:] != label.shape[1:]:
            raise ValueError(
                f"{type(self).__name__} mixes label maps of one size; those of domain {source.domain} are "
                f"{None if source.labels is None else tuple(source.labels.shape[1:])}, those predicted on the target "
                f"{tuple(label.shape[1:])}: crop all images alike"
            )
        rows = torch.randint(len(source.labels), (len(label),), device=label.device)
        theirs = source.labels[rows]
        mask = class_mask(theirs, self.classes, self.share)
        weights = torch.where(mask, 1.0, sure.view(-1, 1, 1))
        if (there := shown(inputs, label.shape[1:])) is not None:
            weights = weights.where(mask | there, 0.0)
        mixed = paste(type(self).__name__, inputs, source.inputs, rows, mask)
        return mixed, torch.where(mask, theirs, label), weights

    def monitors(self) -> dict[str, Tensor]:
        """Share of the target's pixels that the teacher is sure of."""
        return {"sure": torch.stack(self._sure).mean()} if self._sure else {}

    def after_step(self, model: nn.Module) -> None:
        self.teacher.follow(model)


class DAFormer(DACS):
    """:class:`DACS`, and features of the sources that stay near those of the encoder as it started.

    The second term is the distance (L2 over channels) between features of the network and of a frozen copy, over cells
    of the source's maps of which three quarters are labelled with the listed classes. It keeps what pretraining knew,
    so it needs an encoder that was pretrained; ``pretrained`` says whether it was.

    Source: Hoyer et al. 2022 (DAFormer, arXiv:2111.14887), without the network. Deviations: in
    docs/methods/daformer.md.

    Args:
        weight: See :class:`DACS`, as all up to ``strong``.
        threshold: Probability from which on a pixel counts as sure.
        share: Of the classes of a source image that are pasted.
        decay: Of the teacher.
        start: Share of training before the first mixture.
        strong: Draws strong views.
        distance: Factor of the second term.
        things: Names of the classes whose features are compared; none is all.
        pretrained: Whether the network starts from pretrained weights; False leaves the second term out.

    Raises:
        ValueError: If an option is out of its range.
    """

    def __init__(
        self,
        weight: float = 1.0,
        threshold: float = 0.968,
        share: float = 0.5,
        decay: float = 0.99,
        start: float = 0.0,
        strong: StrongView | None = None,
        distance: float = 0.005,
        things: Sequence[str] = (),
        pretrained: bool = False,
    ) -> None:
        super().__init__(weight, threshold, share, decay, start, strong)
        check_number("DAFormer.distance", distance, least=0)
        self.distance, self.things, self.pretrained = distance, tuple(things), pretrained

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if unknown := sorted(set(self.things) - set(setup.names)):
            raise ValueError(f"daformer.things names {unknown}; the classes are {list(setup.names)}")
        self._things = [setup.names.index(name) for name in self.things] or list(range(setup.classes))
        if self.pretrained:
            self.frozen = Teacher(model, decay=1.0)

    def loss(self, sources: Views, targets: Views, step: Step) -> dict[str, Tensor]:
        terms = super().loss(sources, targets, step)
        if self.pretrained:
            far = [self._far(view, view.labels, step) for view in sources if view.labels is not None]
            terms["distance"] = self.distance * torch.stack(far).mean()
        return terms

    def _far(self, view: View, labels: Tensor, step: Step) -> Tensor:
        """Mean distance of one source's features from those of the frozen copy, over cells of things; 0 if none."""
        with step.scope(view.domain), precision_of(view):
            before = replace(view, features=self.frozen(view.inputs)[0]).rows()
        thing = torch.isin(labels, torch.tensor(self._things, device=labels.device)).float()
        here = on_features(thing[:, None], view.features)[:, 0] >= 0.75
        far: Tensor = torch.linalg.vector_norm(view.rows() - before, dim=1)
        return far.where(here, 0.0).sum() / here.sum().clamp_min(1)
