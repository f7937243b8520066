"""Split files in the publisher's layout: random parcels, as the publisher draws them, so not for a fair test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np


def write_splits(folder: Path, names: Mapping[str, Sequence[str]], targets: Sequence[str], seed: int) -> None:
    """Write ``<sources>_vs_<targets>/pretrain/region_split.json`` (80/20) and ``.../finetune/region_split_all.json``.

    The fine-tuning part is cut 60/20/20 into train, val and test. Neighbouring parcels fall on both sides, as in the
    original; the project's own spatial blocks are the splits to report on.

    Args:
        folder: ``<root>/split``.
        names: Country -> file names.
        targets: Countries of the fine-tuning part.
        seed: Of the shuffle.
    """
    rng = np.random.default_rng([seed, 20240314])
    sources = [code for code in names if code not in targets]
    wanted = [code for code in names if code in targets]
    base = folder / ("_".join(sources) + "_vs_" + "_".join(wanted))
    _write_part(base / "pretrain" / "region_split.json", [names[code] for code in sources], (0.8, 0.2), rng)
    _write_part(base / "finetune" / "region_split_all.json", [names[code] for code in wanted], (0.6, 0.2, 0.2), rng)


def _write_part(
    path: Path, names: Sequence[Sequence[str]], shares: tuple[float, ...], rng: np.random.Generator
) -> None:
    files = sorted(name for country in names for name in country)
    shuffled = [files[i] for i in rng.permutation(len(files))]
    ends = np.rint(np.cumsum((0.0, *shares)) * len(files)).astype(int)
    lists = [shuffled[a:b] for a, b in pairwise(ends)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(zip(("train", "val", "test"), lists, strict=False))))
