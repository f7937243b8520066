"""CDAN: the joint map and its random stand-in, certainty weights, and a critic that sees what DANN's cannot."""

import io

import numpy as np
import pytest
import torch
from adversaries import gain, step, view
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from eo_adapt.align import Setup
from eo_adapt.align.cdan import CDAN, certainty, outer, probabilities, random_outer
from eo_adapt.align.dann import DANN


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(kind=CDAN, domains: int = 2, width: int = 4, classes: int = 3, **options) -> DANN:
    align = kind(**({"hidden": 16} | options))
    align.attach(nn.Identity(), Setup(width, 1, domains - 1, classes))
    return align


def by_hand(cdan: CDAN, features: list[Tensor], logits: list[Tensor]) -> float:
    """One row at a time, float64; the critic is that of the method."""
    total = []
    for domain, (f, g) in enumerate(zip(features, logits, strict=True)):
        losses, weights = [], []
        for row, out in zip(f.double().numpy(), g.double().numpy(), strict=True):
            p = np.exp(out - out.max()) / np.exp(out - out.max()).sum()
            h = np.concatenate([k * row for k in p])
            judged = cdan.critic(torch.tensor(h, dtype=torch.float32)).detach().double().numpy()
            losses.append(np.log(np.exp(judged).sum()) - judged[domain])
            weights.append(1 + np.exp((p * np.log(p)).sum()) if cdan.entropy else 1.0)
        total.append(np.dot(losses, weights) / np.sum(weights))
    return float(np.mean(total))


def views(features: list[Tensor], logits: list[Tensor]) -> tuple:
    return tuple(view(f, i, g) for i, (f, g) in enumerate(zip(features, logits, strict=True)))


@pytest.mark.parametrize("entropy", [True, False])
@settings(deadline=None, max_examples=15, derandomize=True)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=4), d=st.integers(1, 5), k=st.integers(2, 5))
def test_equals_a_loop_over_rows(entropy, sizes, d, k):
    features, logits = [torch.randn(n, d) for n in sizes], [2 * torch.randn(n, k) for n in sizes]
    cdan = attached(domains=len(sizes), width=d, classes=k, entropy=entropy)
    seen = views(features, logits)
    term = cdan(seen[:1], seen[1:], step())["domain"]
    assert term.item() == pytest.approx(by_hand(cdan, features, logits), rel=1e-4)


def test_a_sure_prediction_puts_the_features_into_its_block():
    f = torch.randn(3, 4)
    blocks = outer(f, torch.eye(3)).unflatten(1, (3, 4))
    for row in range(3):
        assert torch.equal(blocks[row, row], f[row])
        assert blocks[row].count_nonzero() == 4
    p = torch.rand(3, 5)
    np.testing.assert_allclose(outer(f, p), np.einsum("nk,nd->nkd", p, f).reshape(3, -1), rtol=1e-6)


def test_random_map_keeps_inner_products():
    """Unbiased (z-test over draws of the matrices), with an error that falls as 1 / sqrt(width)."""
    f, p = torch.randn(2, 6), torch.rand(2, 4)
    exact, spread = (f[0] @ f[1] * (p[0] @ p[1])).item(), {}
    for width in (64, 1024):
        maps = [random_outer(f, p, torch.randn(6, width), torch.randn(4, width)) for _ in range(400)]
        products = torch.stack([m[0] @ m[1] for m in maps])
        assert abs((products.mean() - exact) / (products.std() / 20)) < 3.5
        spread[width] = products.std().item()
    assert spread[64] / spread[1024] == pytest.approx(4, rel=0.25)


def test_the_map_is_random_only_where_it_would_be_too_wide():
    exact, random = attached(max_width=12), attached(max_width=11, random_width=7)
    assert exact.critic[0].in_features == 12
    assert random.critic[0].in_features == 7
    assert not dict(exact.named_buffers())
    assert {"of_features", "of_classes"} <= set(random.state_dict())
    f, g = torch.randn(5, 4), torch.randn(5, 3)
    expected = (f @ random.of_features) * (g.softmax(1) @ random.of_classes) / 7**0.5
    torch.testing.assert_close(random.judged(view(f, 0, g)), expected)


