"""Three classes under two sensors, and a network with batch norm that has learnt them under the first."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eo_adapt.align import Alignment, Setup
from eo_adapt.align.tent import Tent

CLASSES = 3
CENTRES = 1.5 * torch.eye(CLASSES, 4)


class Net(nn.Module):
    def __init__(self, maps: bool = False):
        super().__init__()
        layer, norm = (conv, nn.BatchNorm2d) if maps else (nn.Linear, nn.BatchNorm1d)
        self.encoder = nn.Sequential(layer(4, 16), norm(16), nn.ReLU(), layer(16, 8), norm(8), nn.ReLU())
        self.head = layer(8, CLASSES)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def conv(width: int, out: int) -> nn.Module:
    return nn.Conv2d(width, out, 1)


def samples(n: int, shifted: bool = False) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    x = CENTRES[labels] + 0.4 * torch.randn(n, 4)
    if shifted:  # another sensor: mixed bands, a gain and an offset
        x = (x + 0.45 * x.roll(1, 1)) * torch.tensor([3.0, 0.4, 1.5, 1.0]) + torch.tensor([1.0, -2.0, 0.5, 3.0])
    return x, labels


def trained(align: Alignment | None = None, sources: int = 1, targets: int = 1) -> tuple[Net, Alignment]:
    """A network fitted to the source; the target passes, too, where the method keeps statistics of it."""
    net, align = Net(), align or Tent()
    align.attach(net, Setup(8, sources, targets, CLASSES))
    optimiser = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(80):
        x, y = samples(120)
        with align.scope(0):
            loss = F.cross_entropy(net(x)[1], y)
        if align.needs_target:
            with torch.no_grad(), align.scope(1):
                net(samples(120, shifted=True)[0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    align.eval()
    return net, align


def answers(net: nn.Module, align: Alignment, x: Tensor, domain: int) -> Tensor:
    with align.scope(domain):
        return align.predict(net, x).detach()


def frozen(*modules: nn.Module) -> list[Tensor]:
    return [x.clone() for module in modules for x in module.state_dict().values()]
