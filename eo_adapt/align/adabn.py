"""AdaBN: train on the source alone, then measure the batch-norm statistics of each target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import Alignment, Labelled, Place, Setup
from .csn import DomainNorm, check_fresh, in_domain, swap, taking_statistics


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
        check_fresh(model)
        if not swap(model, _BatchNorm, lambda norm: DomainNorm(norm, setup.domains)):
            raise ValueError(
                "AdaBN found no BatchNorm layer in the network; take one that has some (command line: encoder=pse_ltae)"
            )
        self.register_buffer("_settled", torch.zeros(setup.domains, dtype=torch.bool))
        self._sources = setup.sources
        self._network = (model,)  # in a tuple: it is looked at, and no part of this module

    def scope(self, domain: int) -> AbstractContextManager[None]:
        """In training the first domain's statistics, which all sources share; else a target's own.

        Training means that the method and the network are both in train mode, as they are at each forward pass:
        ``model.eval()`` is enough.

        Raises:
            RuntimeError: By the forward pass, if a target is looked at that has not settled.
        """
        self.check_domain(domain)
        return in_domain(lambda: 0 if self.training and self._network[0].training else self._statistics(domain))

    def _statistics(self, domain: int) -> int:
        """Whose statistics a domain is predicted with."""
        if domain < self._sources:
            return 0
        if not self._settled[domain]:
            raise RuntimeError(
                f"AdaBN has not measured the statistics of domain {domain} yet: call alignment.settle(model, {{}}, "
                f"{{{domain}: batches of its inputs}}) after training (scope(0) gives the source's; in a stack, adabn "
                "comes before what settles, too)"
            )
        return domain

    @torch.no_grad()
    def settle(
        self, model: nn.Module, sources: Mapping[int, Iterable[Labelled]], targets: Mapping[int, Iterable[Any]]
    ) -> None:
        """Measure the statistics of targets anew; each target's are kept as they were if its pass fails.

        Args:
            model: The network that was attached, in any mode.
            sources: Not looked at.
            targets: Number of each target domain -> batches of its inputs.

        Raises:
            LookupError: If a number is no target's.
            ValueError: If there are no batches, or a statistic comes out NaN or infinite.
        """
        settled = self._settled  # first: before attach there is none, and that is said
        layers = [layer for layer in model.modules() if isinstance(layer, DomainNorm)]
        if not layers:
            raise ValueError("AdaBN.settle needs the network that it was attached to; this one's batch norms are plain")
        if not targets:
            raise ValueError("AdaBN.settle was given no target; give {number of the target: batches of its inputs}")
        for domain, batches in targets.items():
            self.check_domain(domain, target=True)
            norms = [cast(_BatchNorm, layer.norms[domain]) for layer in layers]
            with _averaging(model, norms), taking_statistics():
                count = 0
                for count, inputs in enumerate(batches, 1):
                    with in_domain(domain):  # inside whatever scope the batch came in
                        model(inputs)
                    _check(norms, domain, count)
                if not count:
                    raise ValueError(
                        f"AdaBN.settle was given no batch of domain {domain}; give at least one (a generator that was "
                        "used up gives none)"
                    )
            settled[domain] = True

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int) -> nn.Module:
        plain = super().export(model, domain)
        kept = self._statistics(domain)
        swap(plain, DomainNorm, lambda norm: norm.fold(kept))
        return plain


def _check(norms: list[_BatchNorm], domain: int, count: int) -> None:
    """Refuse statistics that a batch has spoilt."""
    statistics = [x for norm in norms for x in (norm.running_mean, norm.running_var) if x is not None]
    if statistics and not torch.stack([x.isfinite().all() for x in statistics]).all():
        raise ValueError(
            f"batch {count} of domain {domain} makes batch-norm statistics NaN or infinite, and AdaBN would predict "
            "with them: leave those samples out, or mask what is missing in them. The statistics from before are kept"
        )


@contextmanager
def _averaging(model: nn.Module, norms: list[_BatchNorm]) -> Iterator[None]:
    """Inside, these layers average the statistics of what passes, and all others are in eval mode.

    Afterwards modes are as they were; after an error, statistics are, too.
    """
    modes = [(layer, layer.training) for layer in model.modules()]
    momenta = [norm.momentum for norm in norms]
    buffers = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative: every batch counts alike
        norm.train()
    try:
        yield
    except BaseException:
        for buffer, before in buffers:
            buffer.copy_(before)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for layer, mode in modes:
            layer.training = mode
