"""report.html: a run as one page that opens offline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import yaml

from ..data.datamodule import DomainDataModule
from .figures import known
from .look import style
from .map_page import PixelPage, map_sections, of_pixels
from .page import Page
from .sections import SECTIONS, Run, bare
from .warn import Report, alarms, chosen_by, count, listing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_run_page(
    folder: Path,
    report: Report,
    data: DomainDataModule,
    predictions: pd.DataFrame,
    companion: Report | None = None,
    pictures: Mapping[str, Figure] | None = None,
) -> Path:
    """Write report.html into a run directory.

    Args:
        folder: The run directory; its config.yaml, metrics.csv, env.txt and checkpoint are read where they exist.
        report: As :func:`.run.write_report` made it.
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
        companion: Report of ``method=source_only`` on the same shift, to tell negative transfer.
        pictures: Of maps, a sheet a domain.

    Returns:
        The page.
    """
    metrics = read_metrics(folder / "metrics.csv")
    chosen = chosen_epoch(folder / "checkpoints" / f"{report.get('checkpoint', 'best')}.ckpt")
    found = alarms(report, predictions, metrics.filter(like="select/").rename(columns=bare), chosen, companion)
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    run = Run(folder, report, data, predictions, config, metrics, chosen, found)
    title = " · ".join(str(report[key]) for key in ("task", "method", "encoder", "shift") if report.get(key))
    title += f" · seed {report['seed']}"
    with style():
        if data.maps:
            page: Page = PixelPage(title, of_pixels(lead(run)))
            for section in map_sections(pictures or {}):
                section(page, run)
        else:
            page = Page(title, lead(run))
            for section in SECTIONS:
                section(page, run)
    page.write(folder / "report.html")
    return folder / "report.html"


def read_metrics(path: Path) -> pd.DataFrame:
    """Scores and losses by epoch, counted from 1; empty if no such file was written."""
    if not path.is_file():
        return pd.DataFrame()
    table = pd.read_csv(path)
    if "epoch" not in table:
        return pd.DataFrame()
    table = table.groupby("epoch").last()
    return table.filter(regex="^(select|loss)/").dropna(axis=1, how="all").set_axis(table.index + 1)


def chosen_epoch(path: Path) -> int | None:
    """The epoch of a checkpoint, counted from 1; None if it is not there or does not say."""
    import torch

    if not path.is_file():
        return None
    epoch = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("epoch")
    return None if epoch is None else int(epoch) + 1


def lead(run: Run) -> str:
    """What happened, in three sentences."""
    report = run.report
    names = {role: [n for n, d in report["domains"].items() if d["role"] == role] for role in ("source", "target")}
    sources, targets = (f"{count(len(names[role]), role)} ({listing(names[role])})" for role in ("source", "target"))
    way = f"Encoder {report['encoder'] or 'of its own'}, trained by {report['method'] or 'a method of its own'},"
    if run.data.oracle:
        labels = f"{run.data.shots} labels a class" if run.data.shots else "labels"
        told = f"{way} learnt from {labels} of {targets} itself."
    elif report.get("target_labels"):
        told = (
            f"{way} learnt from labels of {sources}, then from {report['target_labels']} labels a class of {targets}."
        )
    elif not names["target"]:
        told = f"{way} learnt from labels of {sources}; there is no target."
    elif run.data.targets_in_fit:
        told = f"{way} learnt from labels of {sources} and adapted to {targets} without labels."
    else:
        told = f"{way} learnt from labels of {sources} alone; {targets} took no part."
    key = report.get("score", "closed_macro_f1")
    means = {role: _mean([report["domains"][n][key] for n in names[role]]) for role in names}
    scores = [f"{means[role]:.3f} on the {role}s" for role in means if known(means[role])]
    spelt = {"closed_macro_f1": "Macro-F1", "closed_miou": "Mean intersection over union"}[key]
    scored = f" {spelt} of the shared classes on unseen test parcels: {', '.join(scores)}." if scores else ""
    if len(scores) == 2:
        gap = means["target"] - means["source"]
        scored = scored[:-1] + (f", {abs(gap):.3f} {'lower' if gap < 0 else 'higher'}." if abs(gap) >= 5e-4 else ".")
    by = "it is the last" if report["selector"] == "last" else f"it was chosen by {chosen_by(report)}"
    epoch = f" Epoch {run.chosen} of {max(len(run.metrics), run.chosen)} was scored; {by}." if run.chosen else ""
    return f"{told}{scored}{epoch}"


def _mean(scores: list[float | None]) -> float:
    found = [s for s in scores if s is not None and known(s)]
    return float(np.mean(found)) if found else float("nan")
