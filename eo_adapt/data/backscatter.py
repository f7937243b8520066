"""Units of the radar in a store of parcels, judged by the first parcels that have any."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .records import Sensor
from .scenes.units import misfit

FIRST = 100  # parcels; one of a few pixels may well be an exception


class FirstLook:
    """Collects a sensor's first parcels and refuses numbers that cannot be of its unit; other units than radar's pass.

    Args:
        name: Of the sensor.
        sensor: How its numbers are to be read.
        recipe: Name of the recipe, for messages.
    """

    def __init__(self, name: str, sensor: Sensor, recipe: str) -> None:
        self.name, self.sensor, self.recipe = name, sensor, recipe
        self.rows: list[np.ndarray] = []
        self.open = sensor.units in ("dB", "linear")

    def add(self, part: Mapping[str, np.ndarray]) -> None:
        """Take the arrays of one parcel, as they lie on disk; judges when there are enough.

        Raises:
            ValueError: If the values cannot be of the unit.
        """
        if not self.open:
            return
        rows = part["values"][part.get("pixels", part["valid"])]
        if len(rows):
            self.rows.append(rows.astype(np.float64) * self.sensor.scale + self.sensor.offset)
        if len(self.rows) == FIRST:
            self.judge()

    def judge(self) -> None:
        """Look at what there is, once.

        Raises:
            ValueError: If the values cannot be of the unit.
        """
        if self.open and self.rows:
            values = np.concatenate(self.rows).T
            if problem := misfit(values, self.sensor.units, self.sensor.bands):
                raise ValueError(f"sensor {self.name!r} of the {self.recipe} data, in its first parcels: {problem}")
        self.open, self.rows = False, []
