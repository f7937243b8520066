"""U-TAE: a U-Net over every date, joined by temporal attention at its lowest level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ..types import Features, Inputs, Observation
from .blocks.convs import Down, Norm, Up, check_norm, convs
from .blocks.days import Position
from .blocks.frames import Frames, dates_only, seen_cells, weighted_sum
from .blocks.ltae_maps import LTAEMaps
from .blocks.static import exporting
from .series import SeriesEncoder

Aggregate = Literal["att_group", "att_mean", "mean"]
PIECE = 4 * 128 * 128  # pixels of the frames that a CPU convolves at a time


class SeenFrames(NamedTuple):
    """A series after the convolutions over its frames.

    Attributes:
        dates: Its days and ``valid``.
        cells: (B, T, h, w) bool, cells of the coarsest maps that show something.
        frames: Which frames are valid.
        levels: At each stride, finest first, maps of the valid frames in pieces of one sample each.
        owners: The sample of each piece.
        coarsest: (B, T, D, h, w), maps of the last level in their places.
    """

    dates: Observation
    cells: Tensor
    frames: Frames
    levels: list[tuple[Tensor, ...]]
    owners: list[int]
    coarsest: Tensor


def one_sequence(looks: Sequence[SeenFrames]) -> Observation:
    """The dates of several series, one after the other."""
    if len(looks) == 1:
        return looks[0].dates
    fields = {name: [getattr(look.dates, name) for look in looks] for name in ("days", "valid", "gdd")}
    known = {name: torch.cat(x, 1) for name, x in fields.items() if all(y is not None for y in x)}
    return Observation(looks[0].coarsest, **known)


class UTAE(SeriesEncoder):
    """U-TAE (Garnot & Landrieu 2021, "Panoptic segmentation of satellite image time series", arXiv:2107.07933).

    A convolutional encoder, shared by all dates, runs on the valid frames alone: they are gathered once a batch.
    L-TAE attends to the dates of each cell of the coarsest maps; its weights, upsampled, aggregate the maps of every
    finer level, which the decoder joins.

    With official settings and the head ``dense`` it has 1,087,220 parameters for 20 classes; the official code has
    1,087,260: 40 are the batch norm (and ReLU) on its logits, for which this package has no use.

    Deviations: frames are invalid where the masks say so (theirs: where all pixels equal the pad value); the norm
    before the attention sees valid dates only, so that the output does not depend on padding; no forward pass over
    zeros to learn a shape. Where ``valid_pixels`` are given, invalid pixels are zeros, and a cell of the coarsest map
    gets no attention on dates of which it has no valid pixel.

    Args:
        sensors: The data's sensors, name -> number of bands.
        sensor: The sensor to read; "auto" takes the only one.
        widths: Channels of the encoder at each stride 1, 2, 4, ...; multiples of ``heads``.
        decoder: Channels of the decoder at each stride but the last, finest first.
        heads: Heads of the attention.
        d_model: Width of the attention, a multiple of ``heads``.
        d_key: Size of a key.
        aggregate: Weights of the dates at finer levels: ``att_group`` (each head for its group of channels),
            ``att_mean`` (mean of the heads) or ``mean`` (all alike).
        norm: Of the convolutions over dates: ``group`` (of one frame alone) or ``batch`` (over the valid frames). The
            decoder has batch norm in either case.
        dropout: On the output of the attention.
        attention_dropout: On its weights.
        position: What the position code reads: "days", "doy" or "gdd".
        tau: Longest wavelength / (2 pi) of the code; None is 1,000 for days and 10,000 for gdd.
        down: Step from each map to the next, 2 or 1; 1 keeps every map at the size of the image, for series of a few
            pixels (FLAIR-HUB, Garioud et al. 2025).

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If widths do not fit each other or the heads, or an option is out of its range.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        sensor: str = "auto",
        widths: Sequence[int] = (64, 64, 64, 128),
        decoder: Sequence[int] = (32, 32, 64),
        heads: int = 16,
        d_model: int = 256,
        d_key: int = 4,
        aggregate: Aggregate = "att_group",
        norm: Norm = "group",
        dropout: float = 0.2,
        attention_dropout: float = 0.1,
        position: Position = "days",
        tau: float | None = None,
        down: int = 2,
    ) -> None:
        super().__init__(sensors, sensor)
        _check(widths, decoder, heads, aggregate, down)
        check_norm(norm, widths)
        self.aggregate, self.norm, self.widths = aggregate, norm, tuple(widths)
        self.first = convs((self.bands, widths[0], widths[0]), norm)
        self.downs = nn.ModuleList(Down(a, b, norm, down) for a, b in pairwise(widths))
        self.attention = LTAEMaps(widths[-1], d_model, heads, d_key, dropout, attention_dropout, position, tau)
        ups = zip(pairwise((*decoder, widths[-1])), widths[:-1], strict=True)
        self.ups = nn.ModuleList(Up(b, a, skip, down) for (a, b), skip in ups)  # finest first
        self.channels = (*decoder, widths[-1])
        self.strides = tuple(down**i for i in range(len(widths)))
        self.step = self.strides[-1]
        self.least = 2 * self.step  # reflecting the border takes two cells a side

    def forward(self, inputs: Inputs) -> Features:
        """One map a stride, (B, D_i, H / stride_i, W / stride_i): the decoder's, and the attention's as the last."""
        looks = [self.seen(self.look(inputs))]
        return self.joined(looks, [looks[0].coarsest])

    def seen(self, observation: Observation) -> SeenFrames:
        """What the convolutions make of the valid frames of a clean series, see :meth:`look`."""
        assert observation.valid is not None  # noqa: S101 - look gives it
        frames = Frames(observation.valid)
        levels, owners = self._levels(frames.pack(observation.values), frames)
        coarsest = frames.spread(torch.cat(levels[-1]))
        return SeenFrames(dates_only(observation), seen_cells(observation, self.step), frames, levels, owners, coarsest)

    def joined(self, looks: Sequence[SeenFrames], coarsest: Sequence[Tensor]) -> Features:
        """Attend to the dates of all series as to one, aggregate every level by the weights, and decode.

        Args:
            looks: Series of one grid, each with dates of its own.
            coarsest: Their coarsest maps (B, T_i, D, h, w), which the attention reads.
        """
        seen = torch.cat([look.cells for look in looks], 1)
        out, attention = self.attention(torch.cat(list(coarsest), 1), seen, one_sequence(looks))
        weights = self._weights(attention, seen).split([look.cells.shape[1] for look in looks], 1)
        packed = [look.frames.pack(weight) for look, weight in zip(looks, weights, strict=True)]
        maps = [out]
        for level, up in reversed(list(enumerate(self.ups))):
            sums = [
                weighted_sum(x.levels[level], w, x.owners, out.shape[0]) for x, w in zip(looks, packed, strict=True)
            ]
            maps.append(up(maps[-1], torch.stack(sums).sum(0) if len(sums) > 1 else sums[0]))
        return Features(tuple(reversed(maps)))

    def _levels(self, x: Tensor, frames: Frames) -> tuple[list[tuple[Tensor, ...]], list[int]]:
        """Maps of the frames at each stride in pieces of one sample each, and the sample of each piece.

        Small pieces stay in the cache of a CPU and in memory that it has at hand: a fifth faster. A GPU takes all
        frames at once, and so must batch norm, for its statistics.
        """
        x = x.contiguous(memory_format=torch.channels_last)  # convolutions are faster so
        if exporting():
            return [(level,) for level in self._convolve(x)], []
        whole = x.device.type != "cpu" or self.norm == "batch"
        sizes, owners = frames.pieces(None if whole else max(PIECE // (x.shape[2] * x.shape[3]), 1))
        found = [self._convolve(some) for some in ([x] if whole else x.split(sizes))]
        levels = list(zip(*found, strict=True))
        return [level[0].split(sizes) for level in levels] if whole else levels, owners

    def _convolve(self, x: Tensor) -> list[Tensor]:
        """(N, C, H, W) -> one map a stride, finest first."""
        maps = [self.first(x)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        return maps

    def _weights(self, attention: Tensor, seen: Tensor) -> Tensor:
        """Weights of the dates at finer levels, (B, T, groups, h, w)."""
        if self.aggregate == "att_group":
            return attention
        if self.aggregate == "att_mean":
            return attention.mean(2, keepdim=True)
        return (seen / seen.sum(1, keepdim=True).clamp(min=1))[:, :, None]


def _check(widths: Sequence[int], decoder: Sequence[int], heads: int, aggregate: str, down: int) -> None:
    if down not in (1, 2):
        raise ValueError(f"encoder.down must be 2 (halve the sides) or 1 (keep them); got {down}")
    if aggregate not in get_args(Aggregate):
        raise ValueError(f"encoder.aggregate must be one of {list(get_args(Aggregate))}; got {aggregate!r}")
    if len(widths) < 2 or len(decoder) != len(widths) - 1:
        raise ValueError(
            "encoder.widths lists at least two strides and encoder.decoder one less, for the coarsest map is the "
            f"attention's; got widths {list(widths)} and decoder {list(decoder)}"
        )
    if heads < 1 or any(width % heads for width in widths):
        raise ValueError(
            f"each of the {heads} heads weighs a group of channels: encoder.widths must be multiples of encoder.heads; "
            f"got {list(widths)}"
        )
