"""CSN: cross-sensor normalisation, one set of batch-norm statistics a domain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import Alignment, Place, Setup, check_choice

Affine = Literal["shared", "per_domain"]
AFFINES = ("shared", "per_domain")

# One value for every DomainNorm, so that deep copies (an EMA teacher) follow the same scope.
_domain: ContextVar[int | None] = ContextVar("domain", default=None)


class DomainNorm(nn.Module):
    """A batch norm (1d, 2d, 3d, Sync) that keeps one set of statistics a domain.

    Args:
        norm: The layer to split. Its running statistics become those of every domain.
        domains: Number of domains.
        affine: ``shared`` gain and shift for all domains, or ``per_domain``.
    """

    def __init__(self, norm: _BatchNorm, domains: int, affine: Affine = "shared") -> None:
        super().__init__()
        self.shared = affine == "shared" and norm.affine
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in range(domains))
        if self.shared:  # the very same Parameter in each: one tensor for the optimiser
            for other in self.norms:
                other.weight, other.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        domain = _domain.get()
        if domain is None:
            raise RuntimeError(
                "this network keeps batch-norm statistics per domain and does not know which one it is looking at: "
                "wrap the call in `with alignment.scope(domain):`, or use `alignment.export(model, domain)`"
            )
        normed: Tensor = self.norms[domain](x)
        return normed

    def fold(self, domain: int) -> _BatchNorm:
        """The plain batch norm of one domain: same outputs in eval mode."""
        return cast(_BatchNorm, copy.deepcopy(self.norms[domain]))


def swap(model: nn.Module, kind: type[nn.Module], build: Callable[[Any], nn.Module]) -> int:
    """Replace every layer of a kind; a layer that stands in several places stays one. Returns how many there were."""
    swapped: dict[nn.Module, nn.Module] = {}
    for parent in list(model.modules()):
        for name, child in parent._modules.items():  # named_children hides the second name of a layer
            if isinstance(child, kind):
                swapped[child] = swapped[child] if child in swapped else build(child)
                setattr(parent, name, swapped[child])
    return len(swapped)


@contextmanager
def in_domain(domain: int) -> Iterator[None]:
    """Inside, every :class:`DomainNorm` uses the statistics of this domain."""
    token = _domain.set(domain)
    try:
        yield
    finally:
        _domain.reset(token)


class CSN(Alignment):
    """Splits every batch norm of the network by domain.

    Source: Wang et al. 2022 (LoveCS, Remote Sensing of Environment 277) for the idea; Chang et al. 2019
    (arXiv:1906.03950) and Li et al. 2017 (AdaBN, arXiv:1603.04779) for per-domain statistics. Deviation from LoveCS:
    any number of domains.

    Args:
        affine: ``shared`` (only statistics differ) or ``per_domain`` gain and shift. The affine of an unlabelled
            domain gets a gradient only from alignment terms.
    """

    place: ClassVar[Place] = "swaps"
    needs_target = True  # statistics of a domain are gathered while training looks at it

    def __init__(self, affine: Affine = "shared") -> None:
        super().__init__()
        check_choice("csn.affine", affine, AFFINES)
        self.affine = affine

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if not swap(model, _BatchNorm, lambda norm: DomainNorm(norm, setup.domains, self.affine)):
            raise ValueError(
                "CSN found no BatchNorm layer to split; choose an encoder with batch norm (e.g. encoder=pse_ltae)"
            )

    def scope(self, domain: int) -> AbstractContextManager[None]:
        return in_domain(domain)

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int) -> nn.Module:
        plain = copy.deepcopy(model)
        swap(plain, DomainNorm, lambda norm: norm.fold(domain))
        return plain
