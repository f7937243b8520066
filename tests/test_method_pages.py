"""Every page of docs/methods gives what a user needs to know, and what it says of defaults and memory is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from align.bench import CLASSES, OPTIONS, PAGES, SOURCES, TARGETS, TOGETHER, WIDTH, Tiny, layer, make, on_images
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.profiler import ProfilerActivity, profile

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.registry import build, names

METHODS = names("method")
CONFIGS = Path(__file__).parents[1] / "configs" / "method"
SECTIONS = ("Idea", "Formula", "Source", "Needs", "Cost", "Memory", "Deviations", "When it hurts")
LIBRARIES = ("Transfer-Learning-Library", "pytorch-adapt", "skada", "adapt-python", "AdaTime", "DomainBed", "WILDS")
UNSAID = ("", "-", "?")
MAPPED = {"advent", "lovecs"}  # take parcels, too, but their pages count the pixels of maps
BANDS, SIDE = 6, 64  # of maps: bands of the inputs, pixels of a side


def page(name: str) -> str:
    return (PAGES / f"{name}.md").read_text(encoding="utf-8")


def section(name: str, title: str) -> str:
    """What a page says after a bold title, up to the next one, as one line."""
    found = re.search(rf"(?:^|(?<=\. ))\*\*{title}.*?(?=^\*\*|^## |\Z)", page(name), re.M | re.S)
    assert found, f"docs/methods/{name}.md has no sentence that begins with **{title}.**"
    return " ".join(found[0].split())


def tables(name: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Of each table of a page: the head of its first column, and the cells of its rows."""
    for block in re.findall(r"(?:^\|.*\n)+", page(name) + "\n", re.M):
        head, _, *rows = [
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]] for line in block.splitlines()
        ]
        yield head[0], rows


