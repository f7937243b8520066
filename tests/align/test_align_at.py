"""Where a fusion is aligned: fused features, each branch, or both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fused import SENSORS, fusion, mixed, some
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step
from eo_adapt.align.adda import ADDA
from eo_adapt.align.branches import EachBranch, align_at
from eo_adapt.align.cdan import CDAN
from eo_adapt.align.coral import CORAL
from eo_adapt.align.csn import CSN
from eo_adapt.align.dann import DANN
from eo_adapt.align.geomt import GeoMT
from eo_adapt.align.mmd import MMD
from eo_adapt.align.stack import Stack
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build, names
from eo_adapt.types import Batch, Inputs
from eo_adapt.view import view_of

ROWS = {"s2": [0, 2, 3, 4, 6], "s1": [0, 1, 3, 6]}  # who has what, see fused.mixed


def model(where: str = "branches", scheme: str = "late") -> Model:
    encoder = fusion(scheme)
    head = build("head", "decision" if scheme == "decision" else "classify", encoder=encoder, classes=3)
    made = Model(
        encoder, head, Normalise({n: ([0.0] * b, [1.0] * b) for n, b in SENSORS.items()}), -1, where != "fused"
    )
    for layer in made.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    return made


def batch(shift: float = 0.0, inputs: Inputs | None = None) -> Batch:
    given = {name: replace(look, values=look.values + shift) for name, look in (inputs or mixed()).items()}
    count = len(next(iter(given.values())).values)
    lonlat = torch.stack([torch.linspace(0, 9, count), torch.linspace(40, 50, count)], 1)
    return Batch(given, torch.arange(count) % 3, lonlat, torch.arange(count))


def terms(net: Model, method: Alignment, where: str, given: tuple[Batch, Batch] | None = None) -> dict[str, Tensor]:
    """The weighted terms of one source and one target."""
    source, target = given or (batch(), batch(0.5))
    aligned = align_at(method, where, net.branches)  # type: ignore[arg-type]
    aligned.attach(net, Setup(net.width, classes=3, branches=net.branches))
    views = [view_of(net(b.inputs), b, i) for i, b in enumerate((source, target))]
    return aligned((views[0],), (views[1],), Step(net, nn.CrossEntropyLoss(), aligned.scope, 0.5))


def numpy_coral(source: np.ndarray, target: np.ndarray) -> float:
    gap = np.cov(source, rowvar=False) - np.cov(target, rowvar=False)
    return float((gap**2).sum() / (4 * source.shape[1] ** 2))


def branch(net: Model, given: Batch, name: str) -> np.ndarray:
    """What a sensor's own encoder says of the samples that have it, by itself."""
    alone = some(net.normalise(given.inputs), *ROWS[name])
    return net.encoder.parts()[name]({name: alone[name]}).maps[-1].detach().double().numpy()


@pytest.mark.parametrize("scheme", ["late", "decision"])
def test_coral_on_branches_is_the_sum_of_coral_on_each(scheme: str) -> None:
    net = model(scheme=scheme).eval()
    found = terms(net, CORAL(2.0), "branches")
    assert set(found) == {"s2/coral", "s1/coral"}
    for name in ROWS:
        want = 2.0 * numpy_coral(branch(net, batch(), name), branch(net, batch(0.5), name))
        np.testing.assert_allclose(found[f"{name}/coral"].item(), want, rtol=1e-3)
    fused = [net(b.inputs).features.detach().double().numpy() for b in (batch(), batch(0.5))]
    both = terms(net, CORAL(2.0), "all")
    np.testing.assert_allclose(both["fused/coral"].item(), 2.0 * numpy_coral(*fused), rtol=1e-3)
    assert both["s1/coral"] == found["s1/coral"]
    assert set(terms(net, CORAL(2.0), "fused")) == {"coral"}


