"""Pickles of plain values, read without running what may be hidden in them.

A pickle can name any function of any installed library and have it called while it is read. The unpickler here knows
only containers, dates and numpy arrays; every other name is refused before anything is imported.
"""

from __future__ import annotations

import datetime
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy._core import multiarray, numeric


def _latin1(text: str, encoding: str) -> bytes:
    """What protocol 2 writes for bytes; the general ``codecs.encode`` would admit decompression and the like."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes are written as latin1 text; got {encoding!r}")
    return text.encode("latin1")


_PLAIN = {
    (module, t.__name__): t for module in ("builtins", "__builtin__") for t in (set, frozenset, complex, bytearray)
}
_DATES = {("datetime", t.__name__): t for t in (datetime.date, datetime.datetime, datetime.timedelta)}
_NUMPY = {  # numpy 1 wrote numpy.core, numpy 2 writes numpy._core
    (f"numpy.{core}.{module}", name): value
    for core in ("core", "_core")
    for module, name, value in (
        ("multiarray", "scalar", multiarray.scalar),
        ("multiarray", "_reconstruct", multiarray._reconstruct),
        ("numeric", "_frombuffer", numeric._frombuffer),  # type: ignore[attr-defined]
    )
}
ALLOWED: dict[tuple[str, str], Any] = {
    **_PLAIN,
    **_DATES,
    **_NUMPY,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): _latin1,
}


class ForbiddenName(pickle.UnpicklingError):
    """The pickle asks for something that is not a plain value."""


class PlainUnpickler(pickle.Unpickler):
    """An unpickler that refuses every name outside :data:`ALLOWED`."""

    def find_class(self, module: str, name: str) -> Any:
        """Look a name up in the list of what is admitted, never in an installed module."""
        if (module, name) not in ALLOWED:
            raise ForbiddenName(f"{module}.{name}")
        return ALLOWED[module, name]


def load_plain(path: Path) -> Any:
    """Read a pickle that holds nothing but containers, numbers, text, dates and numpy arrays.

    Raises:
        ValueError: If it asks for anything else, or if it is cut short or no pickle.
    """
    with path.open("rb") as file:
        try:
            return PlainUnpickler(file).load()
        except ForbiddenName as error:
            raise ValueError(
                f"{path} asks to load {error}; a metadata file holds plain values and numpy arrays only. Loading such "
                "a file may run foreign code: nothing was loaded. Get the file from its publisher again"
            ) from error
        except (pickle.UnpicklingError, EOFError, IndexError, KeyError, AttributeError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path} is no readable pickle ({type(error).__name__}: {error}); it seems cut short: fetch it again"
            ) from error
