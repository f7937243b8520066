"""What every encoder promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import nn

from ..types import Features, Inputs


class Encoder(nn.Module, ABC):
    """Turns the looks of one or more sensors into feature maps.

    Attributes:
        channels: Channels of each returned map, finest first.
        strides: Input pixels per cell of each map; ``(0,)`` for a parcel vector.
        apart: Whether the last map only holds the modalities side by side, so that a head must join their answers.
        size: Height and width in pixels of the patches that it reads, where its looks do not tell, as of points.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    apart: bool = False
    size: tuple[int, int] | None = None

    def parts(self) -> Mapping[str, Encoder]:
        """Modality -> its own encoder, of a fusion that has them; what each saw is in ``Features.branches``."""
        return {}

    @abstractmethod
    def forward(self, inputs: Inputs) -> Features:
        """Features of one batch; time is gone afterwards."""


def pick_sensor(sensors: Mapping[str, int], sensor: str) -> str:
    """The one sensor a single-sensor encoder reads: ``sensor``, or when it says "auto" the only one besides attributes.

    Raises:
        LookupError: If the name is not among the data's sensors, or "auto" leaves a choice.
    """
    looks = [name for name in sensors if name != "attributes"] or list(sensors)
    if sensor == "auto" and len(looks) == 1:
        return looks[0]
    if sensor not in sensors:
        hint = "set encoder.sensor to one of them" if sensor == "auto" else "set encoder.sensor=auto or to one of them"
        raise LookupError(f"encoder.sensor is {sensor!r}; the data provide {sorted(sensors)}: {hint}")
    return sensor


def way_out(sensor: str, other_kind: bool) -> str:
    """What to do about a look that an encoder does not read: of another kind (image, series), or with other bands."""
    if other_kind:
        return (
            f"take an encoder that reads such, or, in a fusion, give {sensor!r} a branch of its own (encoder.branches)"
        )
    return "build it with the sensors of this data"