def moved(net: Model, loss: Tensor) -> set[str]:
    """First names of the parts that the loss has a gradient for."""
    net.zero_grad()
    loss.backward()
    parts = {"s2": net.encoder.parts()["s2"], "s1": net.encoder.parts()["s1"], "head": net.head}
    if hasattr(net.encoder.scheme, "joins"):
        parts["joins"] = net.encoder.scheme.joins  # type: ignore[assignment]
    return {n for n, m in parts.items() if any(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())}


METHODS = [CORAL, MMD, DANN, CDAN, GeoMT]


@pytest.mark.parametrize("method", METHODS)
def test_branches_alone_are_moved_under_branches(method: type[Alignment]) -> None:
    net = model()
    # CDAN's critic also reads the network's probabilities, which pass no gradient on
    assert moved(net, sum(terms(net, method(), "branches").values())) == {"s2", "s1"}  # type: ignore[arg-type]
    for where in ("fused", "all"):
        assert moved(net, sum(terms(net, method(), where).values())) >= {"s2", "s1", "joins"}  # type: ignore[arg-type]
    one = terms(net, method(), "branches")
    assert moved(net, sum(v for k, v in one.items() if k.startswith("s1/"))) == {"s1"}  # type: ignore[arg-type]


def test_every_branch_has_helper_parts_of_its_own() -> None:
    net = model()
    aligned = align_at(Stack({"dann": DANN(), "csn": CSN()}), "all", {"s2": 7, "s1": 5})
    aligned.attach(net, Setup(net.width, classes=3, branches={"s2": 7, "s1": 5}))
    dann = aligned.parts["dann"]
    assert isinstance(dann, EachBranch)
    widths = {name: part.critic[0].in_features for name, part in dann.named()}
    assert widths == {"fused": net.width, "s2": 7, "s1": 5}
    assert len({id(p) for p in aligned.parameters()}) == 3 * len(list(dann.parts["s2"].parameters()))
    assert isinstance(aligned.parts["csn"], CSN), "norms act once"


def test_a_branch_that_too_few_samples_have_has_no_term() -> None:
    net, one = model(), batch(0.5, some(mixed(), 0, 2, 4))  # s1: one sample
    assert set(terms(net, CORAL(), "branches", (batch(), one))) == {"s2/coral"}
    assert set(terms(net, CORAL(), "branches", (one, batch()))) == {"s2/coral"}


def test_what_cannot_be_done_is_refused() -> None:
    with pytest.raises(ValueError, match=r"align_at=branches needs a network with an encoder for each sensor.*=fused"):
        align_at(CORAL(), "branches", {})
    with pytest.raises(ValueError, match=r"align_at=all needs a network"):
        align_at(CSN(), "all", model(scheme="mid").branches)
    with pytest.raises(ValueError, match=r"ADDA looks at the fused features alone.*set align_at=fused"):
        align_at(ADDA(), "branches", {"s2": 3})
    with pytest.raises(ValueError, match=r"align_at .*'fussed'"):
        align_at(CORAL(), "fussed", {"s2": 3})  # type: ignore[arg-type]
    with pytest.raises(LookupError, match=r"branches \['s1'\] are to be aligned, but the network has \['s2'\]"):
        align_at(CORAL(), "branches", {"s1": 3}).attach(nn.Identity(), Setup(3, branches={"s2": 3}))


def test_methods_that_are_copied_act_by_their_terms_alone() -> None:
    """What predicts, corrects or counts classes would do so once for each branch."""
    once = ("edit", "scope", "settle", "tune", "class_weights", "adjust", "predict", "export")
    copied = set()
    for name in names("method"):
        method = build("method", name) if name != "stack" else Alignment()
        parts = [leaf for _, leaf, _ in method.leaves()] if isinstance(method, Stack) else [method]
        for part in parts:
            if part.on_branches == "each":
                copied.add(type(part).__name__)
                assert all(getattr(type(part), m) is getattr(Alignment, m) for m in once), type(part).__name__
    assert copied >= {"CORAL", "MMD", "DANN", "CDAN", "JAN", "GeoMT", "SWD", "WDGRL", "DeepJDOT", "ClassMMD", "MCD"}
