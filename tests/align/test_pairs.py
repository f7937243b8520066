"""Every pair of methods: what it does to gradients, how often the network is called, and what comes out of it."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from bench import METHODS, SOURCES, TARGETS, WITH_TERMS, Bench, Tiny, extra_forwards, make, task, total
from torch import Tensor

from eo_adapt.align import Alignment, View
from eo_adapt.align.csn import DomainNorm
from eo_adapt.align.label_shift import LabelShift
from eo_adapt.align.stack import Stack

ALONE = {"source_only", "target_only", "few_shot", "stack", "geomultitasknet", "lovecs"}  # baselines, oracles, stacks
SINGLE = [name for name in METHODS if name not in ALONE]
PLACES = {"swaps": 0, "anywhere": 1, "copies": 2}
REFUSED = {("adabn", "csn")}
NUMBER = 3  # the step that is looked at: half of training is over, so that every method acts
declared = cache(extra_forwards)


def part(name: str) -> Alignment:
    """As configured; label_shift believes every estimate, so that there is something to export."""
    return LabelShift(guard=0.0) if name == "label_shift" else make(name)


def stacked(*names: str) -> Stack:
    """Methods in an order that works: what swaps layers first, what copies the network last."""
    parts = {name: part(name) for name in names}
    shares = {name: 0.5 for name, one in parts.items() if one.weight_limit == 1}
    return Stack(dict(sorted(parts.items(), key=lambda item: PLACES[item[1].place])), shares)


@dataclass
class Found:
    """What one pair did in a few steps.

    Attributes:
        moves: Largest gradient in the first layer of the encoder, a term.
        task: Largest difference to the plain task gradient of what is left of the whole one without the terms.
        calls: Forward passes of one step, copies of the network included.
        half: Whether terms are float32, and all gradients finite, under bfloat16 autocast.
        resumed: Whether training went on to the bit from a saved state.
        exported: Largest difference between the logits of ``export`` and of ``predict``, over all domains.
        plain: Whether what is exported is free of helper parts.
    """

    moves: dict[str, float]
    task: float
    calls: int
    half: bool
    resumed: bool
    exported: float
    plain: bool


@cache
def found(one: str, other: str) -> Found:
    """All checks share one bench; later ones start from where earlier ones left it."""
    bench = Bench(align=stacked(one, other))
    moves, off, calls = gradients(bench)
    half = in_half_precision(bench)
    resumed = goes_on(bench, Bench(align=stacked(one, other), seed=1))
    return Found(moves, off, calls, half, resumed, *exports(bench))


def gradients(bench: Bench) -> tuple[dict[str, float], float, int]:
    calls: list[int] = []
    networks = [bench.model, *(module for module in bench.align.modules() if isinstance(module, Tiny))]
    hooks = [network.register_forward_hook(lambda *_: calls.append(1)) for network in networks]
    views = bench.views(NUMBER)
    terms = bench.terms(views, NUMBER)
    of_terms = {name: bench.gradient(term) for name, term in terms.items() if term.requires_grad}
    both = torch.stack([torch.zeros_like(bench.weights()), *of_terms.values()]).sum(0)
    left = bench.gradient(task(views) + total(terms)) - both
    bench.align.after_step(bench.model)
    for hook in hooks:
        hook.remove()
    first = next(bench.model.encoder.parameters()).numel()  # of the first layer, which leads the vector
    moves = {name: float(grad[:first].abs().max()) for name, grad in of_terms.items()}
    rounding = 1e-6 * max(1.0, float(both.abs().max()))
    return moves, float((left - plain_gradient(views, bench.maps)).abs().max()) / rounding, len(calls)


def plain_gradient(views: tuple[View, ...], maps: bool) -> Tensor:
    """Of the task loss alone, in a network nobody has attached to, on the same inputs."""
    plain = Bench("source_only", maps=maps)
    return plain.gradient(task(tuple(replace(v, logits=plain.model(v.inputs)[1]) for v in views)))


def in_half_precision(bench: Bench) -> bool:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        views = bench.views(NUMBER)
        terms = bench.terms(views, NUMBER)
    loss = task(views) + total(terms)
    wide = all(term.dtype == torch.float32 for term in terms.values())
    return wide and bool(loss.isfinite()) and bool(bench.gradient(loss).isfinite().all())


def goes_on(bench: Bench, resumed: Bench) -> bool:
    file = io.BytesIO()
    torch.save(bench.fit(NUMBER, NUMBER).state(), file)
    file.seek(0)
    for key, state in torch.load(file, weights_only=True).items():
        getattr(resumed, key).load_state_dict(state)
    whole, again = (one.fit(NUMBER + 1, NUMBER + 1) for one in (bench, resumed))
    states = zip((whole.model, whole.align), (again.model, again.align), strict=True)
    pairs = [(a.state_dict(), b.state_dict()) for a, b in states]
    return all(torch.equal(x, b[key]) for a, b in pairs for key, x in a.items() if isinstance(x, Tensor))


def exports(bench: Bench) -> tuple[float, bool]:
    bench.model.eval()
    bench.align.eval()
    if bench.align.settles:
        with torch.no_grad():
            unlabelled = {domain: [bench.batch(domain, 9)[0]] for domain in range(SOURCES, SOURCES + TARGETS)}
            bench.align.settle(bench.model, {domain: [bench.batch(domain, 9)] for domain in range(SOURCES)}, unlabelled)
    off, plain = 0.0, True
    for domain in range(SOURCES + TARGETS):
        x = bench.batch(domain, 8)[0][:7]  # so few that tent does not learn from them
        with bench.align.scope(domain):
            expected = bench.align.predict(bench.model, x)
        network = bench.align.export(bench.model, domain)
        off = max(off, float((network(x)[1] - expected).abs().max()))
        plain &= network.state_dict().keys() == Tiny(bench.maps).state_dict().keys()
        plain &= not any(isinstance(layer, DomainNorm) for layer in network.modules())
    return off, plain


def partners(one: str) -> list[str]:
    return [other for other in SINGLE[SINGLE.index(one) + 1 :] if (one, other) not in REFUSED]


every = pytest.mark.parametrize("one", SINGLE[:-1])


@pytest.mark.parametrize("names", [pair[::order] for pair in sorted(REFUSED) for order in (1, -1)])
def test_these_pairs_are_refused(names: tuple[str, ...]) -> None:
    """And no others: all tests below would stop at a pair that is."""
    with pytest.raises(ValueError, match=r"both keep statistics per domain|already split by domain"):
        Bench(align=Stack({name: make(name) for name in names}))


@every
def test_terms_of_both_move_the_encoder(one: str) -> None:
    for other in partners(one):
        moves = found(one, other).moves
        for name in {one, other} & set(WITH_TERMS):
            mine = {term: size for term, size in moves.items() if term.startswith(f"{name}/")}
            assert mine, f"{name} has no term beside {one if name == other else other}"
            assert all(0 < size < float("inf") for size in mine.values()), (one, other, mine)


@every
def test_the_task_gradient_stays_intact(one: str) -> None:
    """Whole gradient minus that of the terms = gradient of the plain network on the same, perhaps edited inputs."""
    off = {other: off for other in partners(one) if not (off := found(one, other).task) <= 1}
    assert not off


@every
def test_forward_passes_are_those_of_both_pages(one: str) -> None:
    for other in partners(one):
        extra = declared(one) + declared(other)
        assert found(one, other).calls == SOURCES + TARGETS + extra, (one, other)


@every
def test_half_precision_leaves_terms_in_float32_and_gradients_finite(one: str) -> None:
    assert not [other for other in partners(one) if not found(one, other).half]


@every
def test_training_goes_on_to_the_bit_after_a_stop(one: str) -> None:
    assert not [other for other in partners(one) if not found(one, other).resumed]


@every
def test_export_is_plain_and_has_the_logits_of_predict(one: str) -> None:
    off = {other: off for other in partners(one) if not (off := found(one, other).exported) <= 1e-5}
    assert not off
    assert all(found(one, other).plain for other in partners(one))
