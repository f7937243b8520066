"""Sheets of patches: image, truth and predictions side by side, in the legend's colours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.datamodule import DomainDataModule
from ..data.legend import Legend
from ..data.scenes.datamodule import SceneDataModule
from ..data.scenes.reader import PatchPart
from ..task import AdaptationTask
from .figures import class_bars, confusion_figure, shown
from .look import FILLS, spoken, style
from .map_run import below
from .predict import said_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PATCHES = 4  # of each domain
KEPT = "patches.npz"  # predictions of the patches that are shown, for runs that are compared with this one
NONE = "#d9d9d9"  # no label
MORE = ("#7f4f24", "#8c8c8c", "#b5e48c", "#3d348b", "#f7b801", "#00bbf9", "#9b2226", "#6a994e")
RGB = (("red", "r", "b04", "b4"), ("green", "g", "b03", "b3"), ("blue", "b", "b02", "b2"))


def draw_maps(
    folder: Path,
    task: AdaptationTask,
    data: DomainDataModule,
    report: Mapping[str, Any],
    companion: Mapping[str, Any] | None = None,
) -> dict[str, Figure]:
    """Write figures/maps_<domain>.png, confusion_<domain>.png and classes.png, and the sheets to TensorBoard, too.

    Args:
        folder: The run directory.
        task: The trained task.
        data: The domains, opened for the evaluator.
        report: As :func:`.map_run.write_map_results` made it.
        companion: Report of another run on the same shift, e.g. ``method=source_only``, whose predictions are shown,
            too; its ``folder`` says where they are.

    Returns:
        Domain -> sheet.
    """
    assert isinstance(data, SceneDataModule)  # noqa: S101  (maps)
    place = folder / "figures"
    place.mkdir(exist_ok=True)
    before = _kept(companion)
    legend = data.scored_classes()
    sheets: dict[str, Figure] = {}
    kept: dict[str, np.ndarray] = {}
    unsure = below(report.get("unknown_below"), float(report["temperature"]))
    with style():
        class_bars(report).savefig(place / "classes.png", dpi=120)
        for i, d in enumerate(data.parcels):
            if d.domain.name not in shown(report):
                continue
            part = pictured(data, i)
            rows = []
            for batch, said, _ in said_of(task, data, part, 0 if data.oracle else i):
                guess = said.argmax(1)
                guess = guess if unsure is None else torch.where(unsure(said), said.shape[1], guess)
                assert batch.labels is not None  # noqa: S101  (opened)
                rows += list(zip(batch.rows.tolist(), batch.labels.cpu().numpy(), guess.cpu().numpy(), strict=True))
            keys = {row: str(data.store.index["parcel_id"].iloc[row]) for row, _, _ in rows}
            kept |= {keys[row]: guess.astype(np.uint8) for row, _, guess in rows}
            sheet = _sheet(data, legend, rows, {row: before.get(key) for row, key in keys.items()}, companion)
            sheets[d.domain.name] = sheet
            file = re.sub(r"[^\w.-]+", "_", d.domain.name)
            sheet.savefig(place / f"maps_{file}.png", dpi=120)
            confusion_figure(report, d.domain.name).savefig(place / f"confusion_{file}.png", dpi=120)
    np.savez_compressed(place / KEPT, **kept)  # type: ignore[arg-type]  # names of patches, none is an option
    _to_tensorboard(folder / "tensorboard", sheets)
    return sheets


def pictured(data: SceneDataModule, number: int) -> PatchPart:
    """The test patches of a domain that hold most classes; the same in all runs on the same split."""
    d = data.parcels[number]
    part = data.sealed(d)
    counts = data.store.counts[part.rows.numpy()]
    share = counts / np.maximum(1, counts.sum(1, keepdims=True))
    entropy = -(share * np.log(np.maximum(share, 1e-12))).sum(1)
    best = np.sort(np.argsort(-entropy, kind="stable")[:PATCHES])
    return PatchPart(part.rows[best], None, part.remap)


def colours(data: SceneDataModule, legend: Legend) -> list[str]:
    """A colour a class: the publisher's where there is one, also that of the first class joined."""
    own = dict(data.store.classes.colours)
    for old, new in data.names.items():
        if old in own:
            own.setdefault(new, own[old])
    free = (c for c in (*FILLS, *MORE) if c not in own.values())
    return [own.get(name) or next(free, "#444444") for name in legend.names]


