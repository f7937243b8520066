"""A domain as an analyst would tabulate it: parcels x time bins x bands, with the spatial block of each parcel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..data.loader import Part, PartLoader, Reader
from ..data.parts import DomainParcels
from .profiles import Floats, Ints, Mask, bin_edges, bin_series, interpolate, typical_step

if TYPE_CHECKING:
    from ..data.datamodule import DomainDataModule

SPLITS = ("train", "val")  # test parcels stay sealed, their inputs too
MINIMUM = (20, 4)  # parcels and spatial blocks, below which no interval means anything
ENOUGH = 12  # blocks of a domain; with fewer, blocks are made smaller, at most four times halved
PRESENT = 0.3  # a bin is compared where at least this share of every domain's parcels has a date
SOME = 0.5  # a sensor is compared where at least this share of every domain's parcels has a date


@dataclass(frozen=True)
class Series:
    """One sensor's dates of N parcels, padded, pixels averaged.

    Attributes:
        values: (N, T, C) physical units.
        days: (N, T) days since 1 January of the label year.
        valid: (N, T) dates that may be used.
        real: (N, T) False on padding.
    """

    values: Floats
    days: Ints
    valid: Mask
    real: Mask


@dataclass(frozen=True)
class Binned:
    """One sensor's bins: ``values`` (N, B, C), mean day ``centre`` (N, B), valid dates ``counts`` (N, B)."""

    bands: tuple[str, ...]
    values: Floats
    centre: Floats
    counts: Ints


@dataclass(frozen=True)
class ParcelTable:
    """Parcels of one domain that have dates of every sensor compared.

    Attributes:
        name: The domain's name.
        role: ``source`` or ``target``.
        rows: (N,) positions in the store.
        labels: (N,) class names, "" where sealed or unknown.
        block: (N,) number of the spatial block; parcels of one place share it in all domains.
        edges: (B + 1,) days.
        season: (B,) bins in which every domain has dates; profiles are compared there.
        sensors: Sensor -> its bins.
        series: Sensor -> its dates.
    """

    name: str
    role: str
    rows: Ints
    labels: np.ndarray
    block: Ints
    edges: Floats
    season: Mask
    sensors: Mapping[str, Binned]
    series: Mapping[str, Series]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of all bands, sensor by sensor; with the sensor's name where there are several."""
        many = len(self.sensors) > 1
        return tuple(f"{name}/{b}" if many else b for name, s in self.sensors.items() for b in s.bands)

    @property
    def middle(self) -> Floats:
        """(B,) middle of each bin, days."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    @property
    def counts(self) -> Ints:
        """(N, B * sensors) valid dates a bin."""
        return np.concatenate([s.counts for s in self.sensors.values()], 1)

    @property
    def presence(self) -> Floats:
        """(B,) share of the parcels that have a valid date of every sensor in a bin."""
        return np.asarray(np.all([s.counts > 0 for s in self.sensors.values()], 0).mean(0))

    def profiles(self, move: float = 0.0, counts: Ints | None = None) -> Floats:
        """Bands over the season, gaps bridged.

        Args:
            move: Days that the series are moved later. Where that would need dates before the first or after the last
                bin in which parcels have dates, the values stay as they are without the move.
            counts: Read only bins in which these (N, B * sensors) are positive; None = all with dates.

        Returns:
            (N, season, C).
        """
        at = self.middle[self.season]
        split = np.split(self.counts if counts is None else counts, len(self.sensors), 1)
        sensors = list(zip(self.sensors.values(), split, strict=True))
        still = np.concatenate([interpolate(s.values, s.centre, c, at) for s, c in sensors], -1)
        if not move:
            return still
        moved = np.concatenate([interpolate(s.values, s.centre, c, at, move) for s, c in sensors], -1)
        known = self.middle[np.flatnonzero(self.presence >= PRESENT)[[0, -1]]]
        inside = (at - move >= known[0]) & (at - move <= known[1])
        return np.where(inside[:, None], moved, still)

    def take(self, keep: Ints | Mask) -> ParcelTable:
        """Some of the parcels."""
        pick = {n: replace(s, values=s.values[keep], centre=s.centre[keep], counts=s.counts[keep]) for n, s in
                self.sensors.items()}  # fmt: skip
        dates = {n: Series(s.values[keep], s.days[keep], s.valid[keep], s.real[keep]) for n, s in self.series.items()}
        return replace(
            self, rows=self.rows[keep], labels=self.labels[keep], block=self.block[keep], sensors=pick, series=dates
        )


def read_series(data: DomainDataModule, rows: Ints, sensor: str) -> Series:
    """One sensor's dates of some parcels; of pixel sets, the mean over the pixels that the reader takes."""
    reader = Reader(data.store, {sensor: data.bands[sensor]}, data.pixels)
    dates = data.store.arrays[sensor].dates[torch.from_numpy(rows)].numpy()
    shape = (len(rows), int(dates.max(initial=0)))
    values = np.zeros((*shape, len(data.bands[sensor])))
    days, valid = np.zeros(shape, np.int64), np.zeros(shape, bool)
    at = 0
    for batch in PartLoader(reader, Part(torch.from_numpy(rows), None), 512):
        o = batch.inputs[sensor]
        assert o.days is not None and o.valid is not None  # noqa: S101, PT018  (series of a store have both)
        x = o.values
        if o.valid_pixels is not None:
            x = (x * o.valid_pixels[:, :, None]).sum(-1) / o.valid_pixels.sum(-1)[:, :, None].clamp_min(1)
        here = (slice(at, at + len(x)), slice(0, x.shape[1]))
        values[here], days[here], valid[here] = x.double().numpy(), o.days.numpy(), o.valid.numpy()
        at += len(x)
    real = np.arange(shape[1]) < dates[:, None]
    if data.days:
        real &= (days >= data.days[0]) & (days <= data.days[1])
    valid &= np.isfinite(values).all(-1) & real
    return Series(np.where(valid[..., None], values, 0.0), days, valid, real)


