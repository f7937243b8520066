"""A trap: where the target's labels contradict the source's, no method may come out well."""

from __future__ import annotations

import pytest
import torch
from bench import METHODS, make
from torch import Tensor, nn

from eo_adapt.align import Alignment, Setup, Step, View

STEPS, BLIND = 60, {"target_only", "few_shot", "stack"}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        features = self.encoder(x)
        return features, self.head(features)


def blobs(rows: int, contradicted: bool) -> tuple[Tensor, Tensor]:
    """Two classes apart in the first column, three columns of noise; contradicted: the classes have changed places."""
    labels = torch.randint(2, (rows,))
    x = torch.cat([(2.0 * labels - 1)[:, None] + 0.2 * torch.randn(rows, 1), torch.randn(rows, 3)], 1)
    return x, 1 - labels if contradicted else labels


def fitted(align: Alignment) -> tuple[Net, float, float]:
    """Network, source accuracy, target accuracy."""
    torch.manual_seed(0)
    net, criterion = Net(), nn.CrossEntropyLoss()
    align.attach(net, Setup(8, 2, 1, 2))
    trained = [p for p in (*net.parameters(), *align.parameters()) if p.requires_grad]
    optimiser = torch.optim.Adam(trained, 5e-3)
    for number in range(STEPS):
        step = Step(net, criterion, align.scope, number / STEPS)
        batches = [blobs(32, False), blobs(32, False), blobs(32, True)]
        views = []
        for domain, (x, y) in enumerate(batches[: 3 if align.needs_target else 2]):
            with align.scope(domain):
                views.append(View(*net(x), x, domain, y if domain < 2 else None, torch.zeros(32, 2)))
        task = torch.stack([criterion(v.logits, v.labels) for v in views[:2]]).mean()
        optimiser.zero_grad()
        (task + sum(align(tuple(views[:2]), tuple(views[2:]), step).values())).backward()
        optimiser.step()
        align.after_step(net)
    net.eval()
    align.eval()
    if align.settles:
        with torch.no_grad():
            align.settle(net, {0: [blobs(200, False)], 1: [blobs(200, False)]}, {2: [blobs(400, True)[0]]})
    return net, accuracy(net, align, 0, False), accuracy(net, align, 2, True)


def accuracy(net: Net, align: Alignment, domain: int, contradicted: bool) -> float:
    x, y = blobs(400, contradicted)
    with align.scope(domain), torch.set_grad_enabled(align.learns_at_test):
        return float((align.predict(net, x).argmax(1) == y).float().mean())


@pytest.mark.parametrize("name", [n for n in METHODS if n not in BLIND])
def test_nobody_succeeds_where_the_target_contradicts_the_source(name: str) -> None:
    _, source, target = fitted(make(name))
    assert source > 0.9, "the trap only counts for a method that learnt the source"
    assert target < 0.5, "without target labels this score cannot have been earned"
