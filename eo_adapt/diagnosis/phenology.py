"""By how many days the target's season is later than the source's, without target labels.

The source's calendar is moved and the distance to the target is measured at each move, after gain and offset of each
band were matched, so that a greener domain is no later one. More winter wheat and an earlier season both make the
average field green earlier. The shares of the classes are therefore fitted anew at each move, but held to the source's:
entirely free shares imitate any calendar where classes are many and bands few.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .blocks import redraw
from .discrepancy import Sums, mix, squared_distance
from .explain import class_distance
from .profiles import Floats
from .repairs import by_block
from .scene import Scene

DRAWS = 60
HOLD = 0.1  # how strongly shares are held, in mean squared distances of two classes
FEW = 15  # parcels of a class on each side, below which its own shift is not estimated


@dataclass(frozen=True)
class Calendar:
    """Estimated shift in days, positive where the target is later.

    Attributes:
        days: Where the curve with fitted shares is lowest.
        low: 2.5 % quantile over draws of blocks.
        high: 97.5 % quantile.
        moves: (D,) candidate days.
        curve: (D,) what is minimised: squared distance with shares fitted at each move, plus what the fit costs.
        as_is: (D,) unbiased squared distance with the source's shares.
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
    hold = HOLD * class_distance(scene)
    goal = by_block(scene.target_features, scene.target_block, scene.blocks)
    curve = np.array([_misfit(s, goal.mean(), hold, None) for s in scene.matched])
    as_is = np.array([squared_distance(s.mass(), goal) for s in scene.matched])
    found = []
    for _ in range(draws):
        factor = redraw([scene.block, scene.target_block], scene.blocks, rng)
        again = goal.times(factor).mean()
        found.append(lowest(scene.moves, np.array([_misfit(s, again, hold, factor) for s in scene.matched])))
    low, high = np.quantile(found, [0.025, 0.975])
    return Calendar(lowest(scene.moves, curve), float(low), float(high), scene.moves, curve, as_is)


def _misfit(source: Sums, goal: Floats, hold: float, factor: Floats | None) -> float:
    """Squared distance of the means plus the cost of the shares; its bias hardly depends on the move."""
    means, n = source.means(factor)
    shares, there = mix(means, n, goal, hold), n > 0
    cost = np.square(shares - n / n.sum())[there] @ (n.sum() / n[there])
    return float(np.square(shares @ means - goal).sum() + hold * cost)


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
        found[name] = lowest(scene.moves, np.array([squared_distance(s.mass(only), goal) for s in scene.matched]))
    return found
