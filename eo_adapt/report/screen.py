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
    table = Table(
        title=title,
        title_justify="left",
        caption="closed F1: macro-F1 of the classes that source and target share",
        caption_justify="left",
    )
    for column in ("domain", "role", "test n", "accuracy", "macro-F1", "closed F1", "kappa"):
        table.add_column(column, justify="left" if column in ("domain", "role") else "right")
    for name, d in report["domains"].items():
        figures = [_spell(d[key]) for key in ("overall_accuracy", "macro_f1", "closed_macro_f1", "kappa")]
        table.add_row(name, d["role"], str(d["n"]), *figures)
    console.print(table)
    stamp = " [bold red]uses target labels[/]" if report["uses_target_labels"] else ""
    console.print(f"checkpoint chosen by {report.get('chosen_by') or report['selector']}{stamp}", highlight=False)
    if "seconds" in report:
        console.print(
            f"trained in {report['seconds']:.1f} s, {report['parcels_per_second']:.0f} parcels per second",
            highlight=False,
        )
    print(f"outputs: {folder}")  # not through rich: a path must not be wrapped


def _spell(score: float | None) -> str:
    return "-" if score is None or score != score else f"{score:.3f}"
