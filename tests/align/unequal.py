"""Three classes that look the same in every domain and differ only in their shares; a small network for them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eo_adapt.align import Alignment

EQUAL, UNEQUAL = (1 / 3, 1 / 3, 1 / 3), (0.05, 0.9, 0.05)
CENTRES = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.7]])


def draw(shares: tuple[float, ...], n: int, spread: float = 0.5) -> tuple[Tensor, Tensor]:
    """Each class looks the same everywhere; only shares differ."""
    labels = torch.multinomial(torch.tensor(shares), n, replacement=True)
    return CENTRES[labels] + spread * torch.randn(n, 2), labels


class Net(nn.Module):
    def __init__(self, norm: bool = False):
        super().__init__()
        layers = [nn.Linear(2, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.ReLU(), nn.Linear(16, 8), nn.ReLU()]
        self.encoder, self.head = nn.Sequential(*layers), nn.Linear(8, 3)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def answers(net: nn.Module, align: Alignment, x: Tensor, domain: int = 1) -> Tensor:
    with torch.no_grad(), align.scope(domain):
        return align.predict(net, x)
