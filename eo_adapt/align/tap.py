"""Somebody else's network as the (features, logits) that alignments look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class Tap(nn.Module):
    """Wraps a network: what a named layer puts out are the features.

    The layer is listened to for the length of one forward pass only, so a deep copy (a teacher, an exported network)
    listens to its own layer.

    Args:
        model: Any network.
        layer: Name of the layer as in ``model.named_modules()``, e.g. ``"encoder"`` or ``"backbone.layer4"``.
        logits: What the network returned -> logits (B, K, *S); identity by default.
        features: What the layer put out -> features (B, D, *S); by default itself, or the last of a list (a pyramid).

    Raises:
        ValueError: If there is no such layer; lists some that there are.
    """

    def __init__(
        self,
        model: nn.Module,
        layer: str,
        logits: Callable[[Any], Tensor] | None = None,
        features: Callable[[Any], Tensor] | None = None,
    ) -> None:
        super().__init__()
        names = [name for name, _ in model.named_modules() if name]
        if layer not in names:
            raise ValueError(f"{type(model).__name__} has no layer {layer!r}; it has e.g. {names[:8]} ... {names[-4:]}")
        self.model, self.layer, self.logits, self.features = model, layer, logits, features

    def forward(self, inputs: Any) -> tuple[Tensor, Tensor]:
        """Features and logits of one batch."""
        heard: list[Any] = []
        tap = self.model.get_submodule(self.layer).register_forward_hook(lambda layer, given, out: heard.append(out))
        try:
            out = self.model(inputs)
        finally:
            tap.remove()
        if not heard:
            raise RuntimeError(f"the network did not call its layer {self.layer!r}; tap another one")
        features = self.features(heard[-1]) if self.features else _last(heard[-1])
        return features, self.logits(out) if self.logits else out


def _last(out: Any) -> Tensor:
    """The tensor itself, or the deepest map of a pyramid."""
    last: Tensor = out[-1] if isinstance(out, list | tuple) else out
    return last
