"""One sensor's parcels: a spatial stage for every date, a temporal stage over the dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ..types import Features, Inputs, Observation
from .base import Encoder, pick_sensor
from .blocks.masked import clean
from .blocks.stages import Spatial, Temporal

ATTRIBUTES = "attributes"  # the input that holds geometric features (B, A) of the parcels


class ParcelEncoder(Encoder):
    """Series (B, T, C) or pixel sets (B, T, C, S) -> one vector a parcel.

    Args:
        sensors: The data's sensors, name -> number of bands; "attributes" may be among them.
        spatial: Builds the spatial stage from ``in_channels``.
        temporal: Builds the temporal stage from ``in_channels``.
        sensor: The sensor to read; "auto" takes the only one.

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If the spatial stage wants another number of attributes than the data provide.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        spatial: Callable[..., Spatial],
        temporal: Callable[..., Temporal],
        sensor: str = "auto",
    ) -> None:
        super().__init__()
        looks = {name: bands for name, bands in sensors.items() if name != ATTRIBUTES}
        self.sensor = pick_sensor(looks, sensor)
        self.bands = looks[self.sensor]
        self.spatial = spatial(in_channels=self.bands)
        self.temporal = temporal(in_channels=self.spatial.out)
        self.channels, self.strides = (self.temporal.out,), (0,)
        wanted = self.spatial.attributes
        if wanted and sensors.get(ATTRIBUTES, wanted) != wanted:
            raise ValueError(
                f"encoder.spatial.attributes is {wanted}; the data provide {sensors[ATTRIBUTES]} attributes a parcel: "
                "set it to that number, or to 0 to do without"
            )

    def forward(self, inputs: Inputs) -> Features:
        """One map (B, D). Values at invalid dates and pixels, nan included, have no influence."""
        observation = clean(self._look(inputs))
        x = self.spatial(observation, self._attributes(inputs))
        return Features((self.temporal(x, observation),))

    def _look(self, inputs: Inputs) -> Observation:
        if self.sensor not in inputs:
            raise LookupError(f"the encoder reads sensor {self.sensor!r}; this batch holds {sorted(inputs)}")
        look = inputs[self.sensor]
        shape = tuple(look.values.shape)
        if len(shape) not in (3, 4) or shape[2] != self.bands:
            raise ValueError(
                f"a parcel encoder of {self.bands} bands reads (B, T, {self.bands}) series or (B, T, {self.bands}, S) "
                f"pixel sets; {self.sensor!r} has shape {shape}: build it with the sensors of this data"
            )
        return look

    def _attributes(self, inputs: Inputs) -> Tensor | None:
        if not self.spatial.attributes:
            return None
        if ATTRIBUTES not in inputs:
            raise ValueError(
                f"encoder.spatial.attributes is {self.spatial.attributes}, but this batch holds {sorted(inputs)} and "
                f"no {ATTRIBUTES!r}: prepare the store with them, or set encoder.spatial.attributes=0"
            )
        return inputs[ATTRIBUTES].values
