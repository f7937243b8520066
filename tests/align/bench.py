"""Every method of configs/method on a small model: what the contract tests train."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.align.stack import Stack
from eo_adapt.registry import build, names

TOGETHER = ("csn", "coral", "dann")
SOURCES, TARGETS, CLASSES, WIDTH, STEPS = 2, 1, 3, 5, 6
OPTIONS = {"class_mmd": {"confidence": 0.0}}  # an untrained network is sure of nothing
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
    """The method as configured, or with another weight; the stack is one of three, a paper's stack one of its parts."""
    if name == "stack":
        return build("method", "stack", parts={part: make(part, weight) for part in TOGETHER})
    if weight is not None and isinstance(stack := build("method", name), Stack):
        return build("method", name, weights=dict.fromkeys(stack.parts, weight))
    own = {} if weight is None or not weighs(name) else {"weight": weight}
    return build("method", name, **OPTIONS.get(name, {}), **own)


def on_images(align: Alignment) -> bool:
    """Whether the method, or a part of it, refuses parcels."""
    return any(getattr(part, "images_only", False) for part in align.modules())


METHODS = names("method")
AT_PREDICTION = {"label_shift"}  # as configured it only corrects what is predicted
EDITED = {"lovecs"}  # with weight 0 it is a stack of csn on strong views, not the baseline
WITH_TERMS = [name for name in METHODS if name == "stack" or (weighs(name) and name not in AT_PREDICTION | EDITED)]


class Tiny(nn.Module):
    """A model of someone else's: (features, logits), of parcels or of maps."""

    def __init__(self, maps: bool = False):
        super().__init__()
        norm = nn.BatchNorm2d if maps else nn.BatchNorm1d
        self.encoder = nn.Sequential(layer(maps, 6, 8), norm(8), nn.ReLU(), layer(maps, 8, WIDTH))
        self.head = layer(maps, WIDTH, CLASSES)

    def forward(self, x):
        if x.ndim < self.encoder[0].weight.ndim:
            x = x[..., None, None]  # a parcel is a map of one pixel
        features = self.encoder(x)
        return features, self.head(features)


def layer(maps: bool, width: int, out: int) -> nn.Module:
    return nn.Conv2d(width, out, 1) if maps else nn.Linear(width, out)


@dataclass
class Bench:
    """A model and a method; domains differ in mean and spread and size, targets come without labels.

    A method that refuses parcels gets maps.
    """

    name: str = "source_only"
    weight: float | None = None
    seed: int = 0
    rank: int = 0  # of this process, which has batches of its own
    sources: int = SOURCES
    targets: int = TARGETS
    maps: bool = False
    align: Alignment | None = None  # instead of a name
    model: Tiny = field(init=False)

    def __post_init__(self):
        torch.manual_seed(self.seed)
        self.align = self.align or make(self.name, self.weight)
        self.maps = self.maps or on_images(self.align)
        self.model = Tiny(self.maps)
        self.align.attach(self.model, Setup(WIDTH, self.sources, self.targets, CLASSES))
        self.optimiser = torch.optim.Adam([*self.model.parameters(), *self.align.parameters()], 0.01)

    def batch(self, domain: int, number: int) -> tuple[Tensor, Tensor | None]:
        """Inputs and labels of one domain and step."""
        draw = torch.Generator().manual_seed(10_000 * self.rank + 100 * number + domain)
        mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(domain))  # survives normalisation
        shape = (3 + domain, 4, 5) if self.maps else (12 + 3 * domain,)
        x = torch.randn(*shape, 6, generator=draw).exp() @ mix + domain
        labels = torch.randint(CLASSES, shape, generator=draw) if domain < self.sources else None
        return x.movedim(-1, 1).contiguous() if self.maps else x, labels

    def views(self, number: int = 0) -> tuple[View, ...]:
        """Of one step."""
        batches = [self.batch(domain, number) for domain in range(self.sources + self.targets)]
        torch.manual_seed(1000 + number)
        xs = tuple(x for x, _ in batches)
        edited = self.align.edit(xs[: self.sources], xs[self.sources :], self.step(number))
        views = []
        for domain, (x, (_, labels)) in enumerate(zip((*edited[0], *edited[1]), batches, strict=True)):
            draw = torch.Generator().manual_seed(domain)
            lonlat, days = torch.rand(len(x), 2, generator=draw), torch.arange(4.0).expand(len(x), 4)
            with self.align.scope(domain):
                features, logits = self.model(x)
            views.append(View(features, logits, x, domain, labels, lonlat, days))
        return tuple(views)

    def step(self, number: int) -> Step:
        return Step(self.model, nn.CrossEntropyLoss(), self.align.scope, number / STEPS)

    def terms(self, views: tuple[View, ...], number: int = STEPS // 2) -> dict[str, Tensor]:
        torch.manual_seed(number)  # as the trainer does
        return self.align(views[: self.sources], views[self.sources :], self.step(number))

    def loss(self, number: int) -> Tensor:
        """Of one step: the task and the method's terms."""
        views = self.views(number)
        return task(views) + total(self.terms(views, number))

    def fit(self, first: int = 1, last: int = STEPS) -> Bench:
        for number in range(first, last + 1):
            self.optimiser.zero_grad()
            self.loss(number).backward()
            self.optimiser.step()
            self.align.after_step(self.model)
        if self.align.settles:
            self.settle()
        return self

    def settle(self) -> None:
        """As the trainer does before a checkpoint is scored."""
        batches = {domain: self.batch(domain, 0) for domain in range(self.sources + self.targets)}
        self.model.eval()
        with torch.no_grad():
            self.align.settle(
                self.model,
                {domain: [batches[domain]] for domain in range(self.sources)},
                {domain: [batches[domain][0]] for domain in range(self.sources, self.sources + self.targets)},
            )
        self.model.train()

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
    return torch.stack(
        [nn.functional.cross_entropy(v.logits.float(), v.labels) for v in views if v.labels is not None]
    ).mean()


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum() if terms else torch.zeros(())
