"""Methods that parcels know already, on image batches (B, 3, 32, 32) with label maps of which some is unknown."""

import pytest
import torch
from blobs import SmallNet, World
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View
from eo_adapt.registry import build

NAMES = ("fda", "self_training", "csn", "geomt", "coral", "dann", "mmd", "entropy", "adabn", "label_shift")


class Halved(SmallNet):
    """Features at half the images' resolution, as encoders have them; batch norm for csn."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3, 1, 1)
        self.encoder = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(x)
        return features, nn.functional.interpolate(self.head(features), scale_factor=2.0)


def trained(align: Alignment, steps: int = 3) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    model, criterion = Halved(), nn.CrossEntropyLoss(ignore_index=-1)
    align.attach(model, Setup(8, 1, 1, 3))
    parameters = [p for p in (*model.parameters(), *align.parameters()) if p.requires_grad]
    optimiser, losses = torch.optim.Adam(parameters, 0.01), []
    for number in range(steps):
        (xs, ys), (xt, _) = World().draw(3, 32), World(offset=(1.0, 0.0, 0.0)).draw(5, 32)
        ys[:, :4, :4] = -1
        step = Step(model, criterion, align.scope, 0.5 + number / steps / 2)
        ((xs, ys),), (xt,) = align.edit(((xs, ys),), (xt,), step)
        assert ys.shape == (3, 32, 32)
        views = []
        for domain, (x, labels) in enumerate(((xs, ys), (xt, None))):
            with align.scope(domain):
                views.append(View(*model(x), x, domain, labels, torch.rand(len(x), 2) * 50))
        terms = align(tuple(views[:1]), tuple(views[1:]), step)
        loss = criterion(views[0].logits, ys) + sum(terms.values(), start=torch.zeros(()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        align.after_step(model)
        losses.append(loss.item())
    return model.eval(), losses


@pytest.mark.parametrize("name", NAMES)
def test_maps_train_and_are_predicted_in_full_size(name):
    align = build("method", name)
    model, losses = trained(align)
    assert all(torch.tensor(losses).isfinite())
    x = World().draw(2, 32)[0]
    if align.settles:
        align.settle(model, {0: [World().draw(8, 32)]}, {1: [World(offset=(1.0, 0.0, 0.0)).draw(8, 32)[0]]})
    with torch.no_grad(), align.scope(1):
        predicted = align.predict(model, x)
        plain = align.export(model, 1)
    assert predicted.shape == (2, 3, 32, 32)
    torch.testing.assert_close(plain(x)[1], predicted)
