"""What the encoders of one sensor's image series have in common: the look they read, checked and clean."""

from __future__ import annotations

from collections.abc import Mapping

from ..types import Inputs, Observation
from .base import Encoder, pick_sensor, way_out
from .blocks.frames import clean_frames


class SeriesEncoder(Encoder):
    """Image series (B, T, C, H, W) -> maps; time is gone afterwards.

    Attributes:
        step: The sides of images must be multiples of it.
        least: Smallest side of an image in pixels.

    Args:
        sensors: The data's sensors, name -> number of bands.
        sensor: The sensor to read; "auto" takes the only one.

    Raises:
        LookupError: If the sensor is not among the data's.
    """

    step: int = 1
    least: int = 1

    def __init__(self, sensors: Mapping[str, int], sensor: str = "auto") -> None:
        super().__init__()
        self.sensor = pick_sensor(sensors, sensor)
        self.bands = sensors[self.sensor]

    def look(self, inputs: Inputs) -> Observation:
        """The series that this encoder reads, with zeros wherever it is not valid, and ``valid`` always given.

        Raises:
            LookupError: If the batch lacks the sensor.
            ValueError: If its shape or that of its masks does not fit.
        """
        if self.sensor not in inputs:
            raise LookupError(f"the encoder reads sensor {self.sensor!r}; this batch holds {sorted(inputs)}")
        observation = inputs[self.sensor]
        self._check(observation)
        return clean_frames(observation)

    def _check(self, observation: Observation) -> None:
        shape, name = tuple(observation.values.shape), type(self).__name__
        if len(shape) != 5 or shape[2] != self.bands:
            raise ValueError(
                f"{name} with {self.bands} bands reads image series (B, T, {self.bands}, H, W); {self.sensor!r} has "
                f"shape {shape}: {way_out(self.sensor, len(shape) != 5)}"
            )
        batch, dates, _, height, width = shape
        wanted = {"days": (batch, dates), "valid": (batch, dates), "valid_pixels": (batch, dates, height, width)}
        for field, fits in wanted.items():
            given = getattr(observation, field)
            if given is not None and tuple(given.shape) != fits:
                raise ValueError(f"{field} of {self.sensor!r} must have shape {fits}; got {tuple(given.shape)}")
        if dates < 1 or batch < 1:
            raise ValueError(
                f"{name} needs at least one sample and one date a batch; {self.sensor!r} has shape {shape}"
            )
        if any(side % self.step or side < self.least for side in (height, width)):
            up = [max(-(-side // self.step) * self.step, self.least) for side in (height, width)]
            raise ValueError(
                f"{name} takes images whose sides are multiples of {self.step} and at least {self.least}; got {height} "
                f"x {width}: pad them to {up[0]} x {up[1]} (with valid_pixels False there), or crop them"
            )
