"""What every method of configs/method promises a trainer; a new yaml is picked up by itself."""

import copy
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.csn import DomainNorm
from eo_adapt.registry import build, names

TOGETHER = ("csn", "coral", "dann")
SOURCES, TARGETS, CLASSES, WIDTH, STEPS = 2, 1, 3, 5, 6
PAGES = Path(__file__).parents[2] / "docs" / "methods"


def extra_forwards(name: str) -> int:
    """Forward passes a step beyond one a domain (a teacher, an augmented view), as the method's page declares them."""
    page = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    declared = re.search(r"Extra forward passes a step: `([\d+*() ]|sources|targets)+`", page)
    assert declared, f"docs/methods/{name}.md does not say `Extra forward passes a step: `...``"
    formula = declared[0].split("`")[1]
    return int(eval(formula, {"__builtins__": {}}, {"sources": SOURCES, "targets": TARGETS}))


def weighs(name: str) -> bool:
    """Whether the method has loss terms of its own."""
    return type(build("method", name)).loss is not Alignment.loss


def make(name: str, weight: float | None = None) -> Alignment:
    """The method as configured, or with another weight; the stack is one of three."""
    if name == "stack":
        return build("method", "stack", parts={part: make(part, weight) for part in TOGETHER})
    return build("method", name, **({} if weight is None or not weighs(name) else {"weight": weight}))


METHODS = names("method")
WITH_TERMS = [name for name in METHODS if name == "stack" or weighs(name)]


class Tiny(nn.Module):
    """A parcel model of someone else's: (features, logits)."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, WIDTH))
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


@dataclass
class Bench:
    """A model and a method with two sources and one target; domains differ in mean and spread."""

    name: str
    weight: float | None = None
    seed: int = 0
    model: Tiny = field(init=False)
    align: Alignment = field(init=False)

    def __post_init__(self):
        torch.manual_seed(self.seed)
        self.model = Tiny()
        self.align = make(self.name, self.weight)
        self.align.attach(self.model, Setup(WIDTH, SOURCES, TARGETS, CLASSES))
        self.optimiser = torch.optim.Adam([*self.model.parameters(), *self.align.parameters()], 0.01)

    def views(self, number: int = 0) -> tuple[View, ...]:
        """Of one step; the target comes without labels."""
        views = []
        for domain in range(SOURCES + TARGETS):
            draw = torch.Generator().manual_seed(100 * number + domain)
            mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(domain))  # survives normalisation
            rows = 12 + 3 * domain
            x = torch.randn(rows, 6, generator=draw).exp() @ mix + domain
            labels = torch.randint(CLASSES, (rows,), generator=draw) if domain < SOURCES else None
            lonlat, days = torch.rand(rows, 2, generator=draw), torch.arange(4.0).expand(rows, 4)
            with self.align.scope(domain):
                features, logits = self.model(x)
            views.append(View(features, logits, x, domain, labels, lonlat, days))
        return tuple(views)

    def terms(self, views: tuple[View, ...], number: int = STEPS // 2) -> dict[str, Tensor]:
        torch.manual_seed(number)  # as the trainer does
        step = Step(self.model, nn.CrossEntropyLoss(), self.align.scope, number / STEPS)
        return self.align(views[:SOURCES], views[SOURCES:], step)

    def fit(self, first: int = 1, last: int = STEPS) -> "Bench":
        for number in range(first, last + 1):
            views = self.views(number)
            self.optimiser.zero_grad()
            (task(views) + total(self.terms(views, number))).backward()
            self.optimiser.step()
            self.align.after_step(self.model)
        return self

    def gradient(self, loss: Tensor) -> Tensor:
        """Of the model's parameters, as one vector."""
        parameters = list(self.model.parameters())
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(parameters, grads, strict=True)]
        )

    def weights(self) -> Tensor:
        return nn.utils.parameters_to_vector(self.model.parameters()).detach()

    def state(self) -> dict[str, Any]:
        parts = {"model": self.model, "align": self.align, "optimiser": self.optimiser}
        return {name: part.state_dict() for name, part in parts.items()}


def task(views: tuple[View, ...]) -> Tensor:
    return torch.stack([nn.functional.cross_entropy(v.logits.float(), v.labels) for v in views[:SOURCES]]).mean()


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum() if terms else torch.zeros(())


every = pytest.mark.parametrize("name", METHODS)
with_terms = pytest.mark.parametrize("name", WITH_TERMS)


def test_the_known_methods_are_here():
    assert {"source_only", "target_only", "stack", *TOGETHER, "mmd"} <= set(METHODS)
    assert {"coral", "mmd", "dann", "stack"} <= set(WITH_TERMS)


