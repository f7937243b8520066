"""By how many days the target's season is later than the source's, without target labels.

The source's calendar is moved day by day and the squared distance to the target is measured at each move, twice: with
the source's class shares as they are, and with shares fitted anew at each move. The second is what is reported: more
winter wheat and an earlier season both make the average field green earlier, and only the second curve can tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .discrepancy import Mass, Sums, mix, squared_distance
from .profiles import Floats, Ints
from .repairs import by_block
from .scene import Scene

DRAWS = 60
FEW = 15  # parcels of a class on each side, below which its own shift is not estimated


@dataclass(frozen=True)
class Calendar:
    """Estimated shift in days, positive where the target is later.

    Attributes:
        days: Where the curve with fitted shares is lowest.
        low: 2.5 % quantile over draws of blocks.
        high: 97.5 % quantile.
        moves: (D,) candidate days.
        curve: (D,) squared distance with shares fitted at each move.
        as_is: (D,) squared distance with the source's shares.
    """

    days: float
    low: float
    high: float
    moves: Floats
    curve: Floats
    as_is: Floats


def calendar(scene: Scene, seed: int, draws: int = DRAWS) -> Calendar | None:
    """Estimate the shift and its interval by drawing blocks of both domains with replacement; None without a calendar.

    Args:
        scene: The two domains.
        seed: Of the draws.
        draws: Bootstrap samples.
    """
    if len(scene.moves) < 3:
        return None
    rng = np.random.default_rng(seed)
    goal = by_block(scene.target_features, scene.target_block, scene.blocks)
    curve = np.array([_with_shares(s, goal, None) for s in scene.plain])
    as_is = np.array([squared_distance(s.mass(), goal) for s in scene.plain])
    found = []
    for _ in range(draws):
        factor = redraw([scene.block, scene.target_block], scene.blocks, rng)
        again = goal.times(factor)
        found.append(lowest(scene.moves, np.array([_misfit(s, again, factor) for s in scene.plain])))
    low, high = np.quantile(found, [0.025, 0.975])
    return Calendar(lowest(scene.moves, curve), float(low), float(high), scene.moves, curve, as_is)


def _with_shares(source: Sums, goal: Mass, factor: Floats | None) -> float:
    means, n = source.means(factor)
    return squared_distance(source.mass(mix(means, n, goal.mean()), factor), goal)


def _misfit(source: Sums, goal: Mass, factor: Floats) -> float:
    """Plain squared distance of the means: its bias hardly depends on the move, and it is quick."""
    means, n = source.means(factor)
    return float(np.square(mix(means, n, goal.mean()) @ means - goal.mean()).sum())


def redraw(domains: list[Ints], blocks: int, rng: np.random.Generator) -> Floats:
    """(J,) how often each block is drawn when each domain draws as many of its own blocks as it has."""
    factor = np.zeros(blocks)
    for mine in domains:
        own = np.unique(mine)
        own = own[factor[own] == 0]  # blocks that both domains lie in are drawn once
        np.add.at(factor, rng.choice(own, len(own)) if len(own) else own, 1.0)
    return factor


def lowest(moves: Floats, curve: Floats) -> float:
    """Where a parabola through the lowest point and its neighbours is lowest; the point itself at either end."""
    i = int(np.argmin(curve))
    if i in (0, len(moves) - 1):
        return float(moves[i])
    a, b, c = curve[i - 1 : i + 2]
    bend = a - 2 * b + c
    return float(moves[i] + 0.5 * (moves[i + 1] - moves[i]) * (a - c) / bend) if bend > 0 else float(moves[i])


def per_class(scene: Scene, labels: np.ndarray) -> dict[str, float]:
    """Class -> its own shift in days, from target labels (M,) that were opened for it."""
    found = {}
    for k, name in enumerate(scene.names):
        rows = labels == name
        if rows.sum() < FEW or (scene.label == k).sum() < FEW or len(np.unique(scene.target_block[rows])) < 3:
            continue
        goal = by_block(scene.target_features[rows], scene.target_block[rows], scene.blocks)
        only = (np.arange(len(scene.names)) == k).astype(float)
        found[name] = lowest(scene.moves, np.array([squared_distance(s.mass(only), goal) for s in scene.plain]))
    return found
