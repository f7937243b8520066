"""Where modalities meet, of one encoder: their bands, or their dates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from ...types import Features, Inputs, Observation
from ..base import Encoder
from ..parcel import ParcelEncoder
from ..utae import UTAE
from .masked import clean, valid_dates
from .modalities import ATTRIBUTES, as_series, at_dates, common_dates, frames_at

Build = Callable[..., Encoder]  # sensors=, sensor= -> an encoder of one of them
PARCEL = "parcel"  # what the attributes are called where an encoder reads them as a series of one date


class Scheme(nn.Module, ABC):
    """One way to fuse.

    Attributes:
        channels: As of an encoder.
        strides: As of an encoder.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    @abstractmethod
    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """Looks of the modalities that the batch has, and which sample has which, (B, M) bool, of all modalities."""


def single(build: Build, name: str, bands: int, attributes: int) -> Encoder:
    """An encoder of one modality; it may also read the parcels' attributes, if it wants to."""
    own = PARCEL if name == ATTRIBUTES else name
    more = {ATTRIBUTES: attributes} if attributes and name != ATTRIBUTES else {}
    return build(sensors={own: bands, **more}, sensor=own)


class Early(Scheme):
    """Series at common dates, bands side by side, one encoder (Garnot et al. 2022: S1 at the dates of S2).

    Series of parcels, or of images on one grid, of which each pixel is interpolated between its own valid dates.

    Deviations: each sample takes the dates of the first modality that it has; beyond a modality's own dates its nearest
    value holds for ``reach`` days (theirs extrapolates a line); where nothing is known a learned token stands for the
    bands.
    """

    def __init__(self, sensors: Mapping[str, int], names: Sequence[str], build: Build, reach: float) -> None:
        super().__init__()
        self.names, self.reach = tuple(names), reach
        self.bands = {name: sensors[name] for name in self.names}
        self.encoder = single(build, "series", sum(self.bands.values()), sensors.get(ATTRIBUTES, 0))
        self.tokens = nn.ParameterDict({n: nn.Parameter(0.02 * torch.randn(b)) for n, b in self.bands.items()})
        self.channels, self.strides = self.encoder.channels, self.encoder.strides

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """Features of the one encoder."""
        looks = {name: inputs[name] for name in self.names if name in inputs}
        grid = self._grid(looks)
        dated = {name: look for name, look in looks.items() if name != ATTRIBUTES} or looks
        dates = common_dates({name: as_series(look) for name, look in dated.items()})
        assert dates.days is not None  # noqa: S101  (common dates have days)
        bands = []
        for i, name in enumerate(self.names):
            token = self.tokens[name].view(-1, *[1] * len(grid)).expand(*dates.days.shape, -1, *grid)
            if name in looks:
                values, seen = self._at(name, as_series(looks[name]), dates.days, grid)
                known = seen & present[:, i].view(-1, *[1] * (seen.ndim - 1))
                token = torch.where(known.unsqueeze(2), values, token)
            bands.append(token)
        series = Observation(torch.cat(bands, 2), dates.days, dates.valid, gdd=dates.gdd)
        more = {ATTRIBUTES: inputs[ATTRIBUTES]} if ATTRIBUTES in inputs else {}
        found: Features = self.encoder({"series": series, **more})
        return found

    def _at(self, name: str, look: Observation, days: Tensor, grid: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Values (B, G, C, *grid) and where they rest on data (B, G, *grid)."""
        if look.values.ndim == 5:
            return frames_at(look, days, self.reach)
        values, seen = at_dates(look, days, torch.inf if name == ATTRIBUTES else self.reach)
        wide = [1] * len(grid)
        shape = (*values.shape, *grid)
        return values.view(*values.shape, *wide).expand(shape), seen.view(*seen.shape, *wide).expand(*seen.shape, *grid)

    def _grid(self, looks: Mapping[str, Observation]) -> tuple[int, ...]:
        """Rows and columns of the images; () for parcels."""
        shapes = {name: tuple(look.values.shape) for name, look in looks.items()}
        if any(len(shape) not in ((2,) if name == ATTRIBUTES else (3, 5)) for name, shape in shapes.items()):
            raise ValueError(
                f"early fusion reads series of parcels (B, T, C) or of images (B, T, C, H, W); got {shapes}; pixels "
                "of different sensors are not the same places: set encoder.scheme=mid, late or decision"
            )
        return one_grid("early", shapes)


def one_grid(scheme: str, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Rows and columns of image series of these shapes, () where there is none.

    Raises:
        ValueError: If they differ.
    """
    grids = {name: shape[3:] for name, shape in shapes.items() if len(shape) == 5}
    first = next(iter(grids.values()), ())
    if any(grid != first for grid in grids.values()):  # no set: while a network is exported, sides are symbols
        raise ValueError(
            f"{scheme} fusion joins image series pixel by pixel, so they must be of one size; rows and columns are "
            f"{grids}: set encoder.scheme=late, or prepare the data on one grid"
        )
    return first


class Mid(Scheme):
    """Dates of all modalities in one sequence, each with its own date, one temporal encoder over them.

    Each modality has its own spatial stage and adds a learned embedding to its dates; what a sample lacks is simply not
    in its sequence.
    """

    def __init__(self, made: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.names = tuple(made)
        encoders = {name: e for name, e in made.items() if isinstance(e, ParcelEncoder)}
        widths = {name: e.spatial.out for name, e in encoders.items()}
        if len(encoders) < len(made) or len(set(widths.values())) > 1:
            odd = {name: widths.get(name, type(e).__name__) for name, e in made.items()}
            raise ValueError(
                "mid fusion joins the dates of parcel encoders whose spatial stages give vectors of one size, or of "
                f"image series that U-TAE reads; got {odd}: give the branches the same spatial.out, or set "
                "encoder.scheme=late"
            )
        self.spatial = nn.ModuleDict({name: e.spatial for name, e in encoders.items()})
        self.temporal = encoders[self.names[0]].temporal
        size = widths[self.names[0]]
        self.embedding = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(size)) for name in self.names})
        self.channels, self.strides = (self.temporal.out,), (0,)

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """One vector (B, D)."""
        attributes = inputs[ATTRIBUTES].values if ATTRIBUTES in inputs else None
        tokens, looks = [], []
        for i, name in enumerate(self.names):
            if name not in inputs:
                continue
            look = clean(as_series(inputs[name]))
            looks.append((look, valid_dates(look) & present[:, i, None]))
            tokens.append(self.spatial[name](look, attributes) + self.embedding[name])
        sequence = torch.cat(tokens, 1)
        days = [look.days for look, _ in looks if look.days is not None]
        heat = [look.gdd for look, _ in looks if look.gdd is not None]
        joined = Observation(
            sequence,
            torch.cat([x.float() for x in days], 1) if len(days) == len(looks) else None,
            torch.cat([valid for _, valid in looks], 1),
            gdd=torch.cat(heat, 1) if len(heat) == len(looks) else None,
        )
        return Features((self.temporal(sequence, joined),))


