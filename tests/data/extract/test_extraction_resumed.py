"""Extraction that is stopped, fails or is repeated: what is done stays done."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_tiles import extract, values_of, write_tif
from stores import GRID, same, three_dates

from eo_adapt.data.extract import unit as unit_module
from eo_adapt.data.extract.errors import FatalError, UnreadableError


def test_a_rerun_computes_only_what_is_missing(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = three_dates(tmp_path, rng)
    store = extract(tmp_path)
    ran: list[str] = []
    work = unit_module.run_unit
    monkeypatch.setattr("eo_adapt.data.extract.run.run_unit", lambda a, t, p: (ran.append(a.moment), work(a, t, p)))
    again = extract(tmp_path, tmp_path / "again", work=f"{store.path}.work")
    assert ran == []
    assert same(store.path, again.path)
    write_tif(tmp_path / "images" / "A_20210531_B04.tif", images["A_20210501_B04"], GRID)
    more = extract(tmp_path, tmp_path / "more", work=f"{store.path}.work")
    assert ran == ["2021-05-31"]
    assert values_of(more)[0].shape == (3, 4)
    write_tif(tmp_path / "images" / "A_20210531_B04.tif", images["A_20210511_B04"].astype(np.float32), GRID)
    fetched = extract(tmp_path, tmp_path / "fetched", work=f"{store.path}.work")
    assert ran == ["2021-05-31"] * 2  # a file of another size is another file
    np.testing.assert_allclose(values_of(fetched)[0][:, 3], values_of(fetched)[0][:, 1])
    ran.clear()
    extract(tmp_path, tmp_path / "other", work=f"{store.path}.work", statistics=["median"])
    assert len(ran) == 4  # other options, other parts


def test_a_broken_image_is_listed_and_mended_by_a_rerun(
    tmp_path: Path, rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    three_dates(tmp_path, rng)
    path = tmp_path / "images" / "A_20210511_B04.tif"
    whole = path.read_bytes()
    path.write_bytes(whole[:3000])
    with pytest.raises(
        FatalError, match=r"(?s)1 of 3 images failed, first:\n  s2 A 2021-05-11: .*B04\.tif cannot be read.*max_failed"
    ):
        extract(tmp_path)
    assert not (tmp_path / "store").exists()
    lines = [json.loads(line) for line in (tmp_path / "store.work/manifest.jsonl").read_text().splitlines()]
    assert sorted((line["unit"], line["state"], line["attempt"]) for line in lines) == [
        ("s2 A 2021-05-01", "done", 1), ("s2 A 2021-05-11", "failed", 3), ("s2 A 2021-05-21", "done", 1),
    ]  # fmt: skip
    with caplog.at_level(logging.WARNING, "eo_adapt.extract"):
        store = extract(tmp_path, max_failed=0.4)
    assert "missing in the store and listed in its failed.csv" in caplog.text
    assert values_of(store)[1][0].tolist() == [120, 140]
    assert pd.read_csv(store.path / "failed.csv")["image"].tolist() == ["s2 A 2021-05-11"]
    path.write_bytes(whole)
    mended = extract(tmp_path)
    assert values_of(mended)[1][0].tolist() == [120, 130, 140]
    assert not (mended.path / "failed.csv").exists()


def test_a_unit_that_fails_once_is_tried_again(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_dates(tmp_path, rng)
    work, tried = unit_module.run_unit, []

    def shaky(acquisition: Any, task: Any, part: str) -> str:
        tried.append(acquisition.moment)
        if tried.count(acquisition.moment) == 1:
            raise UnreadableError("the disk hiccuped")
        return work(acquisition, task, part)

    monkeypatch.setattr("eo_adapt.data.extract.run.run_unit", shaky)
    assert len(extract(tmp_path)) == 3
    assert len(tried) == 6


def test_a_full_disk_stops_the_work_and_keeps_what_is_done(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_dates(tmp_path, rng)
    save, saved = np.save, []

    def full(file: Any, array: np.ndarray, **more: Any) -> None:
        if "parts" in str(getattr(file, "name", "")):
            saved.append(file)
            if len(saved) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array, **more)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(
        FatalError, match=r"cannot write .*parts.*No space left on device.*Finished units are kept: make room"
    ):
        extract(tmp_path)
    parts = list((tmp_path / "store.work" / "parts").iterdir())
    assert [p.suffix for p in parts] == [".npy"]  # nothing half-written
    assert len(extract(tmp_path)) == 3
    assert len(saved) == 4


def test_a_part_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever happens before the last step, nothing carries the part's name."""
    path = tmp_path / "parts" / "a.npy"

    def die(*_: Any) -> None:
        assert not path.exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        unit_module.write_array(path, np.zeros(3))
    assert list(path.parent.iterdir()) == []


def test_no_right_to_write(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    three_dates(tmp_path, rng)
    make = Path.mkdir

    def refused(self: Path, *a: Any, **k: Any) -> None:
        if self.name == "parts":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        make(self, *a, **k)

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(
        FatalError, match=r"cannot write .*store\.work \(Permission denied\).*name another folder with work="
    ):
        extract(tmp_path)


def test_one_extraction_at_a_time(tmp_path: Path, rng: np.random.Generator) -> None:
    from eo_adapt.data.extract.run import locked

    three_dates(tmp_path, rng)
    (tmp_path / "store.work").mkdir()
    with (
        locked(tmp_path / "store.work"),
        pytest.raises(FatalError, match=r"another extraction is at work in .*store\.work"),
    ):
        extract(tmp_path)


def test_a_torn_manifest_is_read_on(tmp_path: Path, rng: np.random.Generator) -> None:
    from eo_adapt.data.extract.manifest import Manifest

    three_dates(tmp_path, rng)
    extract(tmp_path)
    path = tmp_path / "store.work" / "manifest.jsonl"
    path.write_text(path.read_text() + '{"id": "0123')
    (path.parent / "parts" / ".abc.tmp").touch()
    extract(tmp_path, tmp_path / "again", work=str(path.parent), statistics=["median"])
    manifest = Manifest(path.parent)
    assert len(manifest.lines()) == 6
    assert not (path.parent / "parts" / ".abc.tmp").exists()
    manifest.close()
