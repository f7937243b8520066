"""Tables of a run directory: metrics.csv across resumed runs, splits.parquet, predictions.parquet."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Parquet under a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_parquet(temporary, index=False)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def keep_metrics(folder: Path) -> None:
    """Before a resumed run starts its own metrics.csv: set the earlier one aside."""
    there = folder / "metrics.csv"
    if there.exists():
        number = 1 + len(list(folder.glob("metrics.part*.csv")))
        there.rename(folder / f"metrics.part{number}.csv")


def merge_metrics(folder: Path) -> None:
    """Join the parts of a resumed run into one metrics.csv; where steps overlap the later run counts."""
    parts = sorted(folder.glob("metrics.part*.csv"), key=lambda p: int(p.stem.removeprefix("metrics.part")))
    if not parts:
        return
    if not (folder / "metrics.csv").exists():  # there was nothing left to train
        parts.pop().rename(folder / "metrics.csv")
    if not parts:
        return
    joined = pd.read_csv(folder / "metrics.csv")
    for part in reversed(parts):
        earlier = pd.read_csv(part)
        joined = pd.concat([earlier[earlier["step"] < joined["step"].min()], joined], ignore_index=True)
    joined.to_csv(folder / ".metrics.csv", index=False)
    os.replace(folder / ".metrics.csv", folder / "metrics.csv")
    for part in parts:
        part.unlink()
