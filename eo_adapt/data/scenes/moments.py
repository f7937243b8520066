"""Band statistics from what the index knows of each patch: no pixel is read again."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from ..store import band_numbers
from .store import SceneStore


def statistics_of(
    store: SceneStore, bands: Mapping[str, Sequence[str]], rows: np.ndarray
) -> dict[str, tuple[list[float], list[float]]]:
    """Mean and standard deviation of each band over all pixels of some patches, physical units.

    Groups are joined as by Chan et al. 1983 (The American Statistician 37, 242-247), equation 2.1: nothing cancels.

    Args:
        store: The store.
        bands: Sensor -> band names.
        rows: (M,) positions of the labelled training patches.

    Returns:
        Sensor -> (mean, std), one number a band; a constant band has std 1. Places of points have mean 0 and std 1. An
        optional sensor that all these patches lack gets the numbers of all patches that have it, with a warning.
        Where patches have attributes, those of "attributes", too.

    Raises:
        ValueError: If there is no pixel at all.
    """
    found = {}
    for name, wanted in bands.items():
        numbers = band_numbers(store.sensors[name], wanted, name)
        index = store.index.iloc[rows]
        if store.sensors[name].optional and not index[f"{name}.n"].any():
            index = store.index
            warnings.warn(
                f"no labelled training patch has {name!r}, so a network learns nothing of it; its numbers are taken "
                f"from all patches that have it. Leave it out with data.bands or encoder.modalities",
                stacklevel=2,
            )
        n = index[f"{name}.n"].to_numpy(np.float64)[:, None]
        mean, m2 = (np.stack(index[f"{name}.{key}"].to_list())[:, numbers] for key in ("mean", "m2"))
        if not n.sum():
            raise ValueError(f"{name} has no pixel in the labelled training patches; check nodata and split")
        joined = (n * mean).sum(0) / n.sum()
        std = np.sqrt((m2.sum(0) + (n * np.square(mean - joined)).sum(0)) / n.sum())
        if store.sensors[name].kind == "points":  # x and y say where a point lies: they stay pixels
            joined[:2], std[:2] = 0.0, 1.0
        found[name] = (joined.tolist(), np.where(std > 1e-8, std, 1.0).tolist())
    if store.attributes is not None:
        values = store.attributes[rows].double()
        std = values.std(0, correction=0)
        found["attributes"] = (values.mean(0).tolist(), torch.where(std > 1e-8, std, 1.0).tolist())
    return found
