"""Every family of methods on the deepest map of a U-Net."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.encoders.timm_pyramid import TimmPyramid
from eo_adapt.heads.decoders import UNet
from eo_adapt.model import Model, Normalise
from eo_adapt.registry import build
from eo_adapt.types import Inputs, Observation


def images(x: Tensor) -> Inputs:
    return {"aerial": Observation(x)}


def steps(model: Model, method: Alignment, number: int = 2) -> list[dict[str, Tensor]]:
    """A plain loop over random images with random labels; the target is brighter and in another place."""
    method.attach(model, Setup(model.width, classes=3))
    trained = [p for p in (*model.parameters(), *method.parameters()) if p.requires_grad]
    optimizer, criterion, terms = torch.optim.SGD(trained, 1e-2), nn.CrossEntropyLoss(), []
    for i in range(number):
        lonlat = torch.tensor([[2.0, 48.0], [2.1, 48.1]]), torch.tensor([[7.0, 44.0], [7.1, 44.1]])
        labels = torch.randint(3, (2, 64, 64))
        batches: Any = ((images(torch.randn(2, 3, 64, 64)), labels),), ((images(torch.randn(2, 3, 64, 64) + 1),),)
        step = Step(model, criterion, method.scope, (i + 1) / number)
        sources, targets = method.edit(*batches, step)
        views = []
        for domain, batch in enumerate((sources[0], targets[0])):
            with method.scope(domain):
                out = model(batch[0])
            views.append(View(*out, batch[0], domain, batch[1] if domain == 0 else None, lonlat[domain]))
        assert views[0].features.shape == (2, model.width, 2, 2)
        found = method(tuple(views[:1]), tuple(views[1:]), step)
        loss = criterion(views[0].logits, views[0].labels) + sum(found.values())
        optimizer.zero_grad()
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is None or p.grad.isfinite().all() for p in trained)
        optimizer.step()
        method.after_step(model)
        terms.append(found)
    return terms


@pytest.mark.parametrize("name", ["csn", "coral", "dann", "mmd", "adabn", "geomt", "self_training"])
def test_methods_work_on_maps(name: str) -> None:
    torch.manual_seed(0)
    body = TimmPyramid({"aerial": 3}, backbone="test_resnet")
    widths = {"widths": (32, 16, 16, 8, 8)}
    model = Model(body, UNet(body, 3, **widths), Normalise({"aerial": ([0.1] * 3, [2.0] * 3)}))
    method = build("method", name)
    terms = steps(model, method)
    assert all(bool(found) is (name not in ("csn", "adabn")) for found in terms)
    model.eval()
    method.eval()
    x = images(torch.randn(2, 3, 64, 64))
    if method.settles:
        with torch.no_grad():
            method.settle(model, {}, {1: [x]})
    with torch.no_grad(), method.scope(1):
        wanted = method.predict(model, x)
        torch.testing.assert_close(method.export(model, 1)(x).logits, wanted)
    assert wanted.shape == (2, 3, 64, 64)
