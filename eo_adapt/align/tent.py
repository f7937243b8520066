"""Tent: at test time, minimise entropy over the gains and shifts of batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from .base import Alignment, Setup
from .csn import DomainNorm, taking_statistics
from .entropy import entropies, logit_rows
from .finite import check_finite
from .options import check_number
from .scope import looked_at, looking_at

Norms = dict[str, _BatchNorm]
OF_A_LAYER = ("weight", "bias", "running_mean", "running_var")
BETAS, EPS = (0.9, 0.999), 1e-8  # Adam's


def batch_norms(model: nn.Module, pick: Callable[[DomainNorm], int]) -> Norms:
    """Batch-norm layers by name; of a layer split by domain the one that ``pick`` names."""
    found: Norms = {}
    inner: set[nn.Module] = set()
    for name, layer in model.named_modules():
        if isinstance(layer, DomainNorm):
            inner |= set(layer.norms)
            number = pick(layer)
            found[f"{name}.norms.{number}" if name else f"norms.{number}"] = cast(_BatchNorm, layer.norms[number])
        elif isinstance(layer, _BatchNorm) and layer not in inner:
            found[name] = layer
    return found


class Tent(Alignment):
    """Adapts to each target domain while predicting it, batch by batch; training is source-only.

    A batch passes with its own statistics; the mean entropy of its confident predictions is lowered by one Adam step
    over the gains and shifts. The batch is then predicted with these and with the mean statistics of all target
    batches so far, which is what :meth:`export` folds. They are kept here, a set a target: the network and its
    predictions of the sources do not change.

    Source: Wang et al. 2021 (arXiv:2006.10726); the entropy threshold is that of Niu et al. 2022 (EATA,
    arXiv:2204.02610). Deviations: docs/methods/tent.md.

    Args:
        lr: Step size of Adam.
        steps: Steps a batch.
        min_batch: Fewer predictions (parcels, or pixels) than this do not adapt.
        confident: Only predictions of less entropy than this share of log K count; 1 = all.
        collapse: If the entropy of the mean prediction falls below this share of the unadapted network's, the domain
            starts anew and the batch is predicted without adaptation; 0 = never.
        episodic: Forget after each batch.
    """

    learns_at_test = True
    _state: Tensor
    _moments: Tensor
    _counts: Tensor

    def __init__(
        self,
        lr: float = 1e-3,
        steps: int = 1,
        min_batch: int = 32,
        confident: float = 0.4,
        collapse: float = 0.5,
        episodic: bool = False,
    ) -> None:
        super().__init__()
        check_number("tent.lr", lr, above=0)
        check_number("tent.steps", steps, least=1, whole=True)
        check_number("tent.min_batch", min_batch, least=2, whole=True)
        check_number("tent.confident", confident, above=0, most=1)
        check_number("tent.collapse", collapse, least=0, below=1)
        self.lr, self.steps, self.min_batch = lr, steps, min_batch
        self.confident, self.collapse, self.episodic = confident, collapse, episodic
        self.sources = 0

    def attach(self, model: nn.Module, setup: Setup) -> None:
        super().attach(model, setup)
        if not setup.targets:
            raise ValueError("Tent adapts to target domains at test time; shift.targets is empty")
        norms = batch_norms(model, lambda layer: 0)
        if not any(norm.affine for norm in norms.values()):
            raise ValueError(
                "Tent found no BatchNorm layer with gain and shift to adapt in the network; take one that has some "
                "(command line: encoder=pse_ltae)"
            )
        width = sum(norm.num_features for norm in norms.values())
        device = next(norm.weight for norm in norms.values() if norm.affine).device
        self.sources = setup.sources
        # A target's gains, shifts, means and variances, layer after layer; Adam's moments of the first two; how many
        # batches and steps these come from.
        self.register_buffer("_state", torch.zeros(setup.targets, 4, width, device=device))
        self.register_buffer("_moments", torch.zeros(setup.targets, 2, 2, width, device=device))
        self.register_buffer("_counts", torch.zeros(setup.targets, 2, dtype=torch.int64))

    def scope(self, domain: int) -> AbstractContextManager[None]:
        self.check_domain(domain)
        return looking_at(domain)

    def reset(self, domain: int | None = None) -> None:
        """Forget what one target, or every target, has taught."""
        if domain is not None:
            self.check_domain(domain, target=True)
        which = slice(None) if domain is None else domain - self.sources
        for buffer in (self._state, self._moments, self._counts):
            buffer[which] = 0

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        """Logits of one batch. On a target of at least ``min_batch`` predictions it adapts first; needs gradients.

        Not usable under ``torch.inference_mode``.

        Raises:
            ValueError: If the network's own prediction of a target is not finite; nothing is learnt or forgotten then.
        """
        domain = looked_at("Tent")
        self.check_domain(domain)
        target = domain - self.sources
        if target < 0:
            return self.adjust(model(inputs)[1])
        norms = batch_norms(model, DomainNorm.active)
        with torch.no_grad():
            plain = model(inputs)[1]
        check_finite("Tent", "predictions", [(f"domain {domain}", logit_rows(plain))])
        if self.episodic:
            self.reset(domain)
        if logit_rows(plain).shape[0] >= self.min_batch:
            if not self._counts[target, 0]:
                self._state[target] = _read(norms)
            for _ in range(self.steps):
                self._adapt(model, inputs, norms, target)
        with torch.no_grad():
            if not self._counts[target, 0]:
                return self.adjust(plain)
            adapted = _call(model, norms, _cut(self._state[target], norms), inputs)
            if _diversity(adapted) >= self.collapse * _diversity(plain):
                return self.adjust(adapted)
            self.reset(domain)
            return self.adjust(model(inputs)[1])  # anew: whoever listens to the network hears what the answer is from

    def _adapt(self, model: nn.Module, inputs: Any, norms: Norms, target: int) -> None:
        """One look with batch statistics, which join the mean of those so far, and one step over gains and shifts."""
        affine = self._state[target, :2].clone().requires_grad_()
        seen = int(self._counts[target, 0])
        with torch.enable_grad(), _by_batch(norms, 1 / (seen + 1)), taking_statistics():
            columns = [
                [*gains, *(x.clone() for x in statistics)]  # which the forward pass writes to
                for gains, statistics in zip(_cut(affine, norms), _cut(self._state[target, 2:], norms), strict=True)
            ]
            entropy = entropies(logit_rows(logits := _call(model, norms, columns, inputs)))
            counted = entropy[entropy.detach() < self.confident * math.log(logits.shape[1])]
            grad = torch.autograd.grad(counted.mean(), affine)[0] if len(counted) else None
        self._state[target, 2:] = torch.stack([torch.cat([column[row] for column in columns]) for row in (2, 3)])
        self._counts[target, 0] += 1
        if grad is not None:
            self._descend(grad, target)

    @torch.no_grad()
    def _descend(self, grad: Tensor, target: int) -> None:
        """Adam (Kingma & Ba 2015, arXiv:1412.6980) on the gains and shifts of one target."""
        self._counts[target, 1] += 1
        step = int(self._counts[target, 1])
        first, second = self._moments[target]
        first.lerp_(grad, 1 - BETAS[0])
        second.lerp_(grad.square(), 1 - BETAS[1])
        mean, spread = first / (1 - BETAS[0] ** step), second / (1 - BETAS[1] ** step)
        self._state[target, :2] -= self.lr * mean / (spread.sqrt() + EPS)

    @torch.no_grad()
    def export(self, model: nn.Module, domain: int) -> nn.Module:
        """The network with what a target has taught so far folded in: gains, shifts, mean batch statistics.

        Before the target's first batch, and for a source, that is the network as it was trained.

        Raises:
            ValueError: If ``episodic``: every batch then has a network of its own.
        """
        plain = super().export(model, domain)
        target = domain - self.sources
        if target < 0:
            return plain
        if self.episodic:
            raise ValueError("tent.episodic adapts to each batch anew: there is no one network to export")
        if self._counts[target, 0]:
            norms = batch_norms(plain, lambda layer: domain)
            for norm, column in zip(norms.values(), _cut(self._state[target], norms), strict=True):
                for name, value in zip(OF_A_LAYER, column, strict=True):
                    if (kept := getattr(norm, name)) is not None:
                        kept.copy_(value)
        return plain


def _read(norms: Norms) -> Tensor:
    """Gains, shifts, means and variances of all layers, (4, C); 0 where a layer lacks one."""

    def row(name: str) -> Tensor:
        parts = [(norm, getattr(norm, name)) for norm in norms.values()]
        like = next(norm.weight for norm in norms.values() if norm.affine)
        return torch.cat([like.new_zeros(norm.num_features) if x is None else x.detach() for norm, x in parts])

    return torch.stack([row(name) for name in OF_A_LAYER])


def _cut(state: Tensor, norms: Norms) -> list[list[Tensor]]:
    """(R, C) -> the R vectors of each layer."""
    widths = [norm.num_features for norm in norms.values()]
    return [list(column) for column in zip(*(row.split(widths) for row in state), strict=True)]


def _call(model: nn.Module, norms: Norms, columns: Sequence[Sequence[Tensor]], inputs: Any) -> Tensor:
    """Logits with other tensors in the place of the layers' own, which stay as they are."""
    instead: dict[str, Tensor] = {}
    for (layer, norm), column in zip(norms.items(), columns, strict=True):
        mine = dict(zip(OF_A_LAYER, column, strict=True))
        if norm.num_batches_tracked is not None:
            mine["num_batches_tracked"] = norm.num_batches_tracked.clone()
        head = f"{layer}." if layer else ""
        instead |= {f"{head}{name}": x for name, x in mine.items() if getattr(norm, name) is not None}
    logits: Tensor = functional_call(model, instead, (inputs,))[1]
    return logits


@contextmanager
def _by_batch(norms: Norms, momentum: float) -> Iterator[None]:
    """Inside, these layers normalise by the batch, whose statistics join the running ones with this weight."""
    before = [(norm.momentum, norm.training) for norm in norms.values()]
    for norm in norms.values():
        norm.momentum = momentum
        norm.train()
    try:
        yield
    finally:
        for norm, (kept, training) in zip(norms.values(), before, strict=True):
            norm.momentum = kept
            norm.train(training)


def _diversity(logits: Tensor) -> Tensor:
    """Entropy of the mean prediction of (B, K, *S) logits."""
    mean: Tensor = torch.special.entr(logit_rows(logits).softmax(1).mean(0)).sum()
    return mean
