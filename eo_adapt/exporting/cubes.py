"""An xarray.DataArray as a look of a sensor: axes, bands and dates by their names."""

from __future__ import annotations

from typing import Any

import numpy as np

# Names of an axis -> where it stands, sample first.
AXES = {
    "sample": ("sample", "batch", "parcel", "patch"),
    "time": ("time", "t", "date"),
    "band": ("band", "bands", "channel"),
    "y": ("y", "height", "row", "latitude", "lat"),
    "x": ("x", "width", "column", "longitude", "lon"),
    "pixel": ("pixel", "pixels"),
}
ORDER = tuple(AXES)


def is_cube(given: Any) -> bool:
    """Whether it is an xarray.DataArray, told without importing xarray."""
    return hasattr(given, "dims") and hasattr(given, "coords") and hasattr(given, "transpose")


def of_cube(sensor: str, cube: Any) -> dict[str, Any]:
    """The array's values, bands, days and unit.

    Days are a coordinate ``days`` along time, or follow from the times and ``attrs["year"]``, the label year. Values
    that are nan in all bands are pixels (of parcels: dates) where nothing was seen.

    Raises:
        ValueError: If an axis has another name, or dates cannot be counted.
    """
    place = {str(dim): next((axis for axis, names in AXES.items() if str(dim) in names), "") for dim in cube.dims}
    unknown = [dim for dim, axis in place.items() if not axis]
    if unknown or len(set(place.values())) < len(place):
        raise ValueError(
            f"{sensor!r} has the dimensions {list(place)}; known are {AXES}, each at most once: rename "
            f"{unknown or list(place)}"
        )
    dims = sorted(place, key=lambda dim: ORDER.index(place[dim]))
    axes = [place[dim] for dim in dims]
    values = np.asarray(cube.transpose(*dims).values)
    if "sample" not in axes:
        values, axes = values[None], ["sample", *axes]
    found: dict[str, Any] = {"values": values}
    bands = next((dim for dim in dims if place[dim] == "band"), None)
    if bands is not None and bands in cube.coords:
        found["bands"] = [str(name) for name in cube.coords[bands].values]
    if "units" in cube.attrs:
        found["units"] = str(cube.attrs["units"])
    times = next((dim for dim in dims if place[dim] == "time"), None)
    if times is not None:
        found["days"] = _days(sensor, cube, times)
    if values.dtype.kind == "f" and "band" in axes:
        gone = np.isnan(values).all(axes.index("band"))
        if gone.any():
            found["valid" if axes[-1] == "band" else "valid_pixels"] = ~gone
    return found


def _days(sensor: str, cube: Any, times: str) -> np.ndarray:
    if "days" in cube.coords:
        return np.asarray(cube.coords["days"].values)
    stamps = np.asarray(cube.coords[times].values) if times in cube.coords else np.array([])
    if stamps.dtype.kind != "M" or "year" not in cube.attrs:
        raise ValueError(
            f"dates of {sensor!r} are a coordinate 'days' (since 1 January of the label year) along {times!r}, or "
            "datetime64 times with attrs['year'], the label year"
        )
    since = stamps.astype("datetime64[D]") - np.datetime64(f"{int(cube.attrs['year'])}-01-01", "D")
    return since.astype(np.float32)
