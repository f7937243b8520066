"""Figures of a run, colour-blind safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from ..data.datamodule import DomainDataModule
from ..data.loader import Part, PartLoader, Reader

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NIR_RED = (("B08", "B04"), ("B8", "B4"), ("nir", "red"))
NDVI = ("ndvi", "NDVI")


def draw(folder: Path, data: DomainDataModule, predictions: pd.DataFrame, report: Mapping[str, Any]) -> None:
    """Write confusion_<domain>.png, profiles.png and map_<domain>.png.

    Args:
        folder: Where to; made if missing.
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
        report: As :func:`.run.write_report` made it.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    folder.mkdir(exist_ok=True)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        for name, d in report["domains"].items():
            figure = Figure(figsize=(7, 6), layout="constrained")
            confusion_matrix(figure.subplots(), np.array(d["confusion"]["matrix"]), d["confusion"]["classes"], name)
            figure.savefig(folder / f"confusion_{name}.png", dpi=120)
        profiles(data).savefig(folder / "profiles.png", dpi=120)
        for name in report["domains"]:
            if (figure_or_none := parcel_map(data, predictions, name)) is not None:
                figure_or_none.savefig(folder / f"map_{name}.png", dpi=120)


def confusion_matrix(axes: Axes, matrix: np.ndarray, names: Sequence[str], title: str) -> None:
    """Confusion matrix, rows normalised; classes that neither truth nor prediction has are left out."""
    used = np.flatnonzero(matrix.sum(0) + matrix.sum(1))
    shares = matrix[np.ix_(used, used)] / np.maximum(1, matrix[used].sum(1, keepdims=True))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (i, j), share in np.ndenumerate(shares):
        if share >= 0.005:
            axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color="white" if share > 0.5 else "black")
    labels = [names[int(i)].replace("_", " ") for i in used]
    axes.set_xticks(range(len(used)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(used)), labels)
    axes.set(xlabel="predicted", ylabel="true", title=f"{title}: test parcels, % of each true class")


def profiles(data: DomainDataModule, most: int = 400) -> Figure:
    """Median NDVI (or first band) per class over the year: sources against targets; test parcels, labels opened."""
    from matplotlib.figure import Figure

    names = [*data.label_set.shared][:16]
    columns = min(4, max(1, len(names)))
    figure = Figure(figsize=(3.2 * columns, 2.2 * -(-len(names) // columns)), layout="constrained")
    grid = figure.subplots(-(-len(names) // columns), columns, squeeze=False, sharex=True, sharey=True).ravel()
    classes = data.scored_classes()
    label = ""
    for d in data.parcels:
        part = data.sealed(d)
        for axes, name in zip(grid, names, strict=False):
            rows = part.rows[part.labels == classes.index(name)][:most]
            if len(rows):
                days, median, label = _median_series(data, rows)
                axes.plot(
                    days, median, "--" if d.role == "target" else "-", label=f"{d.domain.name} ({d.role})", lw=1.3
                )
    for axes, name in zip(grid, names, strict=False):
        axes.set_title(name.replace("_", " "))
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    figure.supxlabel("day of the label year")
    figure.supylabel(f"median {label}")
    handles = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=min(5, max(1, len(handles))))
    return figure


def _median_series(data: DomainDataModule, rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray, str]:
    """Median of an index over 16-day bins of the valid dates of some parcels."""
    sensor = next(iter(data.bands))
    days, values = [], []
    bands = {sensor: data.store.sensors[sensor].bands}  # the index may need bands that the model does not read
    label = ""
    for batch in PartLoader(Reader(data.store, bands, data.pixels), Part(rows, None), 512):
        o = batch.inputs[sensor]
        x = o.values if o.values.ndim == 3 else o.values.sum(-1) / o.valid_pixels.sum(-1)[:, :, None].clamp_min(1)  # type: ignore[union-attr]
        series, label = vegetation_index(x.numpy(), bands[sensor])
        assert o.valid is not None and o.days is not None  # noqa: S101, PT018  (series have both)
        days.append(o.days[o.valid].numpy())
        values.append(series[o.valid.numpy()])
    bins = np.concatenate(days) // 16
    medians = pd.Series(np.concatenate(values)).groupby(bins).median()
    return medians.index.to_numpy() * 16 + 8, medians.to_numpy(), label


def vegetation_index(values: np.ndarray, bands: Sequence[str]) -> tuple[np.ndarray, str]:
    """NDVI (..., ) of values (..., C), from an NDVI band or red and near infrared; else the first band."""
    for name in NDVI:
        if name in bands:
            return values[..., bands.index(name)], "NDVI"
    for nir, red in NIR_RED:
        if nir in bands and red in bands:
            a, b = values[..., bands.index(nir)], values[..., bands.index(red)]
            return (a - b) / np.maximum(a + b, 1e-6), "NDVI"
    return values[..., 0], bands[0]


def parcel_map(data: DomainDataModule, predictions: pd.DataFrame, domain: str) -> Figure | None:
    """Parcels of one domain coloured by prediction, in metres; None without geopandas or without any place."""
    try:
        import geopandas
    except ImportError:
        return None
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    here = predictions[predictions["domain"] == domain]
    shapes = geopandas.read_parquet(data.store.path / "index.parquet", columns=["geometry"]).iloc[here["row"]]
    located = shapes.geometry.notna().to_numpy() & ~shapes.geometry.is_empty.to_numpy()
    if not located.any():
        return None
    shapes, here = shapes[located], here[located]
    shapes = shapes.to_crs(shapes.estimate_utm_crs())
    names = data.scored_classes().names
    colours = np.vstack([colormaps["tab20"].colors, colormaps["tab20b"].colors])  # type: ignore[attr-defined]
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots()
    seen = [name for name in names if (here["prediction"] == name).any()]
    shapes.assign(prediction=pd.Categorical(here["prediction"], seen)).plot(
        "prediction",
        ax=axes,
        categorical=True,
        legend=True,
        markersize=5,
        cmap=ListedColormap([colours[names.index(name) % len(colours)] for name in seen]),
        legend_kwds={"loc": "center left", "bbox_to_anchor": (1, 0.5), "fontsize": 7, "frameon": False},
    )
    axes.set(title=f"{domain}: predicted class", xlabel="east, m", ylabel="north, m", aspect="equal")
    return figure
