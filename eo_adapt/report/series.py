"""Time series as they are shown: profiles of classes, and single parcels that were told right or wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from ..data.datamodule import DomainDataModule
from ..data.loader import Part, PartLoader, Reader
from ..diagnosis.profiles import vegetation_index
from .look import BLUE, LINES, RED, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST = 400  # parcels behind a median
CHARTS = 16  # classes whose profiles are drawn
Curve = tuple[np.ndarray, np.ndarray]


class Series:
    """Reads an index of parcels over the year.

    Args:
        data: The domains; the index may need bands that the model does not read.
    """

    def __init__(self, data: DomainDataModule) -> None:
        self.sensor = next(iter(data.bands))
        self.bands = data.store.sensors[self.sensor].bands
        self.reader = Reader(data.store, {self.sensor: self.bands}, data.pixels)
        self.label = vegetation_index(np.zeros(len(self.bands)), self.bands)[1]
        self._medians: dict[tuple[str, ...], Curve] = {}

    def of(self, rows: np.ndarray) -> list[Curve] | None:
        """Days and values of the valid dates of each parcel; None if the data have no dates."""
        found: list[Curve] = []
        for batch in PartLoader(self.reader, Part(torch.from_numpy(np.array(rows, np.int64)), None), 512):
            o = batch.inputs[self.sensor]
            if o.days is None or o.values.ndim not in (3, 4):
                return None
            x = o.values
            if o.values.ndim == 4:  # pixels that do not exist are zeros
                x = o.values.sum(-1) / o.valid_pixels.sum(-1)[:, :, None].clamp_min(1)  # type: ignore[union-attr]
            values = vegetation_index(x.numpy(), self.bands)[0]
            valid = np.ones(values.shape, bool) if o.valid is None else o.valid.numpy()
            found += [(d[v], y[v]) for d, y, v in zip(o.days.numpy(), values, valid, strict=True)]
        return found

    def median(self, rows: np.ndarray) -> Curve | None:
        """Median over 16-day bins of up to 400 parcels; None without any date."""
        found = self.of(rows[:: max(1, len(rows) // MOST)][:MOST])
        if not found or not sum(len(days) for days, _ in found):
            return None
        days, values = (np.concatenate(part) for part in zip(*found, strict=True))
        medians = pd.Series(values).groupby(days // 16).median()
        return medians.index.to_numpy() * 16 + 8, medians.to_numpy()


def profiles(data: DomainDataModule, predictions: pd.DataFrame | None = None, most: int = CHARTS) -> Figure | None:
    """Median NDVI (or first band) per class over the year: sources against targets; test parcels, labels opened.

    Each domain has its line; more than six are pooled by role. None without dates or labelled test parcels.

    Args:
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it; None = ask the data, which must be open.
        most: Classes drawn, those with most test parcels.
    """
    from matplotlib.figure import Figure

    series = Series(data)
    tests = labelled_tests(data) if predictions is None else of_test(predictions)
    tests = tests.assign(line=tests["domain"] + " (" + tests["role"] + ")")
    if tests["line"].nunique() > len(LINES) - 1:
        tests["line"] = tests["role"] + "s"
    lines = tests.drop_duplicates("line")[["line", "role"]].to_numpy().tolist()
    counts = tests["label"].value_counts()
    names = [name for name in counts.index if name in set(data.label_set.shared)][:most]
    rows = {key: part["row"].to_numpy() for key, part in tests.groupby(["label", "line"])}
    drawn = {key: series.median(rows[key]) for name in names for line, _ in lines if (key := (name, line)) in rows}
    if not any(drawn.values()):
        return None
    columns = min(4, len(names))
    height = -(-len(names) // columns)
    figure = Figure(figsize=(2.9 * columns, 0.6 + 1.9 * height), layout="constrained")
    grid = figure.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, name in zip(grid, names, strict=False):
        for colour, (line, role) in zip(LINES, lines, strict=False):
            if curve := drawn.get((name, line)):
                axes.plot(*curve, "--" if role == "target" else "-", color=colour, label=line, lw=1.4)
        axes.set_title(spoken(name, 30))
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    _describe(figure, grid, f"median {series.label}", 4)
    return figure


def of_test(predictions: pd.DataFrame) -> pd.DataFrame:
    """The labelled test parcels."""
    return predictions[(predictions["split"] == "test") & (predictions["label"] != "")]


def labelled_tests(data: DomainDataModule) -> pd.DataFrame:
    """Row, domain, role and label of the labelled test parcels, from data that are open."""
    names = np.array(data.scored_classes().names)
    tables = []
    for d in data.parcels:
        part = data.sealed(d)
        assert part.labels is not None  # noqa: S101  (the sealed part has labels)
        labels = names[part.labels.numpy()]
        table = {"row": part.rows.numpy(), "domain": d.domain.name, "role": d.role, "label": labels}
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _describe(figure: Figure, grid: np.ndarray, value: str, columns: int) -> None:
    """Labels of the axes, and one legend for all charts."""
    figure.supxlabel("day of the label year", fontsize=9)
    figure.supylabel(value, fontsize=9)
    handles = {text: line for axes in grid for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns)


def examples(data: DomainDataModule, predictions: pd.DataFrame, each: int = 4) -> Figure | None:
    """Test parcels that were told right and wrong, with the median source profiles of the classes involved.

    Of the targets where they have labels, else of the sources; from the least to the most confident. None if there are
    no labelled test parcels or no dates.
    """
    from matplotlib.figure import Figure

    test = of_test(predictions)
    test = test[test["role"] == "target"] if (test["role"] == "target").any() else test
    right = test["label"] == test["prediction"]
    picked = [_spread(test[right], each), _spread(test[~right], each)]
    rows = pd.concat(picked)["row"].to_numpy()
    series = Series(data)
    if not len(rows) or (found := series.of(rows)) is None:
        return None
    lines = dict(zip(rows.tolist(), found, strict=True))
    medians = _source_medians(series, predictions, pd.concat(picked)[["label", "prediction"]].to_numpy().ravel())
    shown = [part for part in picked if len(part)]
    columns = max(map(len, shown))
    figure = Figure(figsize=(2.9 * columns, 0.6 + 2.3 * len(shown)), layout="constrained")
    grid = figure.subplots(len(shown), columns, squeeze=False, sharex=True, sharey=True)
    for line, part in zip(grid, shown, strict=True):
        for axes, parcel in zip(line, part.to_dict("records"), strict=False):
            _example(axes, parcel, lines[parcel["row"]], medians)
        for axes in line[len(part) :]:
            axes.set_visible(False)
    _describe(figure, grid.ravel(), series.label, 3)
    return figure


def _example(axes: Axes, parcel: dict, line: Curve, medians: dict[str, Curve]) -> None:
    right = parcel["label"] == parcel["prediction"]
    if parcel["label"] in medians:
        axes.plot(*medians[parcel["label"]], color=BLUE, lw=1.2, label="true class, median of the sources")
    if not right and parcel["prediction"] in medians:
        axes.plot(
            *medians[parcel["prediction"]],
            color=RED,
            ls="--",
            lw=1.2,
            label="predicted class, median of the sources",
        )
    axes.plot(*line, ".", color="black", ms=4, label="this parcel")
    told = f"right: {spoken(parcel['label'], 30)}"
    if not right:
        told = f"is {spoken(parcel['label'], 30)},\nsaid {spoken(parcel['prediction'], 30)}"
    axes.set_title(f"{told}\n{spoken(parcel['domain'], 30)}, {100 * parcel['confidence']:.0f} % sure", fontsize=8)


def _spread(frame: pd.DataFrame, each: int) -> pd.DataFrame:
    """Rows from the least to the most confident, evenly spaced in rank."""
    ordered = frame.sort_values(["confidence", "row"], kind="stable")
    return ordered.iloc[np.unique(np.linspace(0, len(frame) - 1, min(each, len(frame))).round().astype(int))]


def _source_medians(series: Series, predictions: pd.DataFrame, names: np.ndarray) -> dict[str, Curve]:
    tests = of_test(predictions)
    tests = tests[(tests["role"] == "source") & tests["label"].isin(names)]
    found = {str(name): series.median(part["row"].to_numpy()) for name, part in tests.groupby("label")}
    return {name: curve for name, curve in found.items() if curve is not None}
