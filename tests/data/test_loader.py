"""Batches are the same whatever way they are made, and wherever the loader starts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from worlds import S2, parcels, record, same, series, write

from eo_adapt.data.loader import DomainLoader, Part, PartLoader, Reader, Steps, pieces
from eo_adapt.data.store import Store
from eo_adapt.types import DomainBatch

BANDS = {"s2": ("B08", "B02")}


@pytest.fixture(scope="module", params=[0, 9], ids=["series", "sets"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = [*parcels("EE", 30, pixels=request.param), *parcels("LV", 14, pixels=request.param)]
    return write(tmp_path_factory.mktemp("loader") / "store", made)


def _steps(store: Store, reader: Reader | None = None, seed: int = 1, length: int = 0) -> Steps:
    source = Part(torch.arange(30), torch.arange(30) % 3)
    target = Part(torch.arange(30, 44), None)
    return Steps(reader or Reader(store, BANDS, 4), [source], [target], 8, seed, length)


def _equal(a: list[DomainBatch], b: list[DomainBatch]) -> bool:
    return len(a) == len(b) and all(
        same(x, y) for left, right in zip(a, b, strict=True) for x, y in zip(sum(left, ()), sum(right, ()), strict=True)
    )


def test_what_a_step_holds(store: Store) -> None:
    steps = _steps(store)
    assert len(steps) == 4  # 30 labelled parcels by eight
    assert len(_steps(store, length=7)) == 7
    epoch = list(DomainLoader(steps))
    assert len(epoch) == len(DomainLoader(steps)) == 4
    for batch in epoch:
        (source,), (target,) = batch
        assert len(source) == len(target) == 8
        assert target.labels is None
        assert torch.equal(source.labels, source.rows % 3)
        assert set(source.rows.tolist()) <= set(range(30))
        assert set(target.rows.tolist()) <= set(range(30, 44))
        assert torch.equal(target.lonlat, store.lonlat[target.rows])
        assert source.inputs["s2"].values.shape[2] == 2
    assert len({row for b in epoch for row in b.sources[0].rows.tolist()}) == 30


def test_resident_arrays_give_the_same_batches(store: Store) -> None:
    resident = Reader(store, BANDS, 4, {name: arrays.to("cpu") for name, arrays in store.arrays.items()})
    assert _equal(list(DomainLoader(_steps(store, resident))), list(DomainLoader(_steps(store))))
    part = Part(torch.arange(44), None)
    for a, b in zip(PartLoader(resident, part, 10), PartLoader(Reader(store, BANDS, 4), part, 10), strict=True):
        assert same(a, b)


def test_seed_and_epoch_change_the_batches(store: Store) -> None:
    first = list(DomainLoader(_steps(store)))
    assert _equal(first, list(DomainLoader(_steps(store))))
    assert not _equal(first, list(DomainLoader(_steps(store, seed=2))))
    assert not _equal(first, list(DomainLoader(_steps(store), position=lambda: (1, 0))))


def test_workers_give_the_same_batches_and_leave_the_global_stream_alone(store: Store) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    made = list(DomainLoader(_steps(store), workers=1, position=lambda: (1, 2)))
    assert torch.equal(torch.rand(3), expected)
    assert _equal(made, list(DomainLoader(_steps(store), position=lambda: (1, 2))))


def test_steps_survive_the_way_to_a_spawned_worker(store: Store) -> None:
    steps = _steps(store)
    expected = steps[0, 1]
    packed = pickle.dumps(steps)
    assert len(packed) < 10_000
    assert _equal([pickle.loads(packed)[0, 1]], [expected])


def test_starting_midway_equals_skipping(store: Store) -> None:
    whole = list(DomainLoader(_steps(store), position=lambda: (3, 0)))
    assert _equal(list(DomainLoader(_steps(store), position=lambda: (3, 2))), whole[2:])


def test_position_is_asked_for_at_the_first_batch(store: Store) -> None:
    place = [(0, 0)]
    loader = DomainLoader(_steps(store), position=lambda: place[0])
    batches = iter(loader)
    place[0] = (3, 2)
    assert _equal(list(batches), list(DomainLoader(_steps(store), position=lambda: (3, 2))))


def test_part_loader_covers_every_row_once_in_order(store: Store) -> None:
    rows = torch.tensor([40, 3, 17, 5, 9, 22, 41])
    part = Part(rows, torch.arange(7))
    loader = PartLoader(Reader(store, BANDS, 4), part, 3)
    batches = list(loader)
    assert [len(b) for b in batches] == [3, 2, 2]
    assert len(loader) == 3
    assert torch.equal(torch.cat([b.rows for b in batches]), rows)
    assert torch.equal(torch.cat([b.labels for b in batches]), torch.arange(7))
    assert all(same(a, b) for a, b in zip(batches, loader, strict=True))
    assert list(PartLoader(Reader(store, BANDS, 4), Part(rows[:0], None), 3)) == []


@given(st.integers(0, 40), st.integers(1, 12))
def test_batch_norm_gets_two_at_least(number: int, size: int) -> None:
    found = pieces(torch.arange(number), size)
    assert torch.cat([*found, torch.arange(0)]).tolist() == list(range(number))
    assert all(1 <= len(piece) <= size for piece in found)
    assert len(found) == -(-number // size)
    if number > 1 and size > 2:
        assert min(map(len, found)) >= 2


def test_pixels_of_training_vary_with_the_step(tmp_path: Path, rng: np.random.Generator) -> None:
    store = write(tmp_path / "s", [record("a", series(rng, 1, 60))])
    steps = Steps(Reader(store, {"s2": S2.bands}, 5), [Part(torch.tensor([0]), torch.tensor([0]))], [], 1, 0, 6)
    seen = {tuple(b.sources[0].inputs["s2"].values.flatten().tolist()) for b in DomainLoader(steps)}
    assert len(seen) == 6
