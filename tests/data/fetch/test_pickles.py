"""A pickle where arrays should be is refused by every reader of arrays, before anything of it runs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eo_adapt.data.fetch.check import check
from eo_adapt.data.recipe import Recipe, make


class Evil:
    """Leaves a trace when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize(
    ("name", "glob", "options"),
    [
        ("eurocropsml", "preprocess/**/*.npz", {"parcels_per_country": 4}),
        ("pastis", "DATA_S2/*.npy", {"patches": 4, "size": 16, "revisit": 60}),
        ("pastis", "ANNOTATIONS/TARGET_*.npy", {"patches": 4, "size": 16, "revisit": 60}),
        ("pastis_pixelset", "DATA_S2/*.npy", {"patches": 4, "size": 16, "revisit": 60}),
        ("worldcereal", "*.npz", {"parcels": 20}),
    ],
)
def test_pickles_are_refused(name: str, glob: str, options: dict[str, Any], tmp_path: Path) -> None:
    recipe, raw, trace = Recipe.load(name), tmp_path / "raw", tmp_path / "trace"
    raw.mkdir()
    make({**recipe.synthetic, **options}).write(raw)
    for path in raw.glob(glob):
        array = np.empty(1, object)
        array[0] = Evil(trace)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as before:
                np.savez(path, **dict.fromkeys(before.files, array))
        else:
            np.save(path, array, allow_pickle=True)
    finding = check(recipe, raw, ())[-1]
    assert finding.state == "bad"
    assert re.search("allow_pickle=False|Python objects in dtype", finding.text)
    assert not trace.exists()
