"""Several sensors in one encoder: an encoder of encoders."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar, get_args

from torch import Tensor

from ..types import Features, Inputs
from .base import Encoder
from .blocks.branched import Added, Branched, Decision, Late
from .blocks.dropping import ModalityDropout, drop_dates
from .blocks.masked import valid_dates
from .blocks.modalities import ATTRIBUTES, hide, presence
from .blocks.schemes import Early, Scheme, mid

Name = Literal["early", "mid", "late", "added", "decision"]
Fuse = Literal["concat", "attention"]
T = TypeVar("T")


class Fusion(Encoder):
    """Fuses what several sensors see of the same places (Garnot et al. 2022, PASTIS-R, four schemes).

    early: series at common dates, bands side by side, one encoder. mid: dates of all sensors in one sequence with their
    own days, one temporal encoder. late: an encoder a sensor, vectors or maps joined level by level on the grid of the
    first. added: the same for maps, what the others see is added to every map of the first (U-T&T, FLAIR #2).
    decision: an encoder and a head a sensor, probabilities averaged (needs head=decision). Early and mid fusion join
    image series that lie on one grid; late, added and decision take any mix of images and series of one extent.

    A sample may lack a sensor (no valid date, no valid pixel), and a batch may lack it altogether: early and late put a
    learned token in its place, mid leaves it out, added adds nothing, decision averages over the others. A batch norm
    of a branch sees the samples that have the sensor.

    Args:
        sensors: The data's sensors, name -> number of bands; "attributes" may be among them.
        branch: Builds the encoder of one sensor from ``sensors`` and ``sensor``; of early fusion the only one.
        branches: Sensor -> builder of its encoder, where it is to be another one; that of "attributes" may be given
            although the data have none.
        modalities: Which sensors to fuse, the leading one first; () = all but "attributes", in the data's order.
        scheme: "early", "mid", "late", "added" or "decision".
        fuse: Late: "concat" and project, or "attention" among the sensors of a sample before that.
        out: Late: size of the fused vector; 0 = that of the first sensor's.
        reach: Early: days before a sensor's first and after its last date that its value still holds.
        drop_dates: Temporal dropout, training only: share of dates, one number or sensor -> number.
        drop_modality: Modality dropout, training only: probability to lose a sensor, one number or sensor -> number.
            One of those that a sample has always stays.
        grid: Maps: the sensor whose pixels logits are for, fused or not; "auto" is the leading one.
        crop: Added: side of the middle part of the others' maps that lies under the first's, in their cells; 0 = all.

    Raises:
        LookupError: If a sensor is named that the data lack.
        ValueError: If a share is impossible, or the branches do not fit the scheme.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        branch: Callable[..., Encoder],
        branches: Mapping[str, Callable[..., Encoder]] | None = None,
        modalities: Sequence[str] = (),
        scheme: Name = "late",
        fuse: Fuse = "concat",
        out: int = 0,
        reach: float = 30.0,
        drop_dates: float | Mapping[str, float] = 0.0,
        drop_modality: float | Mapping[str, float] = 0.0,
        grid: str = "auto",
        crop: int = 0,
    ) -> None:
        super().__init__()
        self.modalities = chosen(sensors, modalities)
        own = {name: one for name, one in (branches or {}).items() if name != ATTRIBUTES or name in sensors}
        known = _named("encoder.branches", own, sensors)
        for option, value, allowed in (("scheme", scheme, get_args(Name)), ("fuse", fuse, get_args(Fuse))):
            if value not in allowed:
                raise ValueError(f"encoder.{option} is {value!r}; allowed are {list(allowed)}")
        if scheme == "early" and known:
            raise ValueError("early fusion has one encoder, encoder.branch; encoder.branches is for the other schemes")
        self.drop_dates = shares("encoder.drop_dates", drop_dates, self.modalities, sensors)
        self.drop_modality = ModalityDropout(shares("encoder.drop_modality", drop_modality, self.modalities, sensors))
        if grid != "auto" and grid not in sensors:
            raise LookupError(f"encoder.grid is {grid!r}; give auto or one of the data's sensors, {sorted(sensors)}")
        if crop and scheme != "added":
            raise ValueError(
                f"encoder.crop={crop} is for encoder.scheme=added; scheme {scheme} takes whole maps: set it to 0"
            )
        self.grid = grid
        self.bands = {name: sensors[name] for name in self.modalities}
        builds = {name: known.get(name, branch) for name in self.modalities}
        self.scheme: Scheme
        if scheme == "early":
            self.scheme = Early(sensors, self.modalities, branch, reach)
        elif scheme == "mid":
            self.scheme = mid(sensors, self.modalities, builds)
        elif scheme == "late":
            self.scheme = Late(sensors, self.modalities, builds, out, fuse == "attention")
        elif scheme == "added":
            self.scheme = Added(sensors, self.modalities, builds, crop)
        else:
            self.scheme = Decision(sensors, self.modalities, builds)
        self.channels, self.strides = self.scheme.channels, self.scheme.strides
        self.apart = scheme == "decision"

    def parts(self) -> Mapping[str, Encoder]:
        """Sensor -> its own encoder, of late, added and decision fusion."""
        return self.scheme.parts() if isinstance(self.scheme, Branched) else {}

    def forward(self, inputs: Inputs) -> Features:
        """The fused maps or vector; late, added and decision fusion also say what each sensor saw.

        Raises:
            LookupError: If the batch holds none of the sensors.
            ValueError: If a look has another number of bands than the encoder was built for.
        """
        used: Inputs = {name: look for name, look in inputs.items() if name in self.modalities or name == ATTRIBUTES}
        present = presence(inputs, self.modalities)
        for name, look in used.items():
            axis = 2 if look.values.ndim in (3, 5) or look.valid is not None or look.days is not None else 1
            if name in self.bands and look.values.shape[axis] != self.bands[name]:
                raise ValueError(
                    f"the fusion was built for {self.bands[name]} bands of {name!r}; this look has shape "
                    f"{tuple(look.values.shape)}: build it with the sensors of these data"
                )
        if self.training:
            used, present = self._thinned(used, present)
        features: Features = self.scheme(used, present)
        return features._replace(size=self._size(inputs))

    def _size(self, inputs: Inputs) -> tuple[int, int] | None:
        """Rows and columns of the sensor that logits are for; None for vectors."""
        if self.strides[0] == 0:
            return None
        name = self.grid if self.grid != "auto" else next((n for n in self.modalities if n in inputs), "")
        if name in self.parts() and (size := self.parts()[name].size) is not None:
            return size
        if name not in inputs:
            raise LookupError(
                f"encoder.grid={name} says how large the maps are; this batch holds {sorted(inputs)}: give it with all "
                "its pixels invalid"
            )
        values = inputs[name].values
        if values.ndim not in (4, 5):
            raise ValueError(
                f"encoder.grid={name} says how large the maps are, and its values {tuple(values.shape)} have no rows "
                "and columns: set encoder.grid to a sensor of images or image series"
            )
        height, width = values.shape[-2:]
        return height, width

    def _thinned(self, inputs: Inputs, present: Tensor) -> tuple[Inputs, Tensor]:
        """The looks without what the dropouts of this step take."""
        kept, thin = self.drop_modality(present), dict(inputs)
        for i, name in enumerate(self.modalities):
            if name not in thin:
                continue
            look = hide(thin[name], kept[:, i]) if self.drop_modality.active else thin[name]
            if self.drop_dates[i] and (look.days is not None or look.values.ndim == 5):  # points have no dates
                look = replace(look, valid=drop_dates(valid_dates(look), self.drop_dates[i]))
            thin[name] = look
        return thin, kept