def flat(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Options by name, those of a nested part as ``part.option``, too."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        if key != "_target_":
            found[prefix + key] = value
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
    return found


def explained(name: str) -> dict[str, tuple[str, str]]:
    """Option -> (default, reason), as the option tables of a page say it."""
    found: dict[str, tuple[str, str]] = {}
    for head, rows in tables(name):
        if not (of := re.fullmatch(r"option(?: of `([\w.]+)`)?", head)):
            continue
        for first, default, why in rows:
            keys = re.findall(r"`([^`]+)`", first)
            values = default.split(", ") if len(keys) > 1 and default.count(", ") == len(keys) - 1 else [default]
            for key, value in zip(keys, values * len(keys), strict=False):
                found[f"{of[1]}.{key}" if of[1] else key] = (value.strip("`"), why)
    return found


def same(said: str, value: Any) -> bool:
    """Whether the text of a default is the value in the yaml."""
    if isinstance(value, dict):
        return said.startswith("see ") if value else said == "{}"
    if isinstance(value, list):
        parts = [part for part in said.strip("[]").split(", ") if part]
        return len(parts) == len(value) and all(map(same, parts, value))
    if isinstance(value, bool) or value is None:
        return said == {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        return said == value
    return re.fullmatch(r"[\d.]+", said) is not None and float(said) == value


@pytest.mark.parametrize("name", METHODS)
def test_every_section_is_there(name: str) -> None:
    for title in SECTIONS:
        assert len(section(name, title)) > len(title) + 20, f"docs/methods/{name}.md says nothing under **{title}.**"
    idea = section(name, "Idea")
    assert len(re.findall(r"[.!?](?=\s|$)", idea)) - 1 <= 3, (
        f"docs/methods/{name}.md: the idea must fit in three sentences"
    )


@pytest.mark.parametrize("name", METHODS)
def test_every_option_is_explained_with_its_default(name: str) -> None:
    wanted = flat(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8")))
    if not wanted:
        assert section(name, "Options").startswith("**Options.** None")
    found = explained(name)
    assert set(found) == set(wanted), (
        f"docs/methods/{name}.md: missing in the option table {sorted(set(wanted) - set(found))}, "
        f"not in configs/method/{name}.yaml {sorted(set(found) - set(wanted))}"
    )
    for key, value in wanted.items():
        default, why = found[key]
        assert same(default, value), f"docs/methods/{name}.md gives {key} the default {default!r}; the yaml {value!r}"
        assert why not in UNSAID, f"docs/methods/{name}.md does not say why {key} is {default}"


@pytest.mark.parametrize("name", METHODS)
def test_every_library_is_compared(name: str) -> None:
    found = [rows for head, rows in tables(name) if head == "library"]
    assert len(found) == 1, f"docs/methods/{name}.md needs one table `| library | its formula | here |`"
    for library in LIBRARIES:
        rows = [row for row in found[0] if re.search(rf"\b{library}\b", row[0])]
        assert len(rows) == 1, f"docs/methods/{name}.md: {library} is in {len(rows)} rows of the library table, not 1"
        _, formula, here = rows[0]
        told = formula not in UNSAID and "not read" not in formula
        assert told, f"docs/methods/{name}.md does not say what {library} computes ('not there' where it has none)"
        assert formula.startswith("not there") or here not in UNSAID, (
            f"docs/methods/{name}.md does not say what a weight of {library} is here ('none' where nothing fits)"
        )


def tensors(*modules: nn.Module) -> int:
    """Numbers in all parameters and buffers, each counted once."""
    found = {id(x): x.numel() for module in modules for x in (*module.parameters(), *module.buffers())}
    return sum(found.values())


def kept(align: Alignment) -> int:
    """Numbers that a method keeps beside the network of the bench."""
    model = Tiny()
    plain = tensors(model)
    align.attach(model, Setup(WIDTH, SOURCES, TARGETS, CLASSES))
    return tensors(model, align) - plain


def evaluated(formula: str, **known: float) -> float:
    return float(eval(formula, {"__builtins__": {}}, {"min": min, "max": max, **known}))


def options(name: str, **other: float) -> dict[str, Any]:
    """Options of a method that are numbers; those of a part by their last name, where one part alone has it."""
    given = flat(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))) | other
    last = [key.rpartition(".")[2] for key in given]
    short = {key: value for key, value in zip(last, given.values(), strict=True) if last.count(key) == 1}
    return {key: value for key, value in (short | given).items() if isinstance(value, int | float)}


def on_the_bench(name: str) -> dict[str, float]:
    """What a formula of what is kept may name, beside the method's own options."""
    model = Tiny()
    norms = [layer for layer in model.modules() if isinstance(layer, _BatchNorm)]
    return {
        "sources": SOURCES,
        "targets": TARGETS,
        "domains": SOURCES + TARGETS,
        "features": WIDTH,
        "classes": CLASSES,
        "network": tensors(model),
        "layers": len(norms),
        "channels": sum(norm.num_features for norm in norms),
        "parts": sum(kept(make(part)) for part in TOGETHER) if name == "stack" else 0,
    }


@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_in_memory(name: str) -> None:
    """``Kept: `formula` `` and ``Kept with `option=value`: `formula` ``: numbers in parameters and buffers."""
    said = re.findall(r"Kept(?: with `(\w+)=(\w+)`)?: `([^`]+)`", section(name, "Memory"))
    assert [option for option, _, _ in said[:1]] == [""], (
        f"docs/methods/{name}.md does not say **Memory.** Kept: `formula` numbers"
    )
    for option, value, formula in said:
        other = {option: yaml.safe_load(value)} if option else {}
        known = on_the_bench(name) | options(name, **other)
        found = kept(build("method", name, **other) if other else make(name))
        assert evaluated(formula, **known) == found, f"docs/methods/{name}.md: {formula} with {known} is not {found}"


class Linear(nn.Module):
    """A network whose own activations take next to nothing: (features, logits)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(BANDS, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.encoder(x), x


class Mapper(nn.Module):
    """The same for maps. Features are a view of the inputs; a norm is there to be split, and is not run."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.norm = width, nn.BatchNorm2d(BANDS)
        self.head = layer(True, BANDS, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, :1].expand(-1, self.width, -1, -1), self.head(x)


def views(rows: int, width: int, sources: int, maps: bool) -> tuple[View, ...]:
    """``rows`` rows of sources and of one target, as leaves; of maps, as many pixels in squares."""
    made = []
    for domain in range(sources + 1):
        count = rows // sources if domain < sources else rows
        shape = (count // SIDE**2, SIDE, SIDE) if maps else (count,)
        x, z, inputs = (torch.randn(size, *shape).movedim(0, 1) for size in (width, CLASSES, BANDS))
        x, z = x.contiguous().requires_grad_(), z.contiguous().requires_grad_()
        labels = torch.randint(CLASSES, shape) if domain < sources else None
        days = torch.arange(4.0).expand(shape[0], 4)
        made.append(View(x, z, inputs.contiguous(), domain, labels, torch.rand(shape[0], 2), days))
    return tuple(made)


def peak(work: Callable[[], None]) -> float:
    """Most numbers (of 4 bytes) that torch holds at a time beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    events = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    sizes = torch.tensor([0] + [e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())])
    return float(sizes.cumsum(0).max()) / 4


def of_a_step(align: Alignment, rows: int, width: int, maps: bool = False) -> float:
    """Numbers that the terms of one step take, forward and backward, gradients of features and logits included."""
    torch.manual_seed(0)
    sources = max(1, align.min_sources)
    model = Mapper(width) if maps else Linear(width)
    align.attach(model, Setup(width, sources, 1, CLASSES))
    seen = views(rows, width, sources, maps)
    step = Step(model, nn.CrossEntropyLoss(), align.scope, 0.6)

    def work() -> None:
        terms = align(seen[:sources], seen[sources:], step)
        if terms:
            torch.stack(list(terms.values())).sum().backward()
        align.after_step(model)

    work()
    for view in seen:
        view.features.grad = view.logits.grad = None
    return peak(work)


def formula_of_a_step(name: str) -> str:
    said = re.search(r"A step: `([^`]+)` numbers", section(name, "Memory"))
    return said[1] if said else ""


@pytest.mark.parametrize("name", METHODS)
def test_the_memory_of_a_step_is_told(name: str) -> None:
    told = re.search(r"A step: \S.{9,}", section(name, "Memory"))
    assert told, f"docs/methods/{name}.md does not say under **Memory.** what a step takes: A step: `formula` numbers"


@pytest.mark.parametrize(("rows", "width"), [(192, 64), (384, 128)])
@pytest.mark.parametrize("name", METHODS)
def test_the_memory_of_a_step_is_measured(name: str, rows: int, width: int) -> None:
    """``A step: `formula` numbers``, of n rows of the sources and m of the targets; 0 where there are no terms.

    Methods of images are measured on maps. There n and m are pixels, and inputs have ``bands``. What the network itself
    takes on an extra view (of a teacher, a mixture) is told in words.
    """
    if (formula := formula_of_a_step(name)) in ("", "0"):
        pytest.skip("told in words")
    align = build("method", name, **OPTIONS.get(name, {}))
    maps = name in MAPPED or on_images(align)
    rows *= SIDE if maps else 1  # whole images
    known: dict[str, float] = {"n": rows, "m": rows, "features": width, "classes": CLASSES, "bands": BANDS}
    said = evaluated(formula, **known, **options(name))
    found = of_a_step(align, rows, width, maps)
    assert 0.7 * said < found < 1.3 * said, f"docs/methods/{name}.md says {said:.0f} numbers, measured {found:.0f}"