@with_terms
def test_terms_alone_move_the_encoder(name):
    bench = Bench(name)
    terms = bench.terms(bench.views())
    assert terms
    assert all(term.ndim == 0 and term.isfinite() for term in terms.values())
    encoder = list(bench.model.encoder.parameters())
    for term, value in terms.items():
        grads = torch.autograd.grad(value, encoder, retain_graph=True)
        assert all(grad.isfinite().all() for grad in grads), term
        assert grads[0].abs().max() > 1e-7, f"{term} gives the first layer no gradient"


@every
def test_the_task_gradient_stays_intact(name):
    bench = Bench(name)
    views = bench.views()
    terms = total(bench.terms(views))
    alone = bench.gradient(task(views))
    extra = bench.gradient(terms) if terms.requires_grad else torch.zeros_like(alone)
    torch.testing.assert_close(bench.gradient(task(views) + terms), alone + extra, atol=1e-6, rtol=1e-4)
    plain = Bench("source_only")
    torch.testing.assert_close(alone, plain.gradient(task(plain.views())), atol=1e-6, rtol=1e-4)


@every
def test_calling_it_leaves_no_gradients_and_moves_nothing(name):
    bench = Bench(name)
    views = bench.views()
    before = copy.deepcopy((bench.model.state_dict(), bench.align.state_dict()))
    bench.terms(views)
    assert all(p.grad is None for p in (*bench.model.parameters(), *bench.align.parameters()))
    for state, old in zip((bench.model.state_dict(), bench.align.state_dict()), before, strict=True):
        assert all(torch.equal(value, old[key]) for key, value in state.items() if isinstance(value, Tensor))


@with_terms
def test_weight_matters(name):
    off, on = Bench(name, 0.0).fit(last=3), Bench(name, 1.0).fit(last=3)
    assert not torch.allclose(off.weights(), on.weights(), atol=1e-7, rtol=0)
    baseline = Bench("csn" if name == "stack" else "source_only").fit(last=3)
    assert torch.equal(off.weights(), baseline.weights()), "weight 0 is not the baseline"


@with_terms
def test_terms_are_float32_under_autocast(name):
    bench = Bench(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = bench.views()
        terms = bench.terms(views)
    assert views[0].features.dtype == torch.bfloat16
    outside = bench.terms(views)
    for term, value in terms.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, outside[term]), f"{term} was rounded by autocast"
    assert bench.gradient(total(terms)).isfinite().all()


@every
def test_training_goes_on_to_the_bit_after_a_stop(name):
    whole, stopped = Bench(name).fit(), Bench(name).fit(last=3)
    file = io.BytesIO()
    torch.save(stopped.state(), file)
    file.seek(0)
    resumed = Bench(name, seed=1)
    for key, state in torch.load(file, weights_only=True).items():
        getattr(resumed, key).load_state_dict(state)
    resumed.fit(first=4)
    assert torch.equal(resumed.weights(), whole.weights())
    for ours, theirs in zip(resumed.align.state_dict().items(), whole.align.state_dict().items(), strict=True):
        assert ours[0] == theirs[0]
        assert not isinstance(ours[1], Tensor) or torch.equal(ours[1], theirs[1])
    assert all(torch.equal(v, whole.model.state_dict()[k]) for k, v in resumed.model.state_dict().items())


@every
def test_target_labels_and_extra_forwards_are_not_needed(name):
    bench, calls = Bench(name), []
    bench.model.register_forward_hook(lambda *_: calls.append(1))
    views = bench.views()
    assert views[-1].labels is None
    bench.terms(views)
    bench.align.after_step(bench.model)
    assert len(calls) == SOURCES + TARGETS + extra_forwards(name)


@every
def test_export_is_plain_and_has_the_logits_of_predict(name):
    bench = Bench(name).fit(last=2)
    bench.model.eval()
    x = torch.randn(7, 6)
    for domain in range(SOURCES + TARGETS):
        with bench.align.scope(domain):
            expected = bench.align.predict(bench.model, x)
        plain = bench.align.export(bench.model, domain)
        assert torch.equal(plain(x)[1], expected)
        assert plain.state_dict().keys() == Tiny().state_dict().keys()
        assert not any(isinstance(module, DomainNorm) for module in plain.modules())


@every
def test_a_fitted_method_was_fitted_on_all_its_parameters(name):
    """A critic that never gets a gradient is the dead default of other libraries."""
    bench = Bench(name)
    before = {key: value.clone() for key, value in bench.align.named_parameters() if value.requires_grad}
    bench.fit(last=2)
    after = dict(bench.align.named_parameters())
    assert all(not torch.equal(after[key], value) for key, value in before.items())