def test_the_random_map_survives_saving():
    cdan, twin, file = *(attached(max_width=0) for _ in range(2)), io.BytesIO()
    seen = views([torch.randn(5, 4), torch.randn(6, 4)], [torch.randn(5, 3), torch.randn(6, 3)])
    term = cdan(seen[:1], seen[1:], step())["domain"]
    assert twin(seen[:1], seen[1:], step())["domain"] != term
    torch.save(cdan.state_dict(), file)
    file.seek(0)
    twin.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(twin(seen[:1], seen[1:], step())["domain"], term)


def test_certainty_averages_to_one_within_a_domain():
    for p in (torch.rand(50, 4).softmax(1), torch.eye(4), torch.full((9, 4), 0.25)):
        assert certainty(p).mean().item() == pytest.approx(1)
    sure, unsure = certainty(torch.tensor([[1.0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]))
    assert (sure / unsure).item() == pytest.approx(2 / 1.25)  # entropies 0 and log 4


def test_an_unsure_domain_counts_as_much_as_a_sure_one():
    """Joint normalisation would not: the term of constant verdicts is then no plain mean."""
    cdan = attached()
    nn.init.zeros_(cdan.critic[2].weight)
    cdan.critic[2].bias.data = torch.tensor([1.0, -1.0])
    logits = [30 * torch.eye(3).repeat(4, 1), torch.zeros(12, 3)]
    seen = views([torch.randn(12, 4), torch.randn(12, 4)], logits)
    expected = -torch.tensor([1.0, -1.0]).log_softmax(0).mean()
    torch.testing.assert_close(cdan(seen[:1], seen[1:], step())["domain"], expected)


@pytest.mark.parametrize("max_width", [4096, 0])
def test_predictions_get_a_gradient_only_where_asked(max_width):
    for detach in (True, False):
        logits = [torch.randn(5, 3, requires_grad=True), torch.randn(6, 3, requires_grad=True)]
        features = [torch.randn(5, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)]
        seen = views(features, logits)
        term = attached(detach=detach, max_width=max_width)(seen[:1], seen[1:], step())["domain"]
        grads = torch.autograd.grad(term, [*features, *logits], allow_unused=True)
        assert all(grad.any() for grad in grads[:2])
        assert all((grad is None) if detach else grad.any() for grad in grads[2:])


@pytest.mark.parametrize("detach", [True, False])
def test_strength_reverses_what_reaches_the_network_and_not_the_critic(detach):
    data = [torch.randn(5, 4), torch.randn(6, 4)], [torch.randn(5, 3), torch.randn(6, 3)]
    cdan, found = attached(gamma=1e4, detach=detach), {}
    for strength in (1.0, 2.5):
        cdan.strength = strength
        features, logits = ([x.clone().requires_grad_() for x in side] for side in data)
        seen = views(features, logits)
        term = cdan(seen[:1], seen[1:], step())["domain"]
        wanted = [*features, *([] if detach else logits)]
        found[strength] = [torch.autograd.grad(term, x, retain_graph=True) for x in (wanted, cdan.critic.parameters())]
    features, logits = ([x.clone().requires_grad_() for x in side] for side in data)
    judged = [cdan.judged(x) for x in views(features, logits)]
    plain = torch.stack([cdan.verdict(cdan.critic(h), x) for h, x in zip(judged, views(*data), strict=True)]).mean()
    wanted = [*features, *([] if detach else logits)]
    for strength, (network, critic) in found.items():
        for ours, theirs in zip(network, torch.autograd.grad(plain, wanted, retain_graph=True), strict=True):
            torch.testing.assert_close(ours, -strength * theirs)
        torch.testing.assert_close(critic, found[1.0][1])


@pytest.mark.parametrize("max_width", [4096, 0])
def test_sees_which_class_a_feature_is_said_to_be_where_dann_is_blind(max_width):
    """Both domains have the same features; the target calls them the other way round."""

    def batch(n: int = 32):
        features = [torch.randn(n, 4) for _ in range(2)]
        said = [features[0][:, 0], -features[1][:, 0]]
        return views(features, [4 * torch.stack([x, -x], 1) for x in said])

    seen = {}
    for kind, options in ((DANN, {}), (CDAN, {"max_width": max_width, "random_width": 64})):
        align = attached(kind, classes=2, strength=0.0, **options)
        optimiser = torch.optim.Adam(align.parameters(), 0.01)
        for _ in range(200):
            source, target = batch()
            optimiser.zero_grad()
            align((source,), (target,), step())["domain"].backward()
            optimiser.step()
        source, target = batch(500)
        align((source,), (target,), step())
        seen[kind] = align.monitors()["critic_accuracy"].item()
    assert seen[DANN] == pytest.approx(0.5, abs=0.06)
    assert seen[CDAN] > 0.9


def test_the_critic_learns_separable_domains_without_reversal():
    cdan = attached(domains=3, strength=0.0)
    optimiser = torch.optim.Adam(cdan.parameters(), 0.01)
    centres = 6 * torch.eye(3, 4)
    for _ in range(200):
        seen = views([torch.randn(16, 4) + c for c in centres], [torch.randn(16, 3) for _ in range(3)])
        optimiser.zero_grad()
        cdan(seen[:1], seen[1:], step())["domain"].backward()
        optimiser.step()
    seen = views([torch.randn(200, 4) + c for c in centres], [torch.randn(200, 3) for _ in range(3)])
    cdan(seen[:1], seen[1:], step())
    assert cdan.monitors()["critic_accuracy"] > 0.95


def test_a_cell_has_the_mean_probability_of_its_pixels():
    features, logits = torch.randn(2, 4, 2, 3), torch.randn(2, 5, 4, 6)
    p = logits.softmax(1).unfold(2, 2, 2).unfold(3, 2, 2).mean((-2, -1))
    torch.testing.assert_close(probabilities(view(features, 0, logits)), p.permute(0, 2, 3, 1).reshape(-1, 5))
    cdan = attached(classes=5)
    seen = views([features, torch.randn(1, 4, 3, 3)], [logits, torch.randn(1, 5, 3, 3)])
    assert cdan(seen[:1], seen[1:], step())["domain"].isfinite()


@pytest.mark.parametrize("scale", [1e3, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hard_batches_are_finite(scale, dtype):
    """Offset, identical and collapsed rows; predictions that are as sure as can be."""
    for features in (torch.randn(6, 4) + scale, torch.ones(6, 4), torch.zeros(6, 4)):
        f, g = features.to(dtype).requires_grad_(), (scale * torch.randn(6, 3)).to(dtype)
        seen = views([f, f], [g, g])
        term = attached()(seen[:1], seen[1:], step())["domain"]
        assert term.dtype == torch.float32
        assert term.isfinite()
        assert torch.autograd.grad(term, f)[0].isfinite().all()


def test_missing_numbers_are_refused():
    f, g = torch.randn(6, 4), torch.randn(6, 3)
    f[2, 1] = float("nan")
    seen = views([f, torch.randn(5, 4)], [g, torch.randn(5, 3)])
    with pytest.raises(
        ValueError, match="CDAN was given feature rows with NaN or infinite numbers: 1 of 6 in domain 0"
    ):
        attached()(seen[:1], seen[1:], step())


@pytest.mark.parametrize("options", [{"max_width": -1}, {"random_width": 0}, {"strength": -1.0}, {"weight": -1.0}])
def test_wrong_options_are_refused_at_construction(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        CDAN(**options)


def test_needs_classes_and_a_target():
    with pytest.raises(ValueError, match="number of classes"):
        CDAN().attach(nn.Identity(), Setup(4))
    with pytest.raises(ValueError, match="needs a target domain"):
        CDAN().attach(nn.Identity(), Setup(4, targets=0, classes=3))


def test_helps_where_only_one_feature_is_shifted():
    assert gain(lambda: CDAN(hidden=64))[0] > 0.1
