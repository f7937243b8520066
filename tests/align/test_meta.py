"""Inputs of any kind, descent beside the network, and which parameters are the head."""

from collections import OrderedDict
from typing import NamedTuple

import pytest
import torch
from sources import CRITERION, Net, scope, step_of
from torch import nn

from eo_adapt.align import Setup
from eo_adapt.align.csn import CSN
from eo_adapt.align.meta import behind, descend, each, halves, head_of, learn, logits_of, take, trained
from eo_adapt.registry import build
from eo_adapt.types import Observation


class Pair(NamedTuple):
    image: torch.Tensor
    name: str


def test_take_picks_samples_of_any_nesting():
    x, at = torch.arange(12.0).view(6, 2), torch.tensor([4, 1])
    look = Observation(x, days=x[:, :1], valid=None)
    nested = {"s2": look, "other": [x, (x, None)], "pair": Pair(x, "a")}
    found = take(nested, at)
    assert torch.equal(take(x, at), x[at])
    assert torch.equal(found["s2"].values, x[at])
    assert torch.equal(found["s2"].days, x[at, :1])
    assert found["s2"].valid is None
    assert torch.equal(found["other"][1][0], x[at])
    assert found["other"][1][1] is None
    assert isinstance(found["pair"], Pair)
    assert found["pair"].name == "a"
    assert torch.equal(nested["s2"].values, x), "the original was changed"
    assert torch.equal(each(OrderedDict(a=x), torch.neg)["a"], -x)


def test_halves_are_disjoint_random_and_complete():
    torch.manual_seed(0)
    found = [halves(9, torch.device("cpu")) for _ in range(3)]
    for first, second in found:
        assert sorted([*first.tolist(), *second.tolist()]) == list(range(9))
        assert abs(len(first) - len(second)) == 1
    assert len({tuple(first.tolist()) for first, _ in found}) > 1
    with pytest.raises(ValueError, match="two halves; got 1 sample"):
        halves(1, torch.device("cpu"))


def net() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU())
    return Wrapped(body, nn.Linear(6, 2))


class Wrapped(nn.Module):
    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x):
        features = self.body(x)
        return features, self.head(features)


@pytest.mark.parametrize("exact", [False, True])
def test_a_step_is_gradient_descent_and_moves_nothing_of_the_network(exact):
    model, x, y = net(), torch.randn(8, 3), torch.tensor([0, 1] * 4)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = trained(model)
    moved = descend(weights, CRITERION(logits_of(model, weights, x), y), 0.5, exact)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items()), "running statistics?"
    assert all(p.grad is None for p in model.parameters())
    optimiser = torch.optim.SGD(model.parameters(), 0.5)
    CRITERION(model(x)[1], y).backward()
    optimiser.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(moved[name], p)


def test_first_order_passes_gradients_on_as_they_are_and_exact_through_the_step():
    """loss w^3 / 3 at w = 2: a step of 0.1 leads to w - 0.1 w^2, whose derivative is 1 - 0.2 w = 0.6."""
    for exact, slope in ((False, 1.0), (True, 0.6)):
        w = torch.tensor(2.0, requires_grad=True)
        moved = descend({"w": w}, w**3 / 3, 0.1, exact)["w"]
        assert moved.item() == pytest.approx(1.6)
        assert torch.autograd.grad(moved, w)[0].item() == pytest.approx(slope)


def test_descend_moves_only_what_it_is_told():
    model, x, y = net(), torch.randn(8, 3), torch.tensor([0, 1] * 4)
    weights = trained(model)
    moved = descend(weights, CRITERION(logits_of(model, weights, x), y), 0.5, only={"head.weight"})
    assert [name for name in weights if not torch.equal(moved[name], weights[name])] == ["head.weight"]


def test_batches_are_normalised_by_their_own_statistics():
    model, x = net(), 5 + 3 * torch.randn(16, 3)
    logits = logits_of(model, trained(model), x)
    torch.testing.assert_close(logits, model(x)[1])
    model.eval()
    torch.testing.assert_close(logits_of(model, trained(model), x), model(x)[1])


def test_works_for_recurrent_networks_and_half_precision_inputs():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            features = self.gru(x)[0][:, -1]
            return features, self.head(features)

    model, x = Recurrent(), torch.randn(5, 6, 3)
    weights = {name: 0 * p for name, p in trained(model).items()}
    assert logits_of(model, weights, x).abs().max() == 0
    assert logits_of(model, trained(model), x.bfloat16()).dtype == torch.float32


def test_the_head_is_what_lies_behind_the_features():
    model, x = net(), torch.randn(4, 3)
    features, logits = model(x)
    assert behind(features, logits, trained(model)) == {"head.weight", "head.bias"}
    model.body.requires_grad_(False)
    assert behind(*model(x), trained(model)) == {"head.weight", "head.bias"}
    with pytest.raises(ValueError, match="no trained parameter lies behind the features"):
        behind(logits, logits, trained(model))


def test_norms_of_other_domains_are_no_part_of_the_head():
    model, csn, x = net(), CSN("per_domain"), torch.randn(4, 3)
    csn.attach(model, Setup(6, 1, 1, 2))
    with csn.scope(1):
        features, logits = model(x)
    assert behind(features, logits, trained(model)) == {"head.weight", "head.bias"}


def test_head_of_and_learn_touch_the_head_alone():
    model, x, y = net().eval(), torch.randn(6, 3), torch.tensor([0, 1] * 3)
    step, shots = step_of(model), {2: (x, y)}
    head = head_of(model, shots, step)
    assert {id(p) for p in head} == {id(p) for p in model.head.parameters()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():  # as an evaluator may call it
        learn(model, shots, step, torch.optim.SGD(head, 0.1), 5, 100)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}
    assert all(p.grad is None for p in model.parameters())


def test_learn_takes_the_mean_over_domains_and_enters_their_scopes():
    model, entered = Net(2).eval(), []
    shots = {i: (torch.randn(4 + i, 2), torch.randint(2, (4 + i,))) for i in (2, 3)}

    def noted(domain):
        entered.append(domain)
        return scope(domain)

    expected = torch.stack([CRITERION(model(x)[1], y) for x, y in shots.values()]).mean()
    grads = torch.autograd.grad(expected, list(model.parameters()))
    after = [p.detach() - 0.5 * g for p, g in zip(model.parameters(), grads, strict=True)]
    step = step_of(model)
    step = type(step)(model, CRITERION, noted, 1.0)
    learn(model, shots, step, torch.optim.SGD(model.parameters(), 0.5), 1, 100)
    assert entered == [2, 3]
    for p, value in zip(model.parameters(), after, strict=True):
        torch.testing.assert_close(p.detach(), value)


def test_learn_draws_at_most_so_many_samples():
    seen = []
    model = Net(2)
    model.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    x = torch.arange(20.0).view(10, 2)
    learn(model, {0: (x, torch.zeros(10).long())}, step_of(model), torch.optim.SGD(model.parameters(), 0.1), 4, 3)
    assert {len(batch) for batch in seen} == {3}
    assert len({tuple(batch[:, 0].tolist()) for batch in seen}) > 1


@pytest.mark.parametrize("name", ["groupdro", "mldg", "fomaml", "anil"])
def test_a_share_of_the_task_loss_is_at_most_all_of_it(name):
    assert build("method", name, weight=1.0).weight == 1
    with pytest.raises(ValueError, match=r"weight must be a finite number >= 0 and <= 1; got 1\.01"):
        build("method", name, weight=1.01)
