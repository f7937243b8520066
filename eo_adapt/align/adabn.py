"""AdaBN: train on the source alone, then measure the batch-norm statistics of each target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import Alignment, Labelled, Place, Setup
from .csn import DomainNorm, in_domain, swap


class AdaBN(Alignment):
    """Replaces batch-norm statistics by the target's when a target is looked at; weights stay the source's.

    Training is source-only, bit for bit. Before a checkpoint is scored, each target's unlabelled adaptation samples
    pass once through the network, and every batch norm averages the statistics of those batches.

    Source: Li et al. 2017 (arXiv:1603.04779). Deviation: running averages over whole passes instead of the paper's
    online estimate; as many targets as there are, each with statistics of its own.
    """

    settles = True
    place: ClassVar[Place] = "swaps"
    _settled: Tensor

    def __init__(self) -> None:
        super().__init__()

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if any(isinstance(layer, DomainNorm) for layer in model.modules()):
            raise ValueError("AdaBN and CSN both keep statistics per domain; use one of them")
        if not swap(model, _BatchNorm, lambda norm: DomainNorm(norm, setup.domains)):
            raise ValueError(
                "AdaBN found no BatchNorm layer in the network; take one that has some (command line: encoder=pse_ltae)"
            )
        self.register_buffer("_settled", torch.zeros(setup.domains, dtype=torch.bool))

    def scope(self, domain: int) -> AbstractContextManager[None]:
        """The first domain's statistics, which all sources share, until a target has its own."""
        own = not self.training and bool(self._settled[domain])
        return in_domain(domain if own else 0)

    def settle(
        self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]], targets: Mapping[int, Iterable[Any]]
    ) -> None:
        layers = [layer for layer in model.modules() if isinstance(layer, DomainNorm)]
        for domain, batches in targets.items():
            norms = [cast(_BatchNorm, layer.norms[domain]) for layer in layers]
            with _averaging(norms):
                for inputs in batches:
                    with in_domain(domain):  # inside whatever scope the batch came in
                        model(inputs)
            self._settled[domain] = True

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int) -> nn.Module:
        kept = domain if self._settled[domain] else 0
        plain = super().export(model, domain)
        swap(plain, DomainNorm, lambda norm: norm.fold(kept))
        return plain


@contextmanager
def _averaging(norms: list[_BatchNorm]) -> Iterator[None]:
    """Inside, these layers average the statistics of what passes; the rest of the network stays as it is."""
    before = [(norm.momentum, norm.training) for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative: every batch counts alike
        norm.train()
    try:
        yield
    finally:
        for norm, (momentum, training) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.train(training)
