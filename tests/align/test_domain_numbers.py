"""Domain numbers that are not there, and methods that were not attached: one clear sentence, whatever the method."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bench import CLASSES, METHODS, SOURCES, TARGETS, WIDTH, Bench, Tiny, make, on_images
from torch import nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.adabn import AdaBN
from eo_adapt.align.base import NotAttachedError
from eo_adapt.align.csn import CSN
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.source_only import SourceOnly
from eo_adapt.align.tent import Tent

LAST = SOURCES + TARGETS - 1
SENTENCE = (
    rf"has no (target )?domain .*; allowed are \d\.\.{LAST}: it was attached to {SOURCES + TARGETS} domains, numbered "
    rf"sources first \({SOURCES}\), then targets \({TARGETS}\)"
)
SPLIT = r"there is no domain .*; the network was split for .*'source_0'.*'target'"  # csn knows names, too
ATTACH = r"call attach\(model, Setup\(\.\.\.\)\) first"
wrong = pytest.mark.parametrize("domain", [-1, LAST + 1, 7, "target_5", None, 1.0])
every = pytest.mark.parametrize("name", METHODS)


@every
@wrong
def test_scope_and_export_refuse_a_domain_that_is_not_there(name: str, domain: Any) -> None:
    bench = Bench(name)
    with pytest.raises(LookupError, match=f"{SENTENCE}|{SPLIT}") as refused, bench.align.scope(domain):
        pass
    assert repr(domain) in str(refused.value)
    with pytest.raises(LookupError, match=f"{SENTENCE}|{SPLIT}"):
        bench.align.export(bench.model, domain)


@every
def test_domains_that_are_there_pass_whatever_integer_they_are(name: str) -> None:
    bench = Bench(name).fit(last=1)
    bench.model.eval()
    for domain in (0, LAST, np.int64(1), *range(SOURCES + TARGETS)):
        with bench.align.scope(domain):
            expected = bench.align.predict(bench.model, torch.ones(2, 6))
        assert torch.equal(bench.align.export(bench.model, domain)(torch.ones(2, 6))[1], expected)


@every
@pytest.mark.parametrize("side", [0, -1])
@pytest.mark.parametrize("domain", [-1, LAST + 1])
def test_a_step_refuses_views_of_a_domain_that_is_not_there(name: str, side: int, domain: int) -> None:
    bench = Bench(name)
    views = list(bench.views())
    views[side] = View(**{**vars(views[side]), "domain": domain})
    before = copy.deepcopy(bench.align.state_dict())
    with pytest.raises(LookupError, match=SENTENCE):
        bench.terms(tuple(views))
    assert all(torch.equal(x, before[key]) for key, x in bench.align.state_dict().items())


@pytest.mark.parametrize("name", ["adabn", "label_shift", "tent"])
@pytest.mark.parametrize("domain", [-1, 0, SOURCES - 1, LAST + 1])
def test_what_is_for_targets_takes_no_source(name: str, domain: int) -> None:
    bench = Bench(name)
    before = copy.deepcopy([bench.align.state_dict(), bench.model.state_dict()])
    x, y = bench.batch(0, 0)

    def call() -> None:
        if name == "tent":
            bench.align.reset(domain)
        else:
            bench.align.settle(bench.model.eval(), {0: [(x, y)]}, {domain: [x]})

    with pytest.raises(LookupError, match=rf"no target domain {domain}; allowed are {SOURCES}\.\.{LAST}"):
        call()
    for old, part in zip(before, (bench.align, bench.model), strict=True):
        assert all(torch.equal(x, old[key]) for key, x in part.state_dict().items())


def test_a_scope_of_others_does_not_hide_the_number() -> None:
    """Scopes are shared by all methods: one of more domains may be entered around a method of fewer."""
    wide, x = Bench("tent", targets=4), torch.randn(40, 6)
    for name in ("tent", "label_shift"):
        bench = Bench(name)
        with wide.align.scope(5), pytest.raises(LookupError, match=SENTENCE):
            bench.align.predict(bench.model.eval(), x)


def test_no_target_at_all_is_told_as_none() -> None:
    align = Alignment()
    align.attach(nn.Identity(), Setup(3, 1, 0))
    with pytest.raises(LookupError, match=r"allowed are 0\.\.0"), align.scope(1):
        pass
    with pytest.raises(LookupError, match="no target domain 0; allowed are none"):
        align.check_domain(0, target=True)


def test_the_baseline_needs_no_attaching() -> None:
    for align in (Alignment(), SourceOnly()):
        net, x = Tiny(), torch.randn(4, 6)
        with align.scope(5):
            logits = align.predict(net.eval(), x)
        assert torch.equal(align.export(net, 5)(x)[1], logits)
        assert align((View(*net(x), x, 3),), (), Step(net, nn.CrossEntropyLoss(), align.scope, 0.5)) == {}


def used(align: Alignment) -> dict[str, Callable[[], Any]]:
    """Everything that can be asked of a method, on a network that it was not attached to."""
    net, x, y = Tiny(), torch.randn(40, 6), torch.arange(40) % CLASSES
    views = [View(*net(x), x, i, y, torch.zeros(40, 2), torch.zeros(40, 3)) for i in range(2)]

    def predict() -> None:
        with align.scope(1):
            align.predict(net, x)

    return {
        "step": lambda: align((views[0], views[0]), (views[1],), Step(net, nn.CrossEntropyLoss(), align.scope, 0.5)),
        "after_step": lambda: align.after_step(net),
        "predict": predict,
        "export": lambda: align.export(net, 1),
        "settle": lambda: align.settle(net, {0: [(x, y)]}, {1: [x]}),
    }


@pytest.mark.parametrize("name", [n for n in METHODS if n != "stack" and not on_images(make(n))])
def test_before_attach_a_method_works_or_says_what_to_call(name: str) -> None:
    align, refused = make(name), {}
    for what, call in used(align).items():
        try:
            call()
        except NotAttachedError as error:
            refused[what] = str(error)
    assert all(re.search(ATTACH, message) for message in refused.values()), refused
    attached = Bench(name).align
    made = set(attached.state_dict()) - set(align.state_dict())
    assert not made or refused, f"attach makes {made}"


@pytest.mark.parametrize("use", ["step", "after_step", "predict", "export", "settle"])
def test_which_uses_need_attaching(use: str) -> None:
    needing = {
        "step": ("dann", "cdan", "wdgrl", "mcd", "adda", "self_training", "groupdro"),
        "after_step": ("wdgrl", "adda", "self_training"),
        "predict": ("label_shift", "tent", "csn"),
        "export": ("label_shift", "tent", "csn", "adabn"),
        "settle": ("adabn", "label_shift"),
    }[use]
    for name in needing:
        with pytest.raises(RuntimeError, match=ATTACH):
            used(make(name))[use]()


@pytest.mark.parametrize("kind", [AdaBN, CSN, LabelShift, Tent, Alignment])
def test_other_python_is_not_disturbed(kind: type[Alignment]) -> None:
    align = kind()
    assert not hasattr(align, "nothing_of_the_kind")
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        align.nothing_of_the_kind  # noqa: B018
    assert type(copy.deepcopy(align)) is type(pickle.loads(pickle.dumps(align))) is kind
    net = Tiny()
    align.attach(net, Setup(WIDTH, 1, 1, CLASSES))
    with pytest.raises(AttributeError, match="'nothing_of_the_kind'") as plain:
        align.nothing_of_the_kind  # noqa: B018
    assert "attach" not in str(plain.value)
    assert not hasattr(align, "nothing_of_the_kind")
    assert type(copy.deepcopy(align)) is type(pickle.loads(pickle.dumps(align))) is kind
