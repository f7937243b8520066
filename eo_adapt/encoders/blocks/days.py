"""Continuous positions in time: days on a line, days on the year circle, or accumulated heat."""

from __future__ import annotations

from math import pi
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ...types import Observation
from .masked import valid_dates

Position = Literal["days", "doy", "gdd"]

YEAR = 365.25  # days


def position(observation: Observation, kind: Position) -> Tensor:
    """Where each date stands.

    Args:
        observation: Needs ``days`` for "days" and "doy", ``gdd`` for "gdd".
        kind: "days" since 1 January of the label year, "doy" in [0, 365.25), or growing degree days "gdd".

    Returns:
        (B, T) float32, 0 on invalid dates.

    Raises:
        ValueError: If the observation lacks what the kind needs.
    """
    place = observation.gdd if kind == "gdd" else observation.days
    if place is None and kind == "gdd":
        raise ValueError(
            "position='gdd' needs growing degree days and this observation has none: "
            "set position=days, or prepare a store with temperatures"
        )
    if place is None:
        raise ValueError(f"position={kind!r} needs the days (B, T) of an observation and this one has none")
    place = place.float().where(valid_dates(observation), 0.0)
    return place.remainder(YEAR) if kind == "doy" else place


class DayEncoding(nn.Module):
    """Sine and cosine code of a date, without parameters or tables: negative and fractional days work.

    On a line (days, gdd) the angle is pos / tau^(2 floor(i/2) / d), Vaswani et al. 2017; on the year circle (doy) it is
    2 pi (floor(i/2) + 1) pos / 365.25, so that 31 December and 1 January are neighbours. Even i take the sine, odd i
    the cosine. With h heads the code has d = dim / h dimensions and is tiled h times, as in L-TAE (Garnot & Landrieu
    2020).

    Args:
        dim: Size of the code, a multiple of ``heads``.
        position: What the position is: "days", "doy" or "gdd".
        tau: Longest wavelength / (2 pi), in days or degree days; None is 1,000 for days and 10,000 for gdd (Nyborg et
            al. 2022). The year circle has no use for it.
        heads: How often the code is tiled.
    """

    def __init__(self, dim: int, position: Position = "days", tau: float | None = None, heads: int = 1) -> None:
        super().__init__()
        if position not in get_args(Position):
            raise ValueError(f"position is {position!r}; allowed are {list(get_args(Position))}")
        if dim % heads:
            raise ValueError(
                f"a code of {dim} dimensions cannot be tiled over {heads} heads: choose a multiple of heads"
            )
        self.dim, self.position, self.heads = dim, position, heads
        self.tau = (10_000.0 if position == "gdd" else 1_000.0) if tau is None else float(tau)

    def forward(self, observation: Observation) -> Tensor:
        """Code of every date: (B, T, dim) float32."""
        place = position(observation, self.position)[..., None]
        size = self.dim // self.heads
        order = torch.arange(size, device=place.device)
        pair = (order // 2).to(place.dtype)
        angle = place * (2 * pi / YEAR * (pair + 1) if self.position == "doy" else self.tau ** (-2 * pair / size))
        return torch.where(order % 2 == 0, angle.sin(), angle.cos()).repeat(1, 1, self.heads)
