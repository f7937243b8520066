"""Where modalities meet: their bands, their dates, their features, or not before their answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from ...types import Branch, Features, Inputs, Observation
from ..base import Encoder
from ..parcel import ParcelEncoder
from .joining import Join
from .masked import clean, valid_dates
from .modalities import ATTRIBUTES, as_series, at_dates, common_dates, of_rows

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
        looks = {name: self._series(name, inputs[name]) for name in self.names if name in inputs}
        dated = {name: look for name, look in looks.items() if name != ATTRIBUTES} or looks
        dates = common_dates({name: as_series(look) for name, look in dated.items()})
        assert dates.days is not None  # noqa: S101  (common dates have days)
        bands = []
        for i, name in enumerate(self.names):
            token = self.tokens[name].expand(*dates.days.shape, -1)
            if name in looks:
                reach = torch.inf if name == ATTRIBUTES else self.reach
                values, seen = at_dates(as_series(looks[name]), dates.days, reach)
                token = torch.where((seen & present[:, i, None])[..., None], values, token)
            bands.append(token)
        series = Observation(torch.cat(bands, -1), dates.days, dates.valid, gdd=dates.gdd)
        more = {ATTRIBUTES: inputs[ATTRIBUTES]} if ATTRIBUTES in inputs else {}
        found: Features = self.encoder({"series": series, **more})
        return found

    def _series(self, name: str, look: Observation) -> Observation:
        shape = tuple(look.values.shape)
        if len(shape) != (2 if name == ATTRIBUTES else 3):
            raise ValueError(
                f"early fusion reads parcel series (B, T, C); {name!r} has shape {shape}, and pixels of different "
                "sensors are not the same places: set encoder.scheme=mid, late or decision"
            )
        return look


class Mid(Scheme):
    """Dates of all modalities in one sequence, each with its own date, one temporal encoder over them.

    Each modality has its own spatial stage and adds a learned embedding to its dates; what a sample lacks is simply not
    in its sequence.
    """

    def __init__(self, sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build]) -> None:
        super().__init__()
        self.names = tuple(names)
        made = {n: single(builds[n], n, sensors[n], sensors.get(ATTRIBUTES, 0)) for n in self.names}
        encoders = {name: e for name, e in made.items() if isinstance(e, ParcelEncoder)}
        widths = {name: e.spatial.out for name, e in encoders.items()}
        if len(encoders) < len(made) or len(set(widths.values())) > 1:
            odd = {name: widths.get(name, type(e).__name__) for name, e in made.items()}
            raise ValueError(
                "mid fusion joins the dates of parcel encoders whose spatial stages give vectors of one size; got "
                f"{odd}: give the branches the same spatial.out, or set encoder.scheme=late"
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


class Branched(Scheme):
    """One encoder a modality, each fed with the samples that have it; nothing joined yet."""

    def __init__(self, sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build]) -> None:
        super().__init__()
        self.names = tuple(names)
        made = {n: single(builds[n], n, sensors[n], sensors.get(ATTRIBUTES, 0)) for n in self.names}
        self.branches = nn.ModuleDict(made)
        self.levels = {n: tuple(zip(e.channels, e.strides, strict=True)) for n, e in made.items()}

    def each(self, inputs: Inputs, present: Tensor) -> dict[str, Branch]:
        """What each modality says, zeros for samples that lack it; those that nobody has are left out."""
        found = {}
        for i, name in enumerate(self.names):
            rows = present[:, i].nonzero()[:, 0]
            if name not in inputs or not len(rows):
                continue
            looks = {PARCEL if name == ATTRIBUTES else name: as_series(inputs[name])}
            if ATTRIBUTES in inputs and name != ATTRIBUTES:
                looks[ATTRIBUTES] = inputs[ATTRIBUTES]
            maps = self.branches[name](of_rows(looks, rows) if len(rows) < len(present) else looks).maps
            found[name] = Branch(tuple(_spread(x, rows, len(present)) for x in maps), present[:, i])
        return found

    def parts(self) -> Mapping[str, Encoder]:
        """Modality -> its encoder."""
        return {name: branch for name, branch in self.branches.items() if isinstance(branch, Encoder)}


class Late(Branched):
    """One encoder a modality, joined level by level on the grid of the first; levels are matched from the deepest on.

    A vector beside maps joins every level. Where the first modality has more levels than another, its finest ones get
    that one's finest.

    Args:
        sensors: Name -> number of bands.
        names: The modalities; the first leads.
        builds: Modality -> builder of its encoder.
        out: Channels of the joined vector; 0 = those of the first. Maps keep the first's, level by level.
        attention: Let the modalities look at each other first.
    """

    def __init__(
        self, sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build], out: int, attention: bool
    ) -> None:
        super().__init__(sensors, names, builds)
        lead = self.levels[self.names[0]]
        self.strides = tuple(stride for _, stride in lead)
        self.channels = tuple(out or width if stride == 0 else width for width, stride in lead)
        if 0 in self.strides and any(stride for levels in self.levels.values() for _, stride in levels):
            raise ValueError(
                f"the first modality {self.names[0]!r} gives vectors and others maps; put one with maps first in "
                f"encoder.modalities, of {list(self.names)}"
            )
        self.joins = nn.ModuleList(
            Join([self._width(n, level) for n in self.names], width, self.strides[level] != 0, attention)
            for level, width in enumerate(self.channels)
        )

    def _level(self, name: str, level: int) -> int:
        """Which level of a modality meets a level of the first, counted from the deepest."""
        return max(level - len(self.strides), -len(self.levels[name]))

    def _width(self, name: str, level: int) -> int:
        return self.levels[name][self._level(name, level)][0]

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """Joined maps or vectors, and what each modality says by itself."""
        found = self.each(inputs, present)
        maps = []
        for level, join in enumerate(self.joins):
            at = {name: branch.maps[self._level(name, level)] for name, branch in found.items()}
            grid = self._grid(inputs, at.get(self.names[0]), level)
            maps.append(join([at.get(name) for name in self.names], present, grid))
        return Features(tuple(maps), found)

    def _grid(self, inputs: Inputs, lead: Tensor | None, level: int) -> tuple[int, ...]:
        """Rows and columns of a level; () for vectors."""
        stride, name = self.strides[level], self.names[0]
        if stride == 0:
            return ()
        if lead is not None:
            return tuple(lead.shape[2:])
        if name not in inputs:
            raise LookupError(
                f"{name!r} leads this fusion of maps and says how large they are; this batch holds {sorted(inputs)}: "
                f"give it with all its pixels invalid"
            )
        return tuple(side // stride for side in inputs[name].values.shape[-2:])


class Decision(Branched):
    """One encoder a modality, side by side: zeros where a sample lacks one. The head joins their answers."""

    def __init__(self, sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build]) -> None:
        super().__init__(sensors, names, builds)
        self.widths = {name: levels[-1][0] for name, levels in self.levels.items()}
        if any(levels[-1][1] for levels in self.levels.values()):
            raise ValueError(
                "decision fusion joins the answers of parcel encoders so far; for maps set encoder.scheme=late"
            )
        self.channels, self.strides = (sum(self.widths.values()),), (0,)

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """All vectors in one (B, sum D), and each by itself."""
        found = self.each(inputs, present)
        like = next(iter(found.values())).maps[-1] if found else next(self.parameters())
        blocks = [
            found[name].maps[-1] if name in found else like.new_zeros(len(present), self.widths[name])
            for name in self.names
        ]
        return Features((torch.cat(blocks, 1),), found)


def _spread(x: Tensor, rows: Tensor, samples: int) -> Tensor:
    """Rows (N, *) back in their places among all samples, zeros elsewhere."""
    return x if len(x) == samples else x.new_zeros(samples, *x.shape[1:]).index_copy(0, rows, x)
