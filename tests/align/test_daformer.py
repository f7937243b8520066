"""DAFormer: the feature distance against numpy, where it is taken, and that it is off unless asked for."""

import numpy as np
import pytest
import torch
from test_dacs import STILL, Pixels, step
from torch import Tensor, nn

from eo_adapt.align import Setup, View
from eo_adapt.align.dacs import DAFormer


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def attached(model: nn.Module, **options) -> DAFormer:
    method = DAFormer(**{"strong": STILL, **options})
    method.attach(model, Setup(3, 1, 1, 3, ("building", "road", "forest")))
    return method


def views(model: nn.Module, labels: Tensor | None = None) -> tuple[tuple[View], tuple[View]]:
    x = torch.randn(2, 3, 4, 4)
    y = torch.randint(3, (2, 4, 4)) if labels is None else labels
    features, logits = model(x)
    return (View(features, logits, x, 0, y),), (View(features, logits, x, 1),)


def test_without_pretraining_it_is_dacs():
    model = Pixels()
    method = attached(model)
    assert set(method(*views(model), step(model))) == {"mixed"}
    assert not any("frozen" in name for name in method.state_dict())


def test_with_pretraining_the_start_is_kept_and_no_step_moves_it():
    model = Pixels()
    method, before = attached(model, pretrained=True), model.conv.weight.detach().clone()
    with torch.no_grad():
        model.conv.weight += 0.3
    for _ in range(3):
        method.after_step(model)
    assert torch.equal(method.frozen.network.conv.weight, before)
    assert not torch.equal(method.teacher.network.conv.weight, before)
    model.seen.clear()
    given = views(model)
    assert set(method(*given, step(model))) == {"mixed", "distance"}
    networks = (model, method.teacher.network, method.frozen.network)
    assert [len(network.seen) for network in networks] == [2, 1, 1], "one more forward pass a source"


def test_the_distance_equals_numpy_over_all_that_is_labelled():
    model = Pixels()
    method = attached(model, pretrained=True, distance=0.5, weight=2.0)
    with torch.no_grad():
        model.conv.weight += torch.randn_like(model.conv.weight)
    labels = torch.randint(-1, 3, (2, 4, 4))
    sources, targets = views(model, labels)
    far = np.linalg.norm((sources[0].features - sources[0].inputs).detach().numpy(), axis=1)
    found = method(sources, targets, step(model))["distance"]
    assert found.item() == pytest.approx(2.0 * 0.5 * far[labels.numpy() >= 0].mean(), rel=1e-5)
    assert torch.autograd.grad(found, model.conv.weight)[0].abs().sum() > 0


def test_only_cells_of_which_three_quarters_are_things_count():
    model = Pixels()
    method = attached(model, pretrained=True, distance=1.0, things=["road"])
    with torch.no_grad():
        model.conv.weight *= 2
    labels = torch.zeros(1, 4, 4).long()
    labels[0, :2, :2] = torch.tensor([[1, 1], [1, 0]])  # three of four
    labels[0, 2:, 2:] = torch.tensor([[1, 1], [0, 2]])  # half
    x = torch.randn(1, 3, 2, 2)
    features = model(x)[0]
    view = View(features, torch.randn(1, 3, 4, 4), x, 0, labels)
    found = method._far(view, labels, step(model))
    torch.testing.assert_close(found, x[0, :, 0, 0].norm())
    assert method._far(view, torch.zeros_like(labels), step(model)) == 0


def test_the_first_step_has_no_distance_and_a_finite_gradient():
    model = Pixels()
    found = attached(model, pretrained=True)(*views(model), step(model))["distance"]
    assert found == 0
    assert torch.autograd.grad(found, model.conv.weight)[0].isfinite().all()


def test_unknown_things_and_impossible_factors_are_refused():
    with pytest.raises(ValueError, match=r"daformer\.things names \['pool'\]; the classes are \['building', 'road'"):
        attached(Pixels(), things=["pool"])
    with pytest.raises(ValueError, match=r"DAFormer\.distance"):
        DAFormer(distance=-1.0)
