"""Where modalities meet that have an encoder each: their features, or not before their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...types import Branch, Features, Inputs
from ..base import Encoder
from .joining import Join, resized
from .modalities import ATTRIBUTES, as_series, of_rows
from .schemes import PARCEL, Build, Scheme, single
from .static import exporting, rows_or_zeros


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
            if name not in inputs:
                continue
            looks = {PARCEL if name == ATTRIBUTES else name: as_series(inputs[name])}
            if ATTRIBUTES in inputs and name != ATTRIBUTES:
                looks[ATTRIBUTES] = inputs[ATTRIBUTES]
            if exporting():  # all samples, those that lack it hidden afterwards
                maps = self.branches[name](looks).maps
                found[name] = Branch(tuple(rows_or_zeros(x, present[:, i]) for x in maps), present[:, i])
                continue
            rows = present[:, i].nonzero()[:, 0]
            if not len(rows):
                continue
            maps = self.branches[name](of_rows(looks, rows) if len(rows) < len(present) else looks).maps
            found[name] = Branch(tuple(_spread(x, rows, len(present)) for x in maps), present[:, i])
        return found

    def parts(self) -> Mapping[str, Encoder]:
        """Modality -> its encoder."""
        return {name: branch for name, branch in self.branches.items() if isinstance(branch, Encoder)}

    def grid(self, inputs: Inputs, lead: Tensor | None, stride: int) -> tuple[int, ...]:
        """Rows and columns of a map of the first modality; () for vectors.

        Raises:
            LookupError: If the batch does not say how large the first modality is.
        """
        if stride == 0:
            return ()
        if lead is not None:
            return tuple(lead.shape[2:])
        name = self.names[0]
        if (size := self.parts()[name].size) is not None:
            return tuple(side // stride for side in size)
        if name not in inputs:
            raise LookupError(
                f"{name!r} leads this fusion of maps and says how large they are; this batch holds {sorted(inputs)}: "
                f"give it with all its pixels invalid"
            )
        return tuple(side // stride for side in inputs[name].values.shape[-2:])

    def check_lead(self) -> None:
        """Raises ValueError if the first modality gives vectors while others give maps."""
        if self.levels[self.names[0]][0][1] == 0 and any(levels[0][1] for levels in self.levels.values()):
            raise ValueError(
                f"the first modality {self.names[0]!r} gives vectors and others maps; put one with maps first in "
                f"encoder.modalities, of {list(self.names)}"
            )


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
        self.check_lead()
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
            grid = self.grid(inputs, at.get(self.names[0]), self.strides[level])
            maps.append(join([at.get(name) for name in self.names], present, grid))
        return Features(tuple(maps), found)


class Added(Branched):
    """What the others see is added to every map of the first: U-T&T (Garioud et al. 2023, FLAIR #2, arXiv:2310.13336).

    Of maps, the finest: its middle, projected to the channels of each level and resized ("cropped"), and its mean over
    all places, through three dense layers a level ("collapsed"). Of vectors (metadata): the same dense layers, to the
    deepest level alone. A sample without a sensor gets nothing added for it; without the first, a token a level.

    Deviation: each sample gets its own collapsed part (the official code adds that of the batch's first to all).

    Args:
        sensors: Name -> number of bands.
        names: The modalities; the first leads and gives maps.
        builds: Modality -> builder of its encoder.
        crop: Side of the middle part, in cells of the finest map; 0 = all of it.
        dropout: Between the dense layers.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        names: Sequence[str],
        builds: Mapping[str, Build],
        crop: int,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(sensors, names, builds)
        self.check_lead()
        lead = self.levels[self.names[0]]
        self.channels, self.strides = tuple(width for width, _ in lead), tuple(stride for _, stride in lead)
        if 0 in self.strides:
            raise ValueError(
                f"encoder.scheme=added adds to maps of the first modality; here {self.names[0]!r} gives vectors: set "
                "encoder.scheme=late, or take an encoder of images or image series"
            )
        if crop < 0:
            raise ValueError(f"encoder.crop is a number of cells, 0 = the whole map; got {crop}")
        self.crop = crop
        self.tokens = nn.ParameterList(nn.Parameter(0.02 * torch.randn(width)) for width in self.channels)
        self.cropped, self.collapsed = nn.ModuleDict(), nn.ModuleDict()
        for name in self.names[1:]:
            width, stride = self.levels[name][0]
            levels = self.channels if stride else self.channels[-1:]
            self.collapsed[name] = nn.ModuleList(_dense(width, out, dropout) for out in levels)
            if stride:
                self.cropped[name] = nn.ModuleList(nn.Conv2d(width, out, 1) for out in levels)

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """Maps of the first with the others added, and what each modality says by itself."""
        found, name = self.each(inputs, present), self.names[0]
        lead = found[name].maps if name in found else (None,) * len(self.channels)
        maps = []
        for x, token, stride in zip(lead, self.tokens, self.strides, strict=True):
            blank = token.view(1, -1, 1, 1).expand(present.shape[0], -1, *self.grid(inputs, x, stride))
            maps.append(blank if x is None else torch.where(present[:, :1, None, None], x, blank.to(x.dtype)))
        for i, other in enumerate(self.names[1:], 1):
            if other in found:
                there = present[:, i, None, None, None]
                for level, part in self._parts(other, found[other].maps[0], [m.shape[2:] for m in maps]).items():
                    maps[level] = maps[level] + part.where(there, 0.0)
        return Features(tuple(maps), found)

    def _parts(self, name: str, x: Tensor, sizes: Sequence[Sequence[int]]) -> dict[int, Tensor]:
        """What is added to which level."""
        dense = self.collapsed[name]
        if x.ndim == 2:
            return {len(sizes) - 1: dense[0](x)[:, :, None, None]}  # type: ignore[index]
        middle, mean, parts = self._middle(name, x), x.mean((2, 3)), {}
        for level, size in enumerate(sizes):
            near = F.interpolate(self.cropped[name][level](middle), tuple(size), mode="bilinear", align_corners=False)  # type: ignore[index]
            parts[level] = near + dense[level](mean)[:, :, None, None]  # type: ignore[index]
        return parts

    def _middle(self, name: str, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if not self.crop:
            return x
        if min(height, width) < self.crop:
            raise ValueError(
                f"encoder.crop={self.crop} takes the middle of maps that are at least as large; those of {name!r} are "
                f"{height} x {width}: set encoder.crop=0 where the images end where those of {self.names[0]!r} do"
            )
        top, left = (height - self.crop) // 2, (width - self.crop) // 2
        return x[:, :, top : top + self.crop, left : left + self.crop]


class Decision(Branched):
    """One encoder a modality, their deepest side by side: zeros where a sample lacks one. The head joins their answers.

    Maps are resized to the deepest of the first.
    """

    def __init__(self, sensors: Mapping[str, int], names: Sequence[str], builds: Mapping[str, Build]) -> None:
        super().__init__(sensors, names, builds)
        self.widths = {name: levels[-1][0] for name, levels in self.levels.items()}
        kinds = {name: "maps" if levels[-1][1] else "vectors" for name, levels in self.levels.items()}
        if len(set(kinds.values())) > 1:
            raise ValueError(
                f"decision fusion joins answers of one kind; the encoders give {kinds}: leave some out of "
                "encoder.modalities, or set encoder.scheme=late"
            )
        self.channels, self.strides = (sum(self.widths.values()),), (self.levels[self.names[0]][-1][1],)

    def forward(self, inputs: Inputs, present: Tensor) -> Features:
        """All in one (B, sum D) or (B, sum D, H, W), and each by itself."""
        found = self.each(inputs, present)
        deepest = {name: branch.maps[-1] for name, branch in found.items()}
        grid = self.grid(inputs, deepest.get(self.names[0]), self.strides[0])
        like = next(iter(deepest.values())) if deepest else next(self.parameters())
        blocks = [
            resized(deepest[name], grid)
            if name in deepest
            else like.new_zeros(present.shape[0], self.widths[name], *grid)
            for name in self.names
        ]
        return Features((torch.cat(blocks, 1),), found)


def _dense(width: int, out: int, dropout: float) -> nn.Sequential:
    """Three dense layers."""
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(width, out))


def _spread(x: Tensor, rows: Tensor, samples: int) -> Tensor:
    """Rows (N, *) back in their places among all samples, zeros elsewhere."""
    return x if len(x) == samples else x.new_zeros(samples, *x.shape[1:]).index_copy(0, rows, x)