def choose(d: DomainParcels, labels: np.ndarray, most: int, seed: int) -> tuple[Ints, np.ndarray]:
    """Rows and class names of the domain's train and val parcels, at most ``most``, drawn by ``seed``, ascending."""
    at = np.flatnonzero(np.isin(d.split, SPLITS))
    if len(at) > most:
        at = np.sort(np.random.default_rng(seed).permutation(at)[:most])
    return d.rows[at].astype(np.int64), labels[at].astype(str)


def blocks_of(place: Floats, sizes: Sequence[int], edge: float) -> tuple[list[Ints], float]:
    """Number of each parcel's spatial block, parcels of one place alike in all domains, and the edge that was used.

    Without coordinates each parcel is a block of its own, of edge 0.

    Args:
        place: (N, 2) metres, domain after domain.
        sizes: Parcels of each domain.
        edge: Metres wanted.
    """
    cuts = np.cumsum(sizes)[:-1]
    if not np.isfinite(place).all():
        return np.split(np.arange(len(place)), cuts), 0.0
    for halved in range(5):
        cells = np.floor(place / (edge / 2**halved))
        number = np.unique(cells, axis=0, return_inverse=True)[1].ravel().astype(np.int64)
        found = np.split(number, cuts)
        if min(len(np.unique(n)) for n in found) >= ENOUGH:
            break
    return found, edge / 2**halved


@dataclass(frozen=True)
class Tables:
    """The domains of a shift, tabulated.

    Attributes:
        sources: One table a source.
        targets: One a target.
        lacking: Sensor -> domains that lack it; such a sensor is not compared.
        edge: Edge of a spatial block in metres, 0 = places are not known.
    """

    sources: tuple[ParcelTable, ...]
    targets: tuple[ParcelTable, ...]
    lacking: Mapping[str, list[str]]
    edge: float


