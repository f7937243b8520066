"""One cause of shift at a time: the diagnosis names it, without target labels."""

from __future__ import annotations

import numpy as np
import pytest
from single_cause import KNOBS, OFF, SHIFTS, scene

from eo_adapt.diagnosis.explain import Explanation, explain
from eo_adapt.diagnosis.phenology import calendar, lowest, per_class

PARCELS = 400
SEEDS = (0, 1)


def dominant(found: Explanation) -> str:
    steps = {cause: c.step for cause, c in found.causes.items() if c.step}
    return min(steps, key=lambda cause: steps[cause]) if steps else "none"


def test_each_config_turns_one_knob() -> None:
    turned = {cause: {k for k, v in knobs.items() if v != OFF[k]} for cause, knobs in KNOBS.items()}
    assert turned == {c: {"gap_contrast" if c == "gaps" else c} - {"none"} for c in KNOBS}
    assert {path.stem for path in SHIFTS.glob("embedded_*.yaml")} == {
        "embedded_" + ("private" if c == "private_class" else c) for c in KNOBS
    }


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("cause", KNOBS)
def test_the_only_cause_is_the_dominant_one(cause: str, seed: int) -> None:
    found = explain(scene(PARCELS, seed, **KNOBS[cause]), seed)
    assert dominant(found) == cause
    if cause in ("phenology", "radiometry", "priors"):
        assert found.causes[cause].alone > 0.6 * found.profiles
    if cause == "none":
        assert found.profiles < 0.01 * found.classes


def test_calendars_are_opposite_when_roles_are_swapped() -> None:
    from single_cause import tables

    from eo_adapt.diagnosis.scene import Scene

    france, _, estonia = tables(300, 0, phenology=1.0)
    there = calendar(Scene(france, estonia, frozenset(), False, 0), 0, draws=20)
    back = calendar(Scene(estonia, france, frozenset(), False, 0), 0, draws=20)
    assert there is not None
    assert back is not None
    assert there.low <= there.days <= there.high
    assert 5 < there.days < 30  # Estonia is later
    assert there.days == pytest.approx(-back.days, abs=6)
    days = per_class(Scene(france, estonia, frozenset(), False, 0), estonia.labels)
    assert np.median(list(days.values())) == pytest.approx(there.days, abs=8)


def test_the_lowest_point_of_a_parabola() -> None:
    moves = np.arange(-20.0, 21, 5)
    assert lowest(moves, (moves - 7.3) ** 2) == pytest.approx(7.3)
    assert lowest(moves, moves) == -20


def test_the_same_seed_gives_the_same_numbers() -> None:
    s = scene(200, 0)
    assert explain(s, 1, folds=2, nulls=3) == explain(scene(200, 0), 1, folds=2, nulls=3)
