"""Group DRO: algorithm 1 in numpy, its limits in eta, many steps, accumulation, and the worst source."""

import numpy as np
import pytest
import torch
from intervals import interval
from sources import CRITERION, Net, coloured, step_of, train, view
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.groupdro import GroupDRO, raised
from eo_adapt.align.source_only import SourceOnly


def attached(sources: int = 3, **options: float) -> GroupDRO:
    align = GroupDRO(**options)
    align.attach(nn.Linear(2, 2), Setup(0, sources, 0))
    return align


def views(seed: int, sources: int = 3):
    draw = torch.Generator().manual_seed(seed)
    return tuple(
        view(3 * i * torch.randn(8 + i, 3, generator=draw), torch.randint(3, (8 + i,), generator=draw), i)
        for i in range(sources)
    )


def losses(seen) -> np.ndarray:
    return np.array([CRITERION(v.logits.double(), v.labels).item() for v in seen])


def test_follows_algorithm_1():
    align, q, eta = attached(eta=0.3), np.full(3, 1 / 3), 0.3
    for number in range(5):
        seen = views(number)
        risk = losses(seen)
        q = q * np.exp(eta * risk)
        q /= q.sum()
        term = align(seen, (), step_of(nn.Identity()))["groupdro"].item()
        assert term == pytest.approx((q * risk).sum() - risk.mean(), rel=1e-4, abs=1e-5)
        align.after_step(nn.Identity())
        np.testing.assert_allclose(align.log_q.exp().numpy(), q, rtol=1e-4)


def test_eta_zero_is_the_mean_and_a_large_eta_the_maximum():
    seen = views(1)
    risk = losses(seen)
    assert attached(eta=0.0)(seen, (), step_of(nn.Identity()))["groupdro"].item() == pytest.approx(0, abs=1e-5)
    term = attached(eta=1e4)(seen, (), step_of(nn.Identity()))["groupdro"].item()
    assert term == pytest.approx(risk.max() - risk.mean(), rel=1e-4)


def test_weights_are_constants_for_the_gradient():
    risks = [torch.tensor([[0.0, z]], requires_grad=True) for z in (1.0, -1.0)]
    align = attached(2, eta=1.0)
    align(tuple(view(z, torch.tensor([0]), i) for i, z in enumerate(risks)), (), step_of(nn.Identity()))[
        "groupdro"
    ].backward()
    p = torch.tensor([1.0, -1.0]).sigmoid()  # of the wrong class: d loss / d z
    q = raised(torch.zeros(2), -(1 - p).log(), 1.0).exp()
    torch.testing.assert_close(torch.stack([z.grad[0, 1] for z in risks]), (q - 0.5) * p)


def test_a_hundred_thousand_steps_stay_finite():
    log_q, risks = torch.full((3,), 1 / 3).log(), torch.tensor([1.0, 2.0, 3.0])
    for _ in range(100_000):
        log_q = raised(log_q, risks, 0.05)
    assert log_q.isfinite().all()
    torch.testing.assert_close(log_q.exp(), torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(raised(log_q, torch.tensor([1e6, 0.0, 0.0]), 1.0).exp(), torch.tensor([1.0, 0.0, 0.0]))


def test_accumulation_moves_the_weights_once_by_the_mean_risk():
    parts, whole = attached(eta=0.5), attached(eta=0.5)
    seen = [views(number) for number in range(4)]
    for one in seen:
        before = parts.log_q.clone()
        parts(one, (), step_of(nn.Identity()))
        assert torch.equal(parts.log_q, before), "moved before the optimiser did"
    parts.after_step(nn.Identity())
    expected = raised(whole.log_q, torch.tensor(np.mean([losses(one) for one in seen], 0)).float(), 0.5)
    torch.testing.assert_close(parts.log_q, expected, rtol=1e-4, atol=1e-5)
    kept = parts.log_q.clone()
    parts.after_step(nn.Identity())
    assert torch.equal(parts.log_q, kept), "one batch counted twice"


def test_the_weights_are_in_the_state():
    one, other = attached(eta=0.5), attached(eta=0.5)
    one(views(3), (), step_of(nn.Identity()))
    one.after_step(nn.Identity())
    assert not torch.equal(one.log_q, other.log_q)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.log_q, other.log_q)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"eta": -1.0}, "eta must be"), ({"eta": float("inf")}, "eta must be"), ({"weight": 1.5}, r"<= 1; got 1\.5")],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        GroupDRO(**options)


def test_one_source_is_refused():
    with pytest.raises(ValueError, match=r"GroupDRO .* at least 2 sources; got 1"):
        attached(1)


def worst(align, seed: int) -> float:
    """Highest risk of three sources, of which the third contradicts the other two."""
    torch.manual_seed(seed)
    model = Net(2)
    sources = [coloured(400, agree, 10 * seed + i) for i, agree in enumerate((0.9, 0.9, 0.1))]
    train(align, model, [sources] * 150)
    return max(CRITERION(model(x)[1], y).item() for x, y in sources)


def test_the_worst_source_gets_better():
    gains = [worst(SourceOnly(), seed) - worst(GroupDRO(eta=0.1), seed) for seed in range(3)]
    assert interval(gains)[0] > 0.05, gains
