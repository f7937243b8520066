"""A shift becomes loaders, and no target label comes near training."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from worlds import S1, S2, parcels, permuted, same, series, shift, write

from eo_adapt.data.datamodule import DomainDataModule
from eo_adapt.data.parts import Split
from eo_adapt.data.store import Store

SPLIT = Split(buffer=2000.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    made = [*parcels("EE"), *parcels("LV", 100), *parcels("PT", 80)]
    return write(tmp_path_factory.mktemp("module") / "store", made)


def _module(prepared: Store, sources: str = "EE", targets: str = "LV", **changes: Any) -> DomainDataModule:
    usual: dict[str, Any] = {"seed": 0, "kind": "closed", "oracle": False, "recipe": "toy", "store": str(prepared.path)}
    data = DomainDataModule(shift(sources, targets), **{**usual, "split": SPLIT, "batch_size": 16, **changes})
    data.setup()
    return data


def _rows(data: DomainDataModule, number: int, split: str) -> set[int]:
    return set(data.parcels[number].of(split)[0].tolist())


# -- what training sees ----------------------------------------------------------------------------------------------


def test_fit_batches_hold_no_target_label(store: Store) -> None:
    data = _module(store, "EE PT", steps_per_epoch=12)
    batches = list(data.train_dataloader())
    assert batches
    for batch in batches:
        assert len(batch.sources) == 2
        assert [target.labels for target in batch.targets] == [None]
    seen = [set(), set(), set()]
    for batch in batches:
        for rows, part in zip(seen, (*batch.sources, *batch.targets), strict=True):
            rows.update(part.rows.tolist())
    for i, rows in enumerate(seen):
        assert rows <= _rows(data, i, "train")  # and so neither val nor test nor buffer
    assert seen[2] == _rows(data, 2, "train")  # classes that the source lacks are among them, unseen


def test_source_labels_are_those_of_the_index(store: Store) -> None:
    data = _module(store, kind="partial")
    names = store.index["label"].to_numpy()
    for batch in data.train_dataloader():
        source = batch.sources[0]
        assert [data.legend.names[i] for i in source.labels.tolist()] == names[source.rows.numpy()].tolist()


def test_closed_set_leaves_source_private_parcels_out(store: Store) -> None:
    data = _module(store)
    rows = data.steps().sources[0].rows.numpy()
    assert set(store.index["label"].iloc[rows]) == {"wheat", "barley"}


def test_validation_hides_target_labels_unless_asked(store: Store) -> None:
    data = _module(store)
    source, target = map(list, data.val_dataloader())
    assert all(b.labels is not None and (b.labels >= 0).all() for b in source)
    assert all(b.labels is None for b in target)
    assert {r for b in target for r in b.rows.tolist()} == _rows(data, 1, "val")
    data.reveal_target_val = True
    assert all(p.labels is not None for p in data.val_parts())


def test_oracle_trains_on_the_target_alone(store: Store) -> None:
    data = _module(store, oracle=True)
    for batch in data.train_dataloader():
        assert batch.targets == ()
        assert set(batch.sources[0].rows.tolist()) <= _rows(data, 1, "train")
    assert data.statistics != _module(store).statistics


@pytest.mark.parametrize("kind", ["closed", "partial", "open"])
@pytest.mark.parametrize("sampling", ["uniform", "balanced"])
def test_dealing_target_labels_anew_changes_nothing_in_training(tmp_path: Path, kind: str, sampling: str) -> None:
    made = [*parcels("EE", pixels=3), *parcels("LV", 100, pixels=3)]
    true, dealt = (
        _module(write(tmp_path / name, records), kind=kind, sampling=sampling, steps_per_epoch=4)
        for name, records in (("true", made), ("dealt", permuted(made, "LV")))
    )
    assert true.store.index["label"].tolist() != dealt.store.index["label"].tolist()
    assert true.statistics == dealt.statistics
    assert true.legend == dealt.legend
    assert true.label_set == dealt.label_set
    assert true.splits_frame().equals(dealt.splits_frame())
    for a, b in zip(true.train_dataloader(), dealt.train_dataloader(), strict=True):
        assert all(same(x, y) for x, y in zip((*a.sources, *a.targets), (*b.sources, *b.targets), strict=True))
    for left, right in zip(true.val_dataloader(), dealt.val_dataloader(), strict=True):
        assert all(same(x, y) for x, y in zip(left, right, strict=True))


def test_statistics_are_those_of_source_train(store: Store) -> None:
    data = _module(store, "EE PT", bands={"s2": ["B04"]})
    made = [*parcels("EE"), *parcels("LV", 100), *parcels("PT", 80)]
    rows = [row for part in data.steps().sources for row in part.rows.tolist()]
    assert set(rows) <= _rows(data, 0, "train") | _rows(data, 1, "train")
    seen = np.concatenate([made[i].series["s2"].values[made[i].series["s2"].valid] for i in rows])[:, 1] / 1e4
    np.testing.assert_allclose(data.statistics["s2"], [[seen.mean()], [seen.std()]], rtol=1e-5)
    assert set(data.statistics) == set(data.sensors) == {"s2"}
    assert data.sensors == {"s2": 1}


# -- the sealed test -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "scored"),
    [
        ("closed", ("barley", "wheat", "oats", "rye")),
        ("partial", ("barley", "oats", "wheat", "rye")),
        ("open", ("barley", "oats", "wheat", "unknown")),
    ],
)
def test_sealed_parts(store: Store, kind: str, scored: tuple[str, ...]) -> None:
    data = _module(store, kind=kind)
    with data.opened(lambda: None):
        assert data.scored_classes().names == scored
        for number, d in enumerate(data.parcels):
            part = data.sealed(d)
            assert set(part.rows.tolist()) == _rows(data, number, "test")
            true = store.index["label"].iloc[part.rows.numpy()]
            expected = ["unknown" if kind == "open" and name == "rye" else name for name in true]
            assert [scored[i] for i in part.labels.tolist()] == expected
        assert set(data.sealed(data.parcels[1], "val").rows.tolist()) == _rows(data, 1, "val")


def test_sealed_keeps_to_the_classes_asked_for(store: Store) -> None:
    data = _module(store, classes=["wheat", "barley"])
    with data.opened(lambda: None):
        assert data.scored_classes().names == ("barley", "wheat")
        part = data.sealed(data.parcels[1])
        assert set(store.index["label"].iloc[part.rows.numpy()]) == {"wheat", "barley"}


def test_join_reaches_legend_and_test(store: Store) -> None:
    data = _module(store, join={"bread": ["wheat", "rye"]})
    with data.opened(lambda: None):
        assert data.legend.names == ("barley", "bread")
        assert len(data.sealed(data.parcels[1]).rows) == len(_rows(data, 1, "test"))


# -- options ---------------------------------------------------------------------------------------------------------


def test_balanced_sampling_draws_classes_alike(tmp_path: Path) -> None:
    crops = ("wheat", "wheat", "wheat", "wheat", "barley")
    store = write(tmp_path / "s", [*parcels("EE", crops=crops), *parcels("LV", 100, crops=crops)])

    def shares(data: DomainDataModule) -> dict[int, float]:
        drawn = Counter(x for b in data.train_dataloader() for x in b.sources[0].labels.tolist())
        return {label: n / drawn.total() for label, n in drawn.items()}

    assert shares(_module(store, steps_per_epoch=60))[0] < 0.3
    data = _module(store, sampling="balanced", steps_per_epoch=60)
    assert shares(data)[0] == pytest.approx(0.5, abs=0.05)
    data.reweigh(torch.tensor([3.0, 1.0]))
    drawn = Counter(x for b in data.loader for x in b.sources[0].labels.tolist())
    assert drawn[0] / drawn.total() == pytest.approx(0.75, abs=0.05)


def test_reweighing_leaves_targets_as_they_are(store: Store) -> None:
    data = _module(store)
    data.train_dataloader()
    data.reweigh(torch.tensor([1.0, 0.0]))
    assert [sampler.weights is None for sampler in data.loader.steps.samplers] == [False, True]


def test_steps_of_an_epoch(store: Store) -> None:
    data = _module(store)
    labelled = len(data.steps().sources[0])
    assert len(data.train_dataloader()) == -(-labelled // 16)
    assert len(_module(store, steps_per_epoch=3).train_dataloader()) == 3


def test_resident_and_workers_change_no_batch(store: Store) -> None:
    usual = list(_module(store).train_dataloader())
    kept = _module(store, resident="yes")
    others = [list(kept.train_dataloader()), list(_module(store, workers=1).train_dataloader())]
    assert kept.reader.arrays is not None
    for other in others:
        for a, b in zip(usual, other, strict=True):
            assert all(same(x, y) for x, y in zip((*a.sources, *a.targets), (*b.sources, *b.targets), strict=True))


def test_seed_moves_batches_but_no_split(store: Store) -> None:
    one, other = _module(store), _module(store, seed=1)
    assert one.splits_frame().equals(other.splits_frame())
    a, b = next(iter(one.train_dataloader())), next(iter(other.train_dataloader()))
    assert not same(a.sources[0], b.sources[0])


def test_bands_and_sensors_by_name(tmp_path: Path, rng: np.random.Generator) -> None:
    both = (*parcels("EE"), *parcels("LV"))
    made = [replace(r, series={**r.series, "s1": series(rng, 2, sensor=S1)}) for r in both]
    store = write(tmp_path / "s", made, {"s2": S2, "s1": S1})
    assert _module(store).sensors == {"s2": 3, "s1": 2}
    data = _module(store, bands={"s1": ["VH"]})
    assert data.bands == {"s1": ("VH",)}
    assert set(next(iter(data.train_dataloader())).sources[0].inputs) == {"s1"}
    with pytest.raises(LookupError, match=r"data\.bands names sensors \['s3'\]; the store has \['s1', 's2'\]"):
        _module(store, bands={"s3": ["x"]})
    with pytest.raises(LookupError, match=r"s2 has no band \['B99'\]"):
        _module(store, bands={"s2": ["B99"]})


def test_what_alignments_may_ask_for(store: Store, tmp_path: Path) -> None:
    assert _module(store).provides == {"labels", "lonlat", "days"}
    cycle = ["train", "val", "test"]
    nowhere = [replace(r, lon=np.nan, lat=np.nan, split=cycle[i // 3 % 3]) for i, r in enumerate(parcels("EE"))]
    data = _module(write(tmp_path / "s", nowhere), "EE", "", split=Split(kind="published"))
    assert data.provides == {"labels", "days"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "other"}, r"the shift is about recipe \['toy'\], the data are 'other'"),
        ({"sampling": "even"}, r"data\.sampling must be one of .*got 'even'"),
        ({"resident": "gpu"}, r"data\.resident must be one of .*got 'gpu'"),
        ({"batch_size": 1}, r"data\.batch_size must be at least 2"),
        ({"kind": "semi"}, r"kind is one of .*got 'semi'"),
        ({"classes": ["oats"]}, "share no class"),
        ({"classes": ["rye"]}, r"no source training parcel has the classes \['rye'\]"),
        ({"min_per_class": 1000}, "share no class"),
    ],
)
def test_what_does_not_fit_is_refused(store: Store, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _module(store, **changes)


def test_only_the_days_asked_for_are_read(store: Store) -> None:
    data = _module(store, days=[40, 100], pixels=3)
    everything = _module(store, pixels=3)
    for batch, whole in zip(data.val_dataloader()[1], everything.val_dataloader()[1], strict=True):
        look, full = batch.inputs["s2"], whole.inputs["s2"]
        wanted = full.valid & (full.days >= 40) & (full.days <= 100)
        assert 0 < wanted.sum() < full.valid.sum()
        assert torch.equal(look.valid.sum(1), wanted.sum(1))
        assert torch.equal(look.days[look.valid], full.days[wanted])
        assert torch.equal(look.values[look.valid], full.values[wanted])
    assert data.statistics != everything.statistics


@pytest.mark.parametrize(
    ("days", "message"),
    [
        ([100], r"data\.days is the first and the last day .*got \[100\]"),
        ([200, 100], r"data\.days is the first and the last day .*got \[200, 100\]"),
        ([-900, -800], r"no parcel of 'EE-2021' has a valid date in data\.days=\[-900, -800\]; widen it"),
    ],
)
def test_days_that_cannot_be_read_are_refused(store: Store, days: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _module(store, days=days)


def test_no_data_says_what_to_set(store: Store) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"set data\.root=.*`python -m eo_adapt\.prepare recipe=toy .* data\.store=<store>"
    ):
        _module(store, store="")
    with pytest.raises(FileNotFoundError, match="no prepared store at"):
        _module(store, store="/nowhere/at/all")


def test_constructing_reads_nothing(store: Store) -> None:
    DomainDataModule(shift(), 0, "closed", False, "toy", store="/nowhere")
