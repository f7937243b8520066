"""Maps of the parcels of a domain: what was predicted and how unsure the model was, with scale bar and north arrow."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.datamodule import DomainDataModule
from .look import FILLS, spoken

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OTHER = "#BBBBBB"
CLASSES = 12  # classes with a colour of their own
MOST = 6000  # parcels drawn; of more, every so many-th
VECTORS = 1500  # parcels above which their shapes are drawn as pixels
PIXELS = 6.0  # smallest typical width of a parcel at which outlines are drawn instead of points


class Atlas:
    """Draws the domains of a run in one set of colours.

    Args:
        data: The domains.
        predictions: As :func:`.predictions.write_predictions` made it.
    """

    def __init__(self, data: DomainDataModule, predictions: pd.DataFrame) -> None:
        self.data, self.predictions = data, predictions
        frequent = predictions["prediction"].value_counts()
        names = frequent.index.tolist()
        own = names if len(names) <= CLASSES else names[: CLASSES - 1]
        looks = [(colour, marker, hatch) for marker, hatch in (("o", ""), ("^", "////")) for colour in FILLS]
        self.top = float(predictions["entropy"].max())
        self.look = dict(zip(own, looks, strict=False))

    @cached_property
    def _geometry(self) -> Any:
        import pyarrow.parquet as pq

        return pq.read_table(self.data.store.path / "index.parquet", columns=["geometry"])["geometry"]

    def sheet(self, domain: str) -> Figure | None:
        """Predicted class and entropy side by side; None without geopandas or without any place."""
        from matplotlib.figure import Figure

        here = self.predictions[self.predictions["domain"] == domain]
        step = -(-len(here) // MOST)
        placed = self._place(here.iloc[:: max(1, step)])
        if placed is None:
            return None
        west, south, east, north = placed.total_bounds
        tall = (north - south) / max(east - west, (north - south) / 2, 1.0)
        figure = Figure(figsize=(9.5, 1.2 + 3.8 * float(np.clip(tall + 0.15, 0.5, 1.1))), layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        outlines = _outlined(placed)
        self._classes(left, placed, outlines)
        shades = _entropy(right, placed, outlines, self.top)
        figure.colorbar(shades, ax=right, shrink=0.7, label="entropy, nats")
        left.set_title(f"{domain}: predicted class")
        right.set_title("how unsure (dark = sure)")
        for axes in (left, right):
            _furnish(axes, placed.total_bounds)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
        return figure

    def remark(self, domain: str) -> str:
        """What the sheet of a domain leaves out; "" if nothing."""
        total = int((self.predictions["domain"] == domain).sum())
        step = -(-total // MOST)
        return f"Drawn: every {step}th of {total} parcels." if step > 1 else ""

    def _place(self, here: pd.DataFrame) -> Any:
        """The parcels that have a place, in metres around their middle; None if there are none."""
        try:
            import geopandas
        except ImportError:
            return None
        import pyarrow as pa

        blobs = self._geometry.take(pa.array(here["row"].to_numpy())).to_pylist()
        shapes = geopandas.GeoSeries.from_wkb(blobs, crs="EPSG:4326")
        located = ~(shapes.isna() | shapes.is_empty).to_numpy()
        if not located.any():
            return None
        frame = geopandas.GeoDataFrame(here[located].reset_index(drop=True), geometry=shapes[located].to_numpy())
        west, south, east, north = shapes[located].total_bounds
        middle = f"+proj=laea +lat_0={(south + north) / 2:.4f} +lon_0={(west + east) / 2:.4f} +units=m"
        return frame.set_crs("EPSG:4326").to_crs(middle)

    def _classes(self, axes: Axes, placed: Any, outlines: bool) -> None:
        own = placed["prediction"].isin(list(self.look))
        if not own.all():
            _draw(axes, placed[~own], outlines, OTHER, "s", "", "other classes")
        for name, (colour, marker, hatch) in self.look.items():
            if (mine := placed["prediction"] == name).any():
                _draw(axes, placed[mine], outlines, colour, marker, hatch, f"{spoken(name, 34)} ({int(mine.sum())})")


def _draw(axes: Axes, part: Any, outlines: bool, colour: str, marker: str, hatch: str, label: str) -> None:
    look: dict[str, Any] = {"edgecolor": "#333333", "linewidth": 0.25}
    if outlines:
        part.plot(ax=axes, color=colour, hatch=hatch, aspect=None, rasterized=len(part) > VECTORS // 4, **look)
        axes.scatter([], [], s=40, c=colour, marker="s", hatch=hatch * 2, label=label, **look)
        return
    points = part.geometry.representative_point()
    size = 26 if marker == "^" else 22
    axes.scatter(
        points.x, points.y, s=size * _scale(axes, part), c=colour, marker=marker, label=label, rasterized=True, **look
    )


def _scale(axes: Axes, part: Any) -> float:
    return float(np.clip(400 / max(1, len(part)), 0.25, 1))


def _entropy(axes: Axes, placed: Any, outlines: bool, top: float) -> Any:
    look: dict[str, Any] = {"cmap": "cividis", "rasterized": True, "linewidth": 0.1, "vmin": 0, "vmax": top}
    if outlines:
        placed.plot("entropy", ax=axes, aspect=None, edgecolor="#333333", **look)
        return axes.collections[0]
    points = placed.geometry.representative_point()
    return axes.scatter(
        points.x, points.y, s=18 * _scale(axes, placed), c=placed["entropy"], edgecolor="#333333", **look
    )


def _outlined(placed: Any) -> bool:
    """Whether parcels are large enough on the sheet for their outlines to be seen."""
    if not placed.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        return False
    west, south, east, north = placed.total_bounds
    width = max(east - west, north - south, 1.0)
    return float(np.sqrt(placed.area.median())) / width * 400 >= PIXELS


def _furnish(axes: Axes, bounds: np.ndarray) -> None:
    """Equal axes without numbers; below the parcels a scale bar and an arrow to the north."""
    west, south, east, north = bounds
    side = max(east - west, north - south, 200.0)
    margin = 0.04 * side
    axes.set(xlim=(west - margin, max(east, west + 0.5 * side) + margin), ylim=(south - 0.15 * side, north + margin))
    axes.set(aspect="equal", xticks=[], yticks=[], xlabel="", ylabel="")
    for spine in axes.spines.values():
        spine.set_visible(False)
    length, label = scale_bar(side)
    low = south - 0.07 * side
    axes.plot([west, west + length], [low, low], color="black", lw=3, solid_capstyle="butt")
    axes.text(west + length / 2, low - 0.015 * side, label, ha="center", va="top", fontsize=8)
    arrow = {"arrowstyle": "-|>", "color": "black"}
    right = axes.get_xlim()[1] - 0.03 * side
    axes.annotate(
        "N", (right, low + 0.05 * side), (right, low - 0.05 * side), arrowprops=arrow, ha="center", fontsize=8
    )


def scale_bar(side: float) -> tuple[float, str]:
    """Length in metres and label of a bar of about a quarter of ``side`` metres: 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(side / 4))
    length = float(max(m * power for m in (1, 2, 5) if m * power <= side / 4))
    return length, f"{length / 1000:g} km" if length >= 1000 else f"{length:g} m"
