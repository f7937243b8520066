"""A class map as a picture with its legend: for a page, not for a GIS."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from ..report.look import spoken, style
from .paint import NODATA

SIDE = 1200  # pixels that are read at most along the longer side
LISTED = 20  # classes in the legend, the largest first


def draw_map(source: Path | str, output: Path | str, title: str = "") -> Path:
    """Draw a class map that predict made, from an overview, with the classes that occur and their shares.

    Args:
        source: The map.
        output: A ``.png`` or ``.svg``; a file there is replaced.
        title: Above it.

    Raises:
        ValueError: If it is no map of predict.
    """
    import matplotlib as mpl
    import rasterio
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from .vectors import legend_of

    output = Path(output)
    with rasterio.open(source) as file:
        legend_of(source, file.tags())  # says what is wrong
        legend = list(json.loads(file.tags()["EO_ADAPT_LEGEND"]).values())
        share = min(1.0, SIDE / max(file.shape))
        shape = tuple(max(1, round(n * share)) for n in file.shape)
        classes = file.read(1, out_shape=shape)
    counts = np.bincount(classes[classes != NODATA], minlength=len(legend))
    palette = np.array([mpl.colors.to_rgb(colour) for _, colour in legend])
    picture = np.ones((*classes.shape, 3))
    picture[classes != NODATA] = palette[classes[classes != NODATA]]
    order = [i for i in np.argsort(-counts, kind="stable") if counts[i]][:LISTED]
    with style():
        figure = Figure(figsize=(8, 5.5 * min(1.4, classes.shape[0] / classes.shape[1]) + 0.4), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(picture, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(title)
        keys = [
            Patch(color=legend[i][1], label=f"{spoken(legend[i][0])} {counts[i] / counts.sum():.0%}") for i in order
        ]
        figure.legend(handles=keys, loc="outside right upper")
        temporary = output.with_name(f".{output.stem}.{os.getpid()}{output.suffix}")
        figure.savefig(temporary, dpi=110)
    os.replace(temporary, output)
    return output
