"""Sources as tasks: their risks, descent that leaves the network as it is, and tuning on a few labelled samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from .base import Labelled, Step, Views
from .gather import joined
from .shapes import labels_of

Weights = dict[str, Tensor]  # by the names that the network gives its parameters


def risks(sources: Views, step: Step) -> Tensor:
    """Task loss of each source: (S,). Their mean is the trainer's task loss."""
    return torch.stack([step.criterion(view.logits.float(), labels_of(view, "the task loss")) for view in sources])


def joint_risks(sources: Views, step: Step) -> Tensor:
    """:func:`risks` (S,), in a data-parallel run averaged over the processes."""
    return joined(risks(sources, step).unsqueeze(0)).mean(0)


def halves(size: int, device: torch.device) -> tuple[Tensor, ...]:
    """Positions of two disjoint random halves of a batch.

    Raises:
        ValueError: If there are fewer than 2 samples.
    """
    if size < 2:
        raise ValueError(
            f"a batch of a source is split in two halves; got {size} sample (take larger batches; command line: "
            "data.batch_size)"
        )
    return torch.randperm(size, device=device).tensor_split(2)


def each(inputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A model's inputs with every tensor changed.

    Args:
        inputs: A tensor, or mappings, sequences and dataclasses of such; all else stays as it is.
        change: Tensor -> tensor.
    """
    if isinstance(inputs, Tensor):
        return change(inputs)
    if isinstance(inputs, Mapping):
        return {name: each(value, change) for name, value in inputs.items()}
    if isinstance(inputs, tuple | list):
        parts = [each(value, change) for value in inputs]
        return type(inputs)(*parts) if hasattr(inputs, "_fields") else type(inputs)(parts)
    if is_dataclass(inputs) and not isinstance(inputs, type):
        return replace(inputs, **{field.name: each(getattr(inputs, field.name), change) for field in fields(inputs)})
    return inputs


def take(inputs: Any, at: Tensor) -> Any:
    """Some samples of a model's inputs: every tensor is indexed along its first axis by positions (N,)."""
    return each(inputs, lambda x: x[at])


def trained(model: nn.Module) -> Weights:
    """The parameters that want a gradient."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def logits_of(model: nn.Module, weights: Weights, inputs: Any) -> Tensor:
    """Logits (B, K, *S) float32 under other weights.

    Buffers are copies, so that no running statistics of the network move. In train mode a batch norm normalises by the
    statistics of this batch, as always. Inputs of half precision are widened, because alignments compute in float32.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    wide = each(inputs, lambda x: x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
    logits: Tensor = functional_call(model, {**weights, **buffers}, (wide,))[1]
    return logits.float()


def descend(
    weights: Weights, loss: Tensor, lr: float, exact: bool = False, only: Collection[str] | None = None
) -> Weights:
    """One step of gradient descent as new weights, from which gradients flow back to the old ones.

    Args:
        weights: The old weights; ``loss`` depends on them.
        loss: Scalar.
        lr: Step size.
        exact: Whether the step's own gradient is differentiated, too; else it counts as a constant (first order).
        only: Names of the weights that move; None = all.
    """
    moving = {name: weight for name, weight in weights.items() if only is None or name in only}
    grads = torch.autograd.grad(loss, list(moving.values()), retain_graph=True, create_graph=exact, allow_unused=True)
    steps = {name: lr * grad for name, grad in zip(moving, grads, strict=True) if grad is not None}
    return {name: weight - steps[name] if name in steps else weight for name, weight in weights.items()}


def behind(features: Tensor, logits: Tensor, weights: Weights) -> frozenset[str]:
    """Names of the weights that the logits were computed from and the features were not: the head.

    Raises:
        ValueError: If there are none.
    """
    head = _leaves(logits) - _leaves(features)
    if not (found := frozenset(name for name, weight in weights.items() if weight in head)):
        raise ValueError("no trained parameter lies behind the features that alignments look at, so there is no head")
    return found


def _leaves(output: Tensor) -> set[Tensor]:
    """What wants a gradient and took part in computing an output."""
    found, seen, ahead = set[Tensor](), set[Any](), [output.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        ahead += [before for before, _ in node.next_functions]
    return found


def check_shots(name: str, shots: Mapping[int, Labelled]) -> None:
    """Refuse to learn from nothing.

    Args:
        name: Of the method, for the message.
        shots: Number of each target domain -> (inputs, labels).
    """
    if not shots:
        raise ValueError(f"{name} learns from labelled target samples and was given no target (see shift.targets)")
    for domain, (_, labels) in shots.items():
        if not (labels >= 0).any():
            raise ValueError(
                f"{name} was given {len(labels)} samples of domain {domain} and none of them has a label; give at "
                "least one labelled sample of each target (shift.target_labels=<labelled samples a class>)"
            )


@torch.enable_grad()
def learn(
    model: nn.Module, shots: Mapping[int, Labelled], step: Step, optimizer: Optimizer, steps: int, rows: int
) -> None:
    """Steps of an optimiser on a few labelled samples; the loss is the mean over domains.

    Args:
        model: The network, in the mode that it learns in.
        shots: Number of each domain -> (inputs, labels).
        step: Lends criterion and scope.
        optimizer: Of the parameters that learn; no others get a gradient.
        steps: How many.
        rows: Most samples a domain and step, drawn at random.
    """
    learning = [p for group in optimizer.param_groups for p in group["params"]]
    for _ in range(steps):
        losses = []
        for domain, (inputs, labels) in shots.items():
            at = torch.randperm(len(labels), device=labels.device)[:rows]
            with step.scope(domain):
                losses.append(step.criterion(model(take(inputs, at))[1].float(), labels[at]))
        grads = torch.autograd.grad(torch.stack(losses).mean(), learning, allow_unused=True)
        for p, grad in zip(learning, grads, strict=True):
            p.grad = grad
        optimizer.step()
    optimizer.zero_grad()


@torch.enable_grad()
def head_of(model: nn.Module, shots: Mapping[int, Labelled], step: Step) -> list[nn.Parameter]:
    """The parameters behind the features, found by one look at the first samples of every domain."""
    weights, names = trained(model), set[str]()
    for domain, (inputs, labels) in shots.items():
        with step.scope(domain):
            features, logits = model(take(inputs, torch.arange(min(2, len(labels)), device=labels.device)))
        names |= behind(features, logits, weights)
    return [p for name, p in model.named_parameters() if name in names]