def _kept(companion: Mapping[str, Any] | None) -> Mapping[str, np.ndarray]:
    path = Path(companion["folder"]) / "figures" / KEPT if companion and "folder" in companion else None
    if path is None or not path.is_file():
        return {}
    with np.load(path) as found:
        return dict(found)


def _sheet(
    data: SceneDataModule,
    legend: Legend,
    rows: Sequence[tuple[int, np.ndarray, np.ndarray]],
    before: Mapping[int, np.ndarray | None],
    companion: Mapping[str, Any] | None,
) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    palette = colours(data, legend)
    both = companion is not None and all(
        (b := before.get(row)) is not None and b.shape == guess.shape for row, _, guess in rows
    )
    other = [companion["method"]] if both and companion is not None else []
    titles = ["image", "truth", *other, "prediction"]
    figure = Figure(figsize=(2.3 * len(titles), 0.6 + 2.3 * max(1, len(rows))), layout="constrained")
    grid = figure.subplots(max(1, len(rows)), len(titles), squeeze=False)
    used: set[int] = set()
    for line, (row, truth, guess) in zip(grid, rows, strict=False):
        maps = [truth, *([before[row]] if both else []), guess]
        line[0].imshow(picture(data, row), interpolation="nearest")
        for axes, classes in zip(line[1:], maps, strict=True):
            numbers = np.asarray(classes)
            axes.imshow(painted(numbers, palette), interpolation="nearest")
            used |= set(np.unique(numbers).tolist())
        line[0].set_ylabel(spoken(str(data.store.index["parcel_id"].iloc[row]), 24), fontsize=7)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
    for axes, title in zip(grid[0], titles, strict=True):
        axes.set_title(title)
    shown_classes = [k for k in range(len(legend)) if k in used]
    handles = [Patch(facecolor=palette[k], edgecolor="#333333", lw=0.3, label=legend.names[k]) for k in shown_classes]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8)
    return figure


def painted(classes: np.ndarray, palette: Sequence[str]) -> np.ndarray:
    """Class numbers (H, W) as colours (H, W, 3) uint8; what is no class is grey."""
    table = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (*palette, NONE)], np.uint8)
    known = (classes >= 0) & (classes < len(palette))
    return np.asarray(table[np.where(known, classes, len(palette))])


def picture(data: SceneDataModule, row: int) -> np.ndarray:
    """A patch as people see it, (H, W, 3) in 0..1: red, green and blue by name, else the first band; 2 to 98 %.

    Of a series the median of its dates, in which clouds are gone.
    """
    sensor = data.store.first
    bands = [band.lower() for band in data.store.sensors[sensor].bands]
    found = [next((bands.index(name) for name in names if name in bands), None) for names in RGB]
    numbers = [i for i in found if i is not None]
    values, seen = data.store.pixels(row, sensor, numbers if len(numbers) == 3 else [0, 0, 0])
    if values.ndim == 4:
        clear = np.ma.masked_array(values, ~np.broadcast_to(seen[:, None], values.shape))
        values, seen = np.ma.median(clear, axis=0).filled(0), np.asarray(seen.any(0))
    image = values.astype(np.float64)
    known = image[:, seen]
    low, high = np.percentile(known, (2, 98)) if known.size else (0.0, 1.0)
    image = np.where(seen, np.clip((image - low) / max(high - low, 1e-9), 0, 1), 1.0)
    return np.asarray(np.moveaxis(image, 0, -1))


def _to_tensorboard(folder: Path, sheets: Mapping[str, Figure]) -> None:
    """Beside the curves, where the run writes any."""
    if not folder.is_dir():
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for name, sheet in sheets.items():
            canvas = FigureCanvasAgg(sheet)
            canvas.draw()
            writer.add_image(f"maps/{name}", np.asarray(canvas.buffer_rgba())[..., :3], dataformats="HWC")
