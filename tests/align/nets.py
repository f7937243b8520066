"""Small networks with batch norm that the tests of csn share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from eo_adapt.align import Setup
from eo_adapt.align.csn import CSN


def split(net: nn.Module, domains: int, affine: str = "shared") -> CSN:
    csn = CSN(affine)
    csn.needs_target = domains > 1  # one domain is plain batch norm
    csn.attach(net, Setup(3, 1, domains - 1))
    return csn


def deep() -> nn.Sequential:
    """Batch norms at two depths of nesting, gains and shifts away from 1 and 0."""
    net = nn.Sequential(
        nn.Linear(4, 6), nn.Sequential(nn.BatchNorm1d(6), nn.ReLU()), nn.BatchNorm1d(6), nn.Linear(6, 3)
    )
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return net


def fed(net: nn.Module, csn: CSN, domains: int, steps: int = 5) -> nn.Module:
    """Each domain has its own mean and spread."""
    for _ in range(steps):
        for domain in range(domains):
            with csn.scope(domain):
                net(torch.randn(32, 4) * (1 + domain) + 2 * domain)
    return net