def read_tables(data: DomainDataModule, most: int, seed: int, truth: Mapping[str, np.ndarray] | None = None) -> Tables:
    """Tables of all domains of a shift, on common bins.

    Args:
        data: The domains, set up.
        most: Parcels a domain.
        seed: Of the draw.
        truth: Domain -> class name of each of its parcels, for targets whose labels were opened.

    Raises:
        ValueError: If the domains have no sensor or season in common, or one has too few parcels or blocks.
    """
    drawn = [choose(d, (truth or {}).get(d.domain.name, d.labels), most, seed) for d in data.parcels]
    place = data.store.index[["x", "y"]].to_numpy(float)[np.concatenate([rows for rows, _ in drawn])]
    blocks, edge = blocks_of(place, [len(rows) for rows, _ in drawn], data.split.block_size)
    found = {name: [read_series(data, rows, name) for rows, _ in drawn] for name in data.bands}
    shares = {name: [s.valid.any(1).mean() for s in every] for name, every in found.items()}
    names = [d.domain.name for d in data.parcels]
    lacking = {n: [d for d, v in zip(names, x, strict=True) if v < SOME] for n, x in shares.items() if min(x) < SOME}
    common = [name for name in data.bands if name not in lacking]
    if not common:
        raise ValueError(
            f"the domains {names} share no sensor with valid dates; sensor -> domains without: {lacking}. Choose "
            "data.bands or other domains"
        )
    days = np.concatenate([s.days[s.valid] for name in common for s in found[name]])
    edges = bin_edges(days, max(typical_step(s.days, s.real) for name in common for s in found[name]))
    tables = []
    for i, d in enumerate(data.parcels):
        series = {name: found[name][i] for name in common}
        sensors = {
            name: Binned(tuple(data.bands[name]), *bin_series(s.values, s.days, s.valid, edges))
            for name, s in series.items()
        }
        whole = ParcelTable(
            d.domain.name, d.role, *drawn[i], blocks[i], edges, np.ones(len(edges) - 1, bool), sensors, series
        )
        tables.append(check(whole.take(np.all([s.counts.any(1) for s in sensors.values()], 0)), edge))
    return _split(in_season(tables), lacking, edge)


def _split(tables: Sequence[ParcelTable], lacking: Mapping[str, list[str]], edge: float) -> Tables:
    sources = tuple(t.take(t.labels != "") for t in tables if t.role == "source")
    return Tables(tuple(check(t, edge) for t in sources), tuple(t for t in tables if t.role == "target"), lacking, edge)


def in_season(tables: Sequence[ParcelTable]) -> list[ParcelTable]:
    """The tables, compared only in bins in which every domain has dates."""
    season = np.min([t.presence for t in tables], 0) >= PRESENT
    if season.sum() < min(2, len(season)):
        raise ValueError(
            f"the domains {[t.name for t in tables]} have dates in different parts of the year: in no two bins of "
            f"{tables[0].edges[1] - tables[0].edges[0]:g} days has each {PRESENT:.0%} of its parcels"
        )
    return [replace(t, season=season) for t in tables]


def check(table: ParcelTable, edge: float) -> ParcelTable:
    """Refuse a table that is too small to say anything."""
    parcels, blocks = len(table), len(np.unique(table.block))
    if parcels < MINIMUM[0] or blocks < MINIMUM[1]:
        raise ValueError(
            f"domain {table.name!r} has {parcels} train and val parcels that can be used, in {blocks} blocks of "
            f"{edge:g} m; a diagnosis needs at least {MINIMUM[0]} in {MINIMUM[1]}. Select more parcels, or lower "
            "data.split.block_size"
        )
    return table


def pooled(tables: Sequence[ParcelTable], name: str) -> ParcelTable:
    """Several tables on the same bins as one; their series are left out."""
    sensors = {
        sensor: Binned(
            first.bands,
            *(np.concatenate([getattr(t.sensors[sensor], x) for t in tables]) for x in ("values", "centre", "counts")),
        )
        for sensor, first in tables[0].sensors.items()
    }
    whole = [np.concatenate([getattr(t, x) for t in tables]) for x in ("rows", "labels", "block")]
    return ParcelTable(
        name, tables[0].role, whole[0], whole[1], whole[2], tables[0].edges, tables[0].season, sensors, {}
    )
