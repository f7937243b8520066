"""The last lines on the screen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def show(report: Mapping[str, Any], folder: Path) -> None:
    """Print one row a domain, who chose the checkpoint, and where everything lies."""
    console = Console()
    title = f"{report['task']} · {report['method']} · {report['encoder']} · {report['shift']} · seed {report['seed']}"
    maps = report.get("score") == "closed_miou"
    short, spelt = ("mIoU", "mean intersection over union") if maps else ("F1", "macro-F1")
    keys = ("overall_accuracy", "macro_f1", *(("miou", "closed_miou") if maps else ("closed_macro_f1",)), "kappa")
    things = any("panoptic" in d for d in report["domains"].values())
    table = Table(
        title=title,
        title_justify="left",
        caption=f"closed {short}: {spelt} of the classes that source and target share",
        caption_justify="left",
    )
    heads = (
        "accuracy",
        "macro-F1",
        *(("mIoU",) if maps else ()),
        f"closed {short}",
        "kappa",
        *(("PQ",) if things else ()),
    )
    for column in ("domain", "role", "test n", *heads):
        table.add_column(
            column, justify="left" if column in ("domain", "role") else "right", no_wrap=column == "domain"
        )
    for name, d in report["domains"].items():
        figures = [_spell(d[key]) for key in keys] + ([_spell(d.get("panoptic", {}).get("pq"))] if things else [])
        table.add_row(name, d["role"], str(d["n"]), *figures)
        for sensor, domains in report.get("without", {}).items():
            table.add_row(f"  without {sensor}", "", "", *[_spell(domains[name][key]) for key in keys])
    console.print(table)
    stamp = " [bold red]uses target labels[/]" if report["uses_target_labels"] else ""
    console.print(f"checkpoint chosen by {report.get('chosen_by') or report['selector']}{stamp}", highlight=False)
    if "seconds" in report:
        console.print(
            f"trained in {report['seconds']:.1f} s, {report['parcels_per_second']:.0f} "
            f"{'patches' if maps else 'parcels'} per second",
            highlight=False,
        )
    print(f"outputs: {folder}")  # not through rich: a path must not be wrapped


def _spell(score: float | None) -> str:
    return "-" if score is None or score != score else f"{score:.3f}"
