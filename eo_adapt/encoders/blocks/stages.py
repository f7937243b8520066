"""The two halves of a parcel encoder: pixels to one vector a date, dates to one vector a parcel."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from ...types import Observation


class Spatial(nn.Module, ABC):
    """Turns the pixels of every date into one vector.

    Attributes:
        out: Size of that vector.
        attributes: How many geometric features of the parcel it also reads; 0 for none.
    """

    out: int
    attributes: int = 0

    @abstractmethod
    def forward(self, observation: Observation, attributes: Tensor | None = None) -> Tensor:
        """(B, T, C, S) or (B, T, C), and attributes (B, A), -> (B, T, out), zeros on invalid dates."""


class Temporal(nn.Module, ABC):
    """Turns the vectors of all dates into one.

    Attributes:
        out: Size of the returned vector.
    """

    out: int

    @abstractmethod
    def forward(self, x: Tensor, observation: Observation) -> Tensor:
        """(B, T, D) and the observation's dates and masks -> (B, out)."""


def pixel_sets(observation: Observation) -> tuple[Tensor, Tensor]:
    """Values pixel by pixel; a series (B, T, C) counts as one pixel a date.

    Returns:
        Values (B, T, S, C) and valid pixels (B, T, S) bool.

    Raises:
        ValueError: If the values are neither a parcel series nor pixel sets.
    """
    values, pixels = observation.values, observation.valid_pixels
    if values.ndim not in (3, 4):
        raise ValueError(
            f"parcel encoders read (B, T, C) series or (B, T, C, S) pixel sets; got values of shape "
            f"{tuple(values.shape)}: use an image encoder, or a recipe that cuts the images into parcels"
        )
    values = values[:, :, None] if values.ndim == 3 else values.transpose(2, 3)
    if pixels is None:
        pixels = values.new_ones(values.shape[:3]).bool()
    return values, pixels
