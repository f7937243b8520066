"""An exported network, or a run, ready to be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.legend import Legend
from ..types import Inputs
from . import arrays
from .about import NotExportedError, about_of
from .formats import SUFFIXES, Runner, read
from .inputs import Layout

FILES = tuple(f"network{SUFFIXES[form]}" for form in ("safetensors", "onnx", "pt2"))  # which of a folder is loaded


@dataclass(frozen=True)
class Prediction:
    """What a network says of one batch.

    Attributes:
        probabilities: (B, K) of parcels, (B, K, H, W) of maps; calibrated, they sum to 1 over classes.
        names: The K classes, in that order.
    """

    probabilities: np.ndarray
    names: tuple[str, ...]

    @property
    def numbers(self) -> np.ndarray:
        """Number of the likeliest class, (B,) or (B, H, W)."""
        return self.probabilities.argmax(1)

    @property
    def classes(self) -> np.ndarray:
        """Name of the likeliest class, (B,) or (B, H, W)."""
        return np.asarray(self.names, dtype=object)[self.numbers]


class Predictor:
    """A network of one domain with all that is needed to use it rightly; :func:`load` makes one.

    Args:
        about: Its card.
        runner: Tensors by name -> logits and probabilities.
        device: Where it runs.

    Attributes:
        about: The card: bands, statistics, domains, licences, hyperparameters, ...
        domain: Which domain's network it is.
        maps: Whether it labels pixels; else parcels.
        layout: Names and axes of the tensors that it takes.
    """

    def __init__(self, about: Mapping[str, Any], runner: Runner, device: str = "cpu") -> None:
        self.about, self.device = dict(about), device
        self.domain: str = about["domain"]
        self.maps: bool = about["maps"]
        self.layout = Layout.from_dict(about)
        self._runner = runner

    @property
    def bands(self) -> dict[str, list[str]]:
        """Sensor -> names of its bands, in order."""
        return {sensor: list(bands) for sensor, bands in self.about["bands"].items()}

    @property
    def units(self) -> dict[str, str]:
        """Sensor -> physical unit of its values."""
        return dict(self.about["units"])

    @property
    def legend(self) -> Legend:
        """The classes, in the order of the logits."""
        return Legend.from_dict(self.about["legend"])

    @property
    def colours(self) -> dict[str, str]:
        """Class -> ``#rrggbb``."""
        return dict(self.about["colours"])

    @property
    def gsd(self) -> dict[str, float]:
        """Sensor -> metres a pixel of the images that it was trained on."""
        return dict(self.about["gsd"])

    def __call__(self, inputs: Mapping[str, Any]) -> Prediction:
        """Classes and calibrated probabilities; everything that is given is checked.

        Args:
            inputs: Sensor -> a mapping with ``values`` and, as the network needs them, ``bands``, ``days``, ``valid``,
                ``valid_pixels``, ``units``; or an ``xarray.DataArray``; or an Observation. See :mod:`.arrays`.

        Raises:
            ValueError: If a sensor or band is missing, or shapes, units or dates cannot be right; says which.
        """
        tensors = arrays.tensors_of(inputs, self.layout, self.bands, self.units)
        return Prediction(self._run(tensors)[1].cpu().numpy(), tuple(self.legend.names))

    def logits(self, inputs: Inputs) -> Tensor:
        """Uncalibrated logits (B, K) or (B, K, H, W) of observations in the network's own bands and units.

        Only shapes are checked: this is what writes maps tile by tile.
        """
        return self._run(arrays.of_observations(inputs, self.layout, self._counts))[0]

    def probabilities(self, inputs: Inputs) -> Tensor:
        """Calibrated probabilities of the same."""
        return self._run(arrays.of_observations(inputs, self.layout, self._counts))[1]

    @property
    def _counts(self) -> dict[str, int]:
        return {sensor: int(count) for sensor, count in self.about["sensors"].items()}

    def _run(self, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._runner({name: x.to(self.device) for name, x in tensors.items()})


def load(path: Path | str, domain: str | None = None, device: str = "cpu") -> Predictor:
    """A ready predictor of an exported folder, one of its files, or a run directory.

    Args:
        path: Folder that ``python -m eo_adapt.export`` made (its .safetensors is taken, else .onnx, else .pt2), one of
            those files, or a run directory.
        domain: Of a run directory: whose network; None = the only target. Of an exported file: None, or the name that
            it must have.
        device: Where to run, ``cpu``, ``cuda``, ...

    Raises:
        FileNotFoundError: If there is neither.
        LookupError: If the domain is another one.
        NotExportedError: If a file is not what this package exports; such files are not unpickled.
    """
    place = Path(path)
    if (place / "checkpoints").is_dir():
        return of_run(place, domain, device)
    if place.is_dir():
        there = [place / name for name in FILES if (place / name).is_file()]
        if not there:
            raise FileNotFoundError(
                f"{place} holds neither an export ({list(FILES)}) nor a run (checkpoints/): give the folder that "
                "python -m eo_adapt.export or train printed"
            )
        place = there[0]
    if not place.is_file():
        raise FileNotFoundError(f"there is no {place}; give an exported file or folder, or a run directory")
    if place.suffix == ".ckpt" and place.parent.name == "checkpoints":
        raise NotExportedError(f"{place} is a checkpoint of a run: give the run directory, {place.parent.parent}")
    about, runner = read(place, device)
    if domain is not None and domain != about["domain"]:
        raise LookupError(f"{place} is the network of {about['domain']!r}, not of {domain!r}: export that domain")
    return Predictor(about, runner, device)


def of_run(folder: Path, domain: str | None, device: str) -> Predictor:
    """The network of one domain of a run, not written anywhere."""
    from .network import plain_of

    one, name, network, layout = plain_of(folder, domain)
    return Predictor(about_of(one, name, layout), network.to(device), device)
