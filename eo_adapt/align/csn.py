"""CSN: cross-sensor normalisation, one set of batch-norm statistics a domain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from numbers import Integral
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .base import Alignment, NotAttachedError, Place, Setup
from .options import check_choice

Affine = Literal["shared", "per_domain"]
AFFINES = ("shared", "per_domain")
Network = TypeVar("Network", bound=nn.Module)

Domain = int | str  # position or name
P = ParamSpec("P")
T = TypeVar("T")

# One value for every DomainNorm, so that deep copies (an EMA teacher) follow the same scope. A function is asked at
# every forward pass.
_domain: ContextVar[Domain | Callable[[], Domain] | None] = ContextVar("domain", default=None)


def number_of(domain: int | str, names: Sequence[str]) -> int:
    """Position of a domain that is given by position or name.

    Raises:
        LookupError: If there is no such domain; lists those there are. Negative positions do not count from the end.
    """
    if isinstance(domain, str) and domain in names:
        return list(names).index(domain)
    if isinstance(domain, Integral) and 0 <= domain < len(names):
        return int(domain)
    raise LookupError(f"there is no domain {domain!r}; the network was split for {dict(enumerate(names))}")


class DomainNorm(nn.Module):
    """A batch norm (1d, 2d, 3d, Sync) that keeps one set of statistics a domain.

    Args:
        norm: The layer to split. Its running statistics become those of every domain.
        domains: Names of the domains, or their number.
        affine: ``shared`` gain and shift for all domains, or ``per_domain``.
    """

    def __init__(self, norm: _BatchNorm, domains: int | Sequence[str], affine: Affine = "shared") -> None:
        super().__init__()
        self.names = tuple(map(str, range(domains)) if isinstance(domains, int) else domains)
        self.shared = affine == "shared" and norm.affine
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in self.names)
        if self.shared:  # the very same Parameter in each: one tensor for the optimiser
            for other in self.norms:
                other.weight, other.bias = norm.weight, norm.bias

    def active(self) -> int:
        """Position of the domain whose scope is entered."""
        domain = _domain.get()
        if domain is None:
            raise RuntimeError(
                "this network keeps batch-norm statistics per domain and does not know which one it is looking at: "
                "wrap the forward pass in `with alignment.scope(domain):`, or use `alignment.export(model, domain)`. "
                "If this came up in backward(), activation checkpointing runs the forward pass again outside of the "
                "scope: call `checkpoint(csn.in_this_scope(block), x)` instead of `checkpoint(block, x)`, and leave "
                "backward() outside of any scope"
            )
        return number_of(domain() if callable(domain) else domain, self.names)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norms[self.active()](x)
        return normed

    def fold(self, domain: int) -> _BatchNorm:
        """The plain batch norm of one domain: same outputs in eval mode."""
        return cast(_BatchNorm, copy.deepcopy(self.norms[number_of(domain, self.names)]))


@contextmanager
def taking_statistics() -> Iterator[None]:
    """Inside, batch norm that gets one value a channel says so for people.

    Raises:
        ValueError: If it does: that has no spread.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise ValueError(
            f"batch norm takes no statistics of a single value a channel ({error}): give at least 2 samples a batch "
            "(data.most, of images), or larger images"
        ) from error


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
def in_domain(domain: Domain | Callable[[], Domain]) -> Iterator[None]:
    """Inside, every :class:`DomainNorm` uses the statistics of this domain, given by position or name.

    Where the answer may change inside, give a function that says it.
    """
    token = _domain.set(domain)
    try:
        yield
    finally:
        _domain.reset(token)


scope = in_domain  # `with csn.scope("target"):`, where csn is this module


def in_this_scope(block: Callable[P, T]) -> Callable[P, T]:
    """The same block of layers, for the domain whose scope is entered now, wherever and whenever it is called.

    For activation checkpointing, which runs a block again in the backward pass: outside of the scope, and on an
    accelerator in a thread of its own. ``checkpoint(csn.in_this_scope(block), x)`` works with and without
    ``use_reentrant``. Outside of any scope the block stays as it is.

    Args:
        block: A layer or function that is called inside the forward pass.
    """
    domain = _domain.get()
    if domain is None:
        return block

    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        with in_domain(domain):
            return block(*args, **kwargs)

    return again


def replace_bn_with_csn(
    model: Network, domains: Sequence[str] = ("source", "target"), affine: Affine = "shared"
) -> Network:
    """Split every batch norm of a network by domain, without any other part of this package.

    Afterwards each forward pass, training or not, stands in ``with csn.scope(name):``. Deep copies of the network
    follow the same scope.

    Args:
        model: Any network with batch norm; changed in place.
        domains: Name of each domain, each once.
        affine: ``shared`` gain and shift for all domains, or ``per_domain``.

    Returns:
        The network: the given one, or a new layer if that is itself a batch norm.

    Raises:
        ValueError: If there is no batch norm, it is already split, or names repeat.
    """
    check_choice("affine", affine, AFFINES)
    names = (domains,) if isinstance(domains, str) else tuple(domains)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"domains needs at least one name, each once; got {list(names)}")
    holder = nn.ModuleList([model])  # so that a model that is itself a batch norm is replaced, too
    _split(holder, names, affine)
    return cast(Network, holder[0])


def check_fresh(model: nn.Module) -> None:
    """Refuse a network whose batch norms are split by domain."""
    if any(isinstance(layer, DomainNorm) for layer in model.modules()):
        raise ValueError(
            "the batch norms of this network are already split by domain, by CSN or AdaBN: both keep statistics per "
            "domain, so use one of them, once, on a fresh network"
        )


def _split(model: nn.Module, names: Sequence[str], affine: Affine) -> None:
    check_fresh(model)
    if not swap(model, _BatchNorm, lambda norm: DomainNorm(norm, names, affine)):
        raise ValueError(
            "CSN found no BatchNorm layer to split in the network; take one that has some (command line: "
            "encoder=pse_ltae)"
        )


def load_plain(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the checkpoint of a plain network into a split one: every domain starts from the plain statistics.

    Args:
        model: A network whose batch norms are split.
        state: ``state_dict`` of the same network before it was split.

    Raises:
        ValueError: If no layer of the network is split.
        RuntimeError: If the keys or shapes do not fit, as ``load_state_dict`` says it.
    """
    split = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, DomainNorm)}
    if not split:
        raise ValueError("no batch norm of this network is split by domain; use model.load_state_dict")
    spread: dict[str, Tensor] = {}
    for key, value in state.items():
        place, _, last = key.rpartition(".")
        if place in split:
            head = f"{place}." if place else ""
            spread |= {f"{head}norms.{domain}.{last}": value for domain in range(len(split[place].names))}
        else:
            spread[key] = value
    model.load_state_dict(spread)


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return (name,) if count == 1 else tuple(f"{name}_{i}" for i in range(count))


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
        self.names: tuple[str, ...] = ()

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        self.names = (*_numbered("source", setup.sources), *_numbered("target", setup.targets))
        _split(model, self.names, self.affine)

    def scope(self, domain: int | str) -> AbstractContextManager[None]:
        """Around every forward pass over one domain: its position, or ``source`` | ``target`` (``target_0`` ...)."""
        return in_domain(self._number(domain))

    def _number(self, domain: int | str) -> int:
        if not self.names:
            raise NotAttachedError("CSN has no domains yet: call attach(model, Setup(...)) first")
        return number_of(domain, self.names)

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int | str) -> nn.Module:
        domain = self._number(domain)
        plain = copy.deepcopy(model)
        swap(plain, DomainNorm, lambda norm: norm.fold(domain))
        return plain