def chosen(sensors: Mapping[str, int], modalities: Sequence[str]) -> tuple[str, ...]:
    """The sensors to fuse, in order.

    Raises:
        LookupError: If one is not there; says which are.
        ValueError: If one is named twice, or none is left.
    """
    if isinstance(modalities, str):
        raise ValueError(f"encoder.modalities is a list of sensors; got {modalities!r}: write [{modalities}]")
    for name in modalities:
        if name not in sensors:
            near = difflib.get_close_matches(name, list(sensors), n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"encoder.modalities names {name!r}{hint}; the data provide {sorted(sensors)}")
    if len(set(modalities)) < len(modalities):
        raise ValueError(f"encoder.modalities names each sensor once; got {list(modalities)}")
    found = tuple(modalities) or tuple(name for name in sensors if name != ATTRIBUTES)
    if not found:
        raise ValueError(f"fusion needs at least one sensor; the data provide {sorted(sensors)}")
    return found


def shares(
    option: str, value: float | Mapping[str, float], names: Sequence[str], sensors: Mapping[str, int]
) -> list[float]:
    """A number for each sensor, of one for all or of a mapping, in which those not named have 0.

    Raises:
        LookupError: If a sensor is named that the data lack.
        ValueError: If a number is not in [0, 1).
    """
    given = _named(option, value, sensors) if isinstance(value, Mapping) else dict.fromkeys(names, value)
    found = [float(given.get(name, 0.0)) for name in names]
    if not all(0 <= share < 1 for share in found):
        raise ValueError(f"{option} takes shares from 0 up to, but not including, 1; got {value}")
    return found


def _named(option: str, given: Mapping[str, T], sensors: Mapping[str, int]) -> dict[str, T]:
    if unknown := sorted(set(given) - set(sensors)):
        raise LookupError(
            f"{option} names {unknown}; the data provide {sorted(sensors)}: leave them out, on the command line "
            f"~{option}.{unknown[0]}"
        )
    return dict(given)
