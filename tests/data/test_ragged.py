"""Gathering ragged series and pixel sets: what was written comes back, padding is zero and invalid."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import S1, S2, record, series, write

from eo_adapt.data.ragged import Ragged
from eo_adapt.data.records import Record, Sensor

SHAPES = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 5)), min_size=1, max_size=6)
SCALED = Sensor(("B02", "B04", "B08"), scale=2e-4, offset=-0.1)


def _physical(values: np.ndarray, sensor: Sensor) -> np.ndarray:
    if sensor.dtype == "float32":
        return values
    return values.astype(np.float32) * np.float32(sensor.scale) + np.float32(sensor.offset)


def _ragged(records: list[Record], sensor: Sensor = S2) -> Ragged:
    with tempfile.TemporaryDirectory() as folder:
        return write(Path(folder) / "store", records, {"s2": sensor}).arrays["s2"].to("cpu")


@settings(max_examples=60, deadline=None)
@given(
    shapes=SHAPES,
    seed=st.integers(0, 2**16),
    sets=st.booleans(),
    gdd=st.booleans(),
    kind=st.sampled_from([S2, SCALED, S1]),
)
def test_what_was_written_comes_back(
    shapes: list[tuple[int, int]], seed: int, sets: bool, gdd: bool, kind: Sensor
) -> None:
    rng = np.random.default_rng(seed)
    bands = len(kind.bands)
    records = []
    for i, (t, s) in enumerate(shapes):
        valid = rng.random(t) > 0.3
        valid[rng.integers(t)] = True
        there = rng.random((s, t)) > 0.2 if sets else None
        if there is not None:
            there[0] = True
        one = series(rng, t, s if sets else 0, kind, gdd, valid=valid, valid_pixels=there)
        records.append(record(str(i), one))
    ragged = _ragged(records, kind)
    rows = torch.from_numpy(rng.permutation(len(shapes)))
    width = max(s for _, s in shapes)
    pixels = ragged.draw_pixels(rows, width, None) if sets else None
    seen = ragged.gather(rows, range(bands), pixels)
    longest = max(t for t, _ in shapes)
    assert seen.values.shape == (len(rows), longest, bands, *([width] if sets else []))
    assert seen.values.dtype == torch.float32
    assert (seen.valid_pixels is not None) == sets
    assert (seen.gdd is not None) == gdd
    for b, row in enumerate(rows.tolist()):
        (t, s), one = shapes[row], records[row].series["s2"]
        valid = np.zeros(longest, bool)
        valid[:t] = one.valid
        assert seen.valid[b].numpy().tolist() == valid.tolist()
        assert seen.days[b].tolist() == [*one.days.tolist(), *[0] * (longest - t)]
        if gdd:
            assert seen.gdd[b].tolist() == [*one.gdd.tolist(), *[0] * (longest - t)]
        cube = np.zeros((width, longest, bands), np.float32)
        there = np.zeros((width, longest), bool)
        there[:s, :t] = (one.valid_pixels & one.valid) if sets else one.valid
        given_values = _physical(one.values, kind)
        cube[:s, :t] = np.where(there[:s, :t, None], given_values, 0)
        if sets:
            np.testing.assert_array_equal(seen.valid_pixels[b], there.T)
            np.testing.assert_array_equal(seen.values[b], cube.transpose(1, 2, 0))
        else:
            np.testing.assert_array_equal(seen.values[b], cube[0])


def test_counts_beyond_the_sign_of_16_bits(rng: np.random.Generator) -> None:
    counts = np.array([[0, 1, 32767], [32768, 40000, 65535]], np.uint16)
    seen = _ragged([record("a", series(rng, 2, values=counts))]).gather(torch.tensor([0]), [0, 1, 2])
    np.testing.assert_allclose(seen.values[0], counts / 10_000, rtol=1e-6)


def test_nan_is_invalid_and_zero_is_not(rng: np.random.Generator) -> None:
    values = np.full((3, 3), 0.25)
    values[0] = 0.0
    values[1, 2] = np.nan
    seen = _ragged([record("a", series(rng, 3, values=values, days=np.array([-40, -1, 0])))]).gather(
        torch.tensor([0]), [0, 1, 2]
    )
    assert seen.valid[0].tolist() == [True, False, True]
    assert seen.values[0, 0].tolist() == [0, 0, 0]
    assert seen.values[0, 1].tolist() == [0, 0, 0]  # also the bands that were not NaN
    assert seen.days[0].tolist() == [-40, -1, 0]


def test_nan_of_one_pixel_leaves_the_others(rng: np.random.Generator) -> None:
    values = np.full((2, 2, 3), 0.5)
    values[0, 0, 1] = np.nan
    values[:, 1] = np.nan
    ragged = _ragged([record("a", series(rng, 2, 2, values=values))])
    seen = ragged.gather(torch.tensor([0]), [0, 1, 2], torch.tensor([[0, 1]]))
    assert seen.valid[0].tolist() == [True, False]
    assert seen.valid_pixels[0].tolist() == [[False, True], [False, False]]
    assert seen.values[0, 0, :, 0].tolist() == [0, 0, 0]
    only = ragged.gather(torch.tensor([0]), [0, 1, 2], torch.tensor([[0]]))  # its only pixel is missing on both dates
    assert only.valid[0].tolist() == [False, False]


def test_bands_by_position_and_order(rng: np.random.Generator) -> None:
    ragged = _ragged([record("a", series(rng, 4)), record("b", series(rng, 2))])
    everything = ragged.gather(torch.tensor([0, 1]), [0, 1, 2]).values
    assert torch.equal(ragged.gather(torch.tensor([0, 1]), [2, 0]).values, everything[:, :, [2, 0]])


def test_a_parcel_looks_the_same_in_any_company(rng: np.random.Generator) -> None:
    ragged = _ragged([record("a", series(rng, 2)), record("b", series(rng, 9))])
    alone, padded = ragged.gather(torch.tensor([0]), [0, 1, 2]), ragged.gather(torch.tensor([0, 1]), [0, 1, 2])
    assert torch.equal(padded.values[0, :2], alone.values[0])
    assert not padded.valid[0, 2:].any()
    assert not padded.values[0, 2:].any()
    assert not padded.days[0, 2:].any()


@pytest.mark.parametrize("stored", ["set", "series"])
def test_batch_without_a_date_of_this_sensor(rng: np.random.Generator, tmp_path: Path, stored: str) -> None:
    pixels = 2 if stored == "set" else 0
    blind = {"s2": series(rng, 2, pixels), "s1": series(rng, 0, pixels, S1)}
    seeing = {"s2": series(rng, 2, pixels), "s1": series(rng, 3, pixels, S1)}
    store = write(tmp_path / "s", [record("a", blind), record("b", seeing)], {"s2": S2, "s1": S1})
    bands = {"s1": S1.bands}
    alone = store.gather(torch.tensor([0]), bands, 2)["s1"]
    assert alone.values.shape[:3] == (1, 0, 2)
    both = store.gather(torch.tensor([0, 1]), bands, 2)["s1"]
    assert both.valid.tolist() == [[False] * 3, [True] * 3]
    assert not both.values[0].any()


def _sets(rng: np.random.Generator, *counts: int) -> Ragged:
    return _ragged([record(str(i), series(rng, 2, n)) for i, n in enumerate(counts)])


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_pixels_are_drawn_without_replacement(rng: np.random.Generator, seed: int | None) -> None:
    counts = [1, 3, 4, 5, 40]
    ragged, rows = _sets(rng, *counts), torch.tensor([4, 3, 2, 1, 0, 3])
    stream = None if seed is None else torch.Generator().manual_seed(seed)
    drawn = ragged.draw_pixels(rows, 4, stream)
    assert drawn.shape == (6, 4)
    for row, pixels in zip(rows.tolist(), drawn.tolist(), strict=True):
        real = [p for p in pixels if p >= 0]
        assert len(set(real)) == len(real) == min(4, counts[row])
        assert max(real) < counts[row]
        assert set(pixels) - set(real) <= {-1}


def test_pixel_draw_is_fixed_without_a_generator_and_random_with(rng: np.random.Generator) -> None:
    ragged, rows = _sets(rng, 30, 30), torch.tensor([0, 1, 0, 1])
    assert torch.equal(ragged.draw_pixels(rows, 8, None), ragged.draw_pixels(rows, 8, None))
    assert ragged.draw_pixels(rows, 3, None)[0].tolist() == [0, 10, 20]  # evenly spaced
    first, second, other = (ragged.draw_pixels(rows, 8, torch.Generator().manual_seed(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0], first[2])  # the same parcel twice in a batch
    everything = torch.cat([ragged.draw_pixels(rows, 8, torch.Generator().manual_seed(s)) for s in range(40)])
    assert set(everything.flatten().tolist()) == set(range(30))


def test_missing_pixels_are_invalid(rng: np.random.Generator) -> None:
    ragged = _sets(rng, 1, 3)
    rows = torch.tensor([0, 1])
    seen = ragged.gather(rows, [0], ragged.draw_pixels(rows, 3, None))
    assert seen.valid_pixels[0].tolist() == [[True, False, False]] * 2
    assert not seen.values[0, :, :, 1:].any()


def test_nbytes_and_resident_copy(rng: np.random.Generator, tmp_path: Path) -> None:
    store = write(tmp_path / "s", [record("a", series(rng, 3, 4, gdd=True))])
    mapped = store.arrays["s2"]
    assert mapped.nbytes == 3 * 4 * 3 * 2 + 3 * 2 + 3 + 2 * 8 + 3 * 4 + 3 * 4
    again = mapped.to("cpu").gather(torch.tensor([0]), [0, 1, 2], torch.tensor([[0, 3]]))
    assert torch.equal(again.values, mapped.gather(torch.tensor([0]), [0, 1, 2], torch.tensor([[0, 3]])).values)
