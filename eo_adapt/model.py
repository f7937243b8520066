"""Normalisation, an encoder, a head, and the one feature map alignments look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .encoders.base import Encoder
from .heads.base import Head, at_size
from .heads.modalities import SideHead
from .types import Batch, Inputs, Observation, Output, Side, SidedOutput


class Normalise(nn.Module):
    """(x - mean) / std per band, on whatever device the batch is; masked places stay 0.

    Args:
        statistics: Sensor -> (mean, std), one number a band, physical units. From source-train only.
    """

    def __init__(self, statistics: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> None:
        super().__init__()
        for name, (mean, std) in statistics.items():
            self.register_buffer(f"{name}_mean", torch.tensor(mean))
            self.register_buffer(f"{name}_std", torch.tensor(std))

    def forward(self, inputs: Inputs) -> Inputs:
        return {name: self._one(name, observation) for name, observation in inputs.items()}

    def _one(self, name: str, observation: Observation) -> Observation:
        values = observation.values
        axis = 2 if values.ndim in (3, 5) or (values.ndim == 4 and observation.valid is not None) else 1
        shape = [1] * values.ndim
        shape[axis] = -1
        mean, std = self.get_buffer(f"{name}_mean").view(shape), self.get_buffer(f"{name}_std").view(shape)
        normed = (values - mean) / std
        if observation.valid is not None:
            normed = torch.where(observation.valid.view(*values.shape[:2], *[1] * (values.ndim - 2)), normed, 0.0)
        if observation.valid_pixels is not None:
            normed = torch.where(observation.valid_pixels.unsqueeze(axis), normed, 0.0)
        return replace(observation, values=normed)


class Model(nn.Module):
    """What every task trains: inputs in physical units -> Output(features, logits).

    Args:
        encoder: inputs -> feature maps.
        head: feature maps -> logits.
        normalise: Applied first.
        align_level: Which of the encoder's maps alignments look at; -1 = the deepest.
        give_branches: Whether the output also holds what each sensor's own encoder saw, its deepest map.

    Attributes:
        width: Channels of the map that alignments look at.
        branches: Sensor -> channels of the map of its own encoder; empty without.
    """

    def __init__(
        self,
        encoder: Encoder,
        head: nn.Module,
        normalise: Normalise,
        align_level: int = -1,
        give_branches: bool = False,
    ) -> None:
        super().__init__()
        self.normalise, self.encoder, self.head = normalise, encoder, head
        self.align_level, self.give_branches = align_level, give_branches
        self.width = encoder.channels[align_level]
        self.branches = {name: part.channels[-1] for name, part in encoder.parts().items()}

    def forward(self, inputs: Inputs) -> Output:
        features = self.encoder(self.normalise(inputs))
        sides: Mapping[str, Side] | None = None
        if isinstance(self.head, SideHead):
            logits, sides = self.head.answers(features)
        else:
            logits = self.head(features)
        seen, logits = features.maps[self.align_level], at_size(logits, features.size)
        owns_loss = isinstance(self.head, Head) and self.head.owns_loss
        if sides is None and not self.give_branches and not owns_loss:
            return Output(seen, logits)
        output = SidedOutput(seen, logits)
        output.sides = sides or {}
        output.branches = features.branches if self.give_branches else {}
        output.whole = features if owns_loss else None
        return output

    def own_loss(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """What a head that owns a loss adds to the task loss, by name; nothing of other heads, nor without labels."""
        if batch.labels is None or not isinstance(output, SidedOutput) or output.whole is None:
            return {}
        assert isinstance(self.head, Head)  # noqa: S101  (only such heads have all that the encoder saw)
        return self.head.loss(output.whole, batch)
