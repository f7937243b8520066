"""What every method of configs/method promises a trainer; a new yaml is picked up by itself."""

import copy
import io

import pytest
import torch
from bench import METHODS, SOURCES, TARGETS, TOGETHER, WITH_TERMS, Bench, Tiny, extra_forwards, task, total
from torch import Tensor

from eo_adapt.align import Alignment
from eo_adapt.align.csn import DomainNorm

ON_STRONG_VIEWS = {"self_training", "timematch"}
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
    if type(bench.align).edit is not Alignment.edit:
        return  # the task is learnt on other inputs
    plain = Bench("source_only", maps=bench.maps)
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
    if name in ON_STRONG_VIEWS:
        return  # what is left at weight 0 is the baseline on strong views of the sources
    baseline = Bench("csn" if name == "stack" else "source_only", maps=off.maps).fit(last=3)
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
    for network in (bench.model, *(part for part in bench.align.modules() if isinstance(part, Tiny))):
        network.register_forward_hook(lambda *_: calls.append(1))  # copies of the network count, too
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
