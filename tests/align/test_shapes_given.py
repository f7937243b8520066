"""Views that are not what a method was attached for: said in one sentence, before anything is computed with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bench import CLASSES, METHODS, SOURCES, TARGETS, WIDTH, Bench, make
from torch import nn

from eo_adapt.align import Alignment, Setup, View
from eo_adapt.align.stack import Stack

LEARNS_FROM_LABELS = [name for name in METHODS if "labels" in make(name).needs]


def refused(bench: Bench, views: tuple[View, ...]) -> str:
    """What is said of these views."""
    with pytest.raises(ValueError) as error:  # noqa: PT011  (the callers look at the message)
        bench.terms(views)
    return str(error.value)


def name_of(name: str, learns: bool = False) -> str:
    """How a method calls itself; of a stack its first part does, or the first that learns from labels."""
    align = make(name)
    parts = [align] if not isinstance(align, Stack) else list(align)
    return type(next(part for part in parts if not learns or "labels" in part.needs)).__name__


@pytest.mark.parametrize("name", METHODS)
def test_features_of_another_width_are_refused(name: str) -> None:
    """A critic or a head for features of another width must not be fitted to something else."""
    bench = Bench(name)
    views = bench.views()
    bench.align = make(name)
    bench.align.attach(Bench().model, Setup(WIDTH + 1, SOURCES, TARGETS, CLASSES))
    said = refused(bench, views)
    assert said.startswith(f"{name_of(name)} was attached for width={WIDTH + 1}, but features of domain 0 are (")
    assert f"Setup(width={WIDTH})" in said


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("maps", [False, True])
def test_logits_of_other_classes_are_refused(name: str, maps: bool) -> None:
    bench = Bench(name, maps=maps)
    *views, last = bench.views()
    wider = replace(last, logits=torch.cat([last.logits, last.logits[:, :1]], 1))
    said = refused(bench, (*views, wider))
    assert said.startswith(f"{name_of(name)} was attached for classes={CLASSES}, but logits of domain 2 are (")
    assert f"Setup(classes={CLASSES + 1})" in said


def test_features_without_a_width_are_refused() -> None:
    bench = Bench("coral")
    first, *views = bench.views()
    assert "features of domain 0 are (12,), that is width 0" in refused(
        bench, (replace(first, features=first.features[:, 0]), *views)
    )


def test_a_setup_that_does_not_know_checks_nothing() -> None:
    align, x = Alignment(), torch.randn(4, 7)
    align.attach(nn.Identity(), Setup(0))
    assert align((View(x, x, x, 0),), (View(x, x, x, 1),), Bench().step(0)) == {}


def test_which_methods_learn_from_labels_is_known() -> None:
    assert {"irm", "vrex", "groupdro", "mldg", "balanced", "fomaml", "anil", "mcd", "deepjdot", "class_mmd"} <= set(
        LEARNS_FROM_LABELS
    )


@pytest.mark.parametrize("name", LEARNS_FROM_LABELS)
def test_a_source_without_labels_is_refused(name: str) -> None:
    bench = Bench(name)
    first, second, target = bench.views()
    said = refused(bench, (first, replace(second, labels=None), target))
    assert said.startswith(
        f"{name_of(name, True)} learns from the labels of every source, but domain 1 came without labels: hand them on"
    )


@pytest.mark.parametrize("name", LEARNS_FROM_LABELS)
@pytest.mark.parametrize("maps", [False, True])
def test_a_label_that_is_no_class_is_refused(name: str, maps: bool) -> None:
    bench = Bench(name, maps=maps)
    first, second, target = bench.views()
    labels = second.labels.clone()
    labels.view(-1)[-1] = 255
    said = refused(bench, (first, replace(second, labels=labels), target))
    start = f"{name_of(name, True)} got label 255 in source domain 1, but its logits have {CLASSES} classes: "
    assert said.startswith(start)
    assert f"0 to {CLASSES - 1}, and negative where unknown" in said


@pytest.mark.parametrize("name", LEARNS_FROM_LABELS)
def test_labels_that_are_all_unknown_are_no_error_of_the_check(name: str) -> None:
    bench = Bench(name)
    views = tuple(v if v.labels is None else replace(v, labels=v.labels - 100) for v in bench.views())
    bench.align.check(views[:SOURCES], views[SOURCES:])


def test_in_a_stack_the_part_is_named() -> None:
    bench = Bench(align=make("stack"))
    views = bench.views()
    bench.align.parts["groupdro"] = make("groupdro")
    bench.align.parts["groupdro"].attach(bench.model, Setup(WIDTH, SOURCES, TARGETS, CLASSES))
    said = refused(bench, (replace(views[0], labels=None), *views[1:]))
    assert said.startswith("GroupDRO learns from the labels")
