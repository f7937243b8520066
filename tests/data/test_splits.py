"""Block splits keep the distance they promise; random splits do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eo_adapt.data.splits import distance_report, smallest_distance, split_blocks

RATIOS = {"train": 0.6, "val": 0.15, "test": 0.25}
SEEDS = st.integers(0, 2**32 - 1)
BUFFERS = st.sampled_from([0.0, 50.0, 500.0, 1500.0])
Points = tuple[NDArray[np.float64], NDArray[np.float64]]


def _villages(seed: int, villages: int = 60, fields: int = 50, extent: float = 60_000.0) -> Points:
    """Clustered parcels: fields within some hundred metres of their village, whole metres so that ties occur."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-extent / 2, extent / 2, size=(villages, 1, 2))
    points = (centres + rng.normal(0, 400.0, size=(villages, fields, 2))).round().reshape(-1, 2)
    return points[:, 0], points[:, 1]


def _split(points: Points, seed: int, buffer: float = 500.0, block_size: float = 5_000.0) -> NDArray[np.str_]:
    try:
        return split_blocks(*points, block_size=block_size, buffer=buffer, ratios=RATIOS, seed=seed)
    except ValueError as error:
        assume("no parcel is left" not in str(error))
        raise


def _brute(points: Points, split: NDArray[np.str_], a: str, b: str) -> float:
    xy = np.column_stack(points)
    steps = xy[split == a][:, None] - xy[split == b][None]
    return float(np.hypot(steps[..., 0], steps[..., 1]).min(initial=np.inf))


@settings(max_examples=40, deadline=None)
@given(SEEDS, SEEDS, BUFFERS)
def test_no_split_comes_nearer_than_the_buffer(place: int, seed: int, buffer: float) -> None:
    points = _villages(place, villages=20, fields=15)
    split = _split(points, seed, buffer)
    for a, b in (("train", "test"), ("train", "val"), ("val", "test")):
        assert _brute(points, split, a, b) > buffer * (1 - 1e-12)


@settings(max_examples=25, deadline=None)
@given(SEEDS, SEEDS)
def test_same_seed_same_split_and_rows_may_come_in_any_order(place: int, seed: int) -> None:
    points = _villages(place, villages=20, fields=15)
    split = _split(points, seed)
    assert (split == _split(points, seed)).all()
    order = np.random.default_rng(seed).permutation(len(split))
    assert (_split((points[0][order], points[1][order]), seed) == split[order]).all()


def test_seeds_differ() -> None:
    points = _villages(0)
    assert (_split(points, 1) != _split(points, 2)).any()


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_ratios_are_met_with_many_blocks(seed: int, parts: list[int]) -> None:
    x, y = np.random.default_rng(seed).uniform(0, 100_000, size=(2, 4000))
    ratios = {f"part{i}": float(share) for i, share in enumerate(parts)}
    split = split_blocks(x, y, block_size=4_000, buffer=0, ratios=ratios, seed=seed)
    for name, share in ratios.items():
        assert (split == name).mean() == pytest.approx(share / sum(parts), abs=0.01)


def test_a_random_split_of_clustered_parcels_breaks_the_distance_claim() -> None:
    points = _villages(3)
    blocked = _split(points, 0)
    random = np.random.default_rng(0).permutation(blocked)  # as many parcels in each split, placed at random
    assert (
        smallest_distance(*points, random, "train", "test")
        <= 500
        < smallest_distance(*points, blocked, "train", "test")
    )
    unbuffered = _split(points, 0, buffer=0.0)
    assert smallest_distance(*points, unbuffered, "train", "test") <= 500  # blocks alone are not enough


def test_only_the_earlier_listed_split_gives_up_parcels() -> None:
    points = _villages(4)
    before, after = _split(points, 5, buffer=0.0), _split(points, 5, buffer=800.0)
    assert (before[after != "buffer"] == after[after != "buffer"]).all()
    lost = {name: int(((before == name) & (after == "buffer")).sum()) for name in RATIOS}
    assert lost["test"] == 0 < min(lost["train"], lost["val"])


def test_distances_and_report_agree_with_brute_force() -> None:
    points = _villages(6, villages=12)
    split = _split(points, 0)
    report = distance_report(*points, split)
    assert list(report) == ["train-val", "train-test", "val-test"]
    for pair, metres in report.items():
        a, b = pair.split("-")
        assert metres == pytest.approx(_brute(points, split, a, b))
    assert smallest_distance(*points, split, "train", "nowhere") == np.inf
    with pytest.raises(ValueError, match="twice"):
        smallest_distance(*points, split, "test", "test")
    with pytest.raises(ValueError, match="one name a parcel"):
        smallest_distance(*points, split[1:], "train", "test")


def test_too_few_blocks_says_what_to_change() -> None:
    x, y = np.random.default_rng(0).uniform(0, 1000, size=(2, 50))
    with pytest.raises(ValueError, match=r"\d+ x \d+ m make \d blocks of block_size=50000 m.*Lower block_size"):
        split_blocks(x, y, block_size=50_000, buffer=0, ratios=RATIOS, seed=0)
    with pytest.raises(ValueError, match=r"buffer=5000 m took \d+ parcels"):
        split_blocks(x, y, block_size=100, buffer=5_000, ratios=RATIOS, seed=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_coordinates_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="1 of 3 parcels have coordinates that are NaN or infinite"):
        split_blocks([0, 1, bad], [0, 1, 2], block_size=1, buffer=0, ratios=RATIOS, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_size": 0.0}, "block_size is > 0"),
        ({"buffer": -1.0}, "buffer >= 0"),
        ({"ratios": {"train": 1.0, "buffer": 1.0}}, "none called 'buffer'"),
        ({"ratios": {"train": 1.0, "test": 0.0}}, "positive shares"),
        ({"ratios": {}}, "positive shares"),
        ({"y": [1.0]}, "one length"),
        ({"x": [], "y": []}, "N >= 1"),
    ],
)
def test_settings_are_checked(change: dict[str, object], message: str) -> None:
    given: dict[str, object] = {
        "x": [0.0, 9.0],
        "y": [0.0, 9.0],
        "block_size": 1.0,
        "buffer": 0.0,
        "ratios": RATIOS,
        "seed": 0,
    }
    with pytest.raises(ValueError, match=message):
        split_blocks(**{**given, **change})  # type: ignore[arg-type]