class MidMaps(Scheme):
    """The same for image series on one grid, with U-TAE: own convolutions for each sensor, one sequence of dates.

    The temporal attention and the decoder are those of the first; every level is summed over the dates of all sensors.
    """

    def __init__(self, encoders: Mapping[str, UTAE]) -> None:
        super().__init__()
        lead = next(iter(encoders.values()))
        kinds = {name: (e.widths, e.strides, e.channels) for name, e in encoders.items()}
        if len(set(kinds.values())) > 1:
            raise ValueError(
                "mid fusion sums the maps of all sensors, so their U-TAE must be alike; widths, strides and decoders "
                f"are {kinds}: give the branches the same options, or set encoder.scheme=late"
            )
        for name, encoder in encoders.items():
            if encoder is not lead:
                del encoder.attention, encoder.ups
            self.add_module(f"of_{name}", encoder)
        self.names = tuple(encoders)
        size = lead.widths[-1]
        self.embedding = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(size)) for name in self.names})
        self.channels, self.strides = lead.channels, lead.strides

    def encoder(self, name: str) -> UTAE:
        """The network of a sensor."""
        return cast(UTAE, self.get_submodule(f"of_{name}"))

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """The maps of the lead's decoder."""
        one_grid("mid", {name: tuple(inputs[name].values.shape) for name in self.names if name in inputs})
        looks, coarsest = [], []
        for i, name in enumerate(self.names):
            if name in inputs:
                encoder, look = self.encoder(name), inputs[name]
                seen = encoder.seen(encoder.look({name: replace(look, valid=valid_dates(look) & present[:, i, None])}))
                looks.append(seen)
                coarsest.append(seen.coarsest + self.embedding[name].view(-1, 1, 1))
        return self.encoder(self.names[0]).joined(looks, coarsest)


def mid(sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build]) -> Scheme:
    """Mid fusion of the encoders that are built: all U-TAE, or all of parcels.

    Raises:
        ValueError: If they do not go together.
    """
    made = {n: single(builds[n], n, sensors[n], sensors.get(ATTRIBUTES, 0)) for n in names}
    images = {name: e for name, e in made.items() if isinstance(e, UTAE)}
    if len(images) == len(made):
        return MidMaps(images)
    return Mid(made)
