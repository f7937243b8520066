"""Whether the views of a step are what a method was attached for, and labelled where it learns from labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .base import Setup, View, Views


def check_sizes(name: str, views: Views, setup: Setup) -> None:
    """Refuse features or logits of another width than the method was attached for; a 0 in the setup checks nothing.

    Args:
        name: The method, for the message.
        views: All views of a step.
        setup: What the method was attached to.
    """
    for view in views:
        _check_size(name, f"features of domain {view.domain}", view.features, "width", setup.width)
        _check_size(name, f"logits of domain {view.domain}", view.logits, "classes", setup.classes)


def _check_size(name: str, what: str, given: Tensor, option: str, wanted: int) -> None:
    size = given.shape[1] if given.ndim > 1 else 0
    if wanted and size != wanted:
        raise ValueError(
            f"{name} was attached for {option}={wanted}, but {what} are {tuple(given.shape)}, that is {option} {size}: "
            f"attach it with Setup({option}={size}), or give it the output of the network that it was attached to"
        )


def check_labels(name: str, sources: Views) -> None:
    """Refuse sources without labels, and labels that are no class.

    Args:
        name: The method, for the message.
        sources: Views of the source domains.
    """
    for view in sources:
        labels_of(view, name)
    known = [view for view in sources if view.labels is not None and view.labels.numel()]
    tops = torch.stack([view.labels.max() for view in known if view.labels is not None]).tolist() if known else []
    for view, top in zip(known, tops, strict=True):
        if top >= (classes := view.logits.shape[1]):
            raise ValueError(
                f"{name} got label {top} in source domain {view.domain}, but its logits have {classes} classes: labels "
                f"are 0 to {classes - 1}, and negative where unknown (a fill value such as 255 must be made negative)"
            )


def labels_of(view: View, name: str) -> Tensor:
    """Labels of a source.

    Raises:
        ValueError: If it has none.
    """
    if view.labels is None:
        raise ValueError(
            f"{name} learns from the labels of every source, but domain {view.domain} came without labels: hand them "
            "on as View(..., labels=labels)"
        )
    return view.labels
