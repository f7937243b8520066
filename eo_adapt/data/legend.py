"""Named classes, and which of them a classifier learns when source and target do not name the same ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "unknown"
Kind = Literal["closed", "open", "partial"]


@dataclass(frozen=True)
class Legend:
    """The classes of a classifier; a class's position is its integer label.

    Attributes:
        names: Class names, each once.
        codes: The dataset's code of each class (e.g. HCAT), each once; the names themselves if left out.
    """

    names: tuple[str, ...]
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = _strings("names", self.names)
        codes = _strings("codes", self.codes or self.names)
        if len(names) != len(codes):
            raise ValueError(f"a legend needs one code a name; got {len(names)} names and {len(codes)} codes")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "codes", codes)

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Integer label of the class called ``name``.

        Raises:
            ValueError: No class has this name.
        """
        if name not in self.names:
            raise ValueError(f"no class {name!r} in the legend; it has {list(self.names)}")
        return self.names.index(name)

    def encode(self, labels: NDArray[np.str_]) -> NDArray[np.int64]:
        """Class names -> integer labels of the same shape; -1 where the name is not in the legend.

        Args:
            labels: Class names (not codes), numpy strings or objects holding strings.

        Raises:
            ValueError: ``labels`` are numbers: integers of another dataset are not this legend's.
        """
        array = np.asarray(labels)
        if array.dtype.kind not in "UOT":
            raise ValueError(f"encode takes class names (strings); got an array of {array.dtype}")
        position = {name: label for label, name in enumerate(self.names)}
        found = [position.get(name, -1) for name in array.ravel().tolist()]
        return np.asarray(found, dtype=np.int64).reshape(array.shape)

    def to_dict(self) -> dict[str, list[str]]:
        """Plain lists, fit for json and for checkpoints read with ``weights_only=True``."""
        return {"names": list(self.names), "codes": list(self.codes)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Sequence[str]]) -> Legend:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError: Other keys than ``names`` and ``codes``.
        """
        if set(stored) != {"names", "codes"}:
            raise ValueError(f"a stored legend has the keys ['codes', 'names']; got {sorted(stored)}")
        return cls(tuple(stored["names"]), tuple(stored["codes"]))


@dataclass(frozen=True)
class LabelSet:
    """What is learnt and scored when a source's classes meet a target's.

    Attributes:
        legend: The classifier's outputs, sorted by name.
        shared: Classes of both sides.
        source_private: Classes of the source alone.
        target_private: Classes of the target alone, or with too few source samples.
        unknown: Whether target-private classes are scored as one extra class, ``"unknown"``, which is no output of the
            classifier. Otherwise they are scored under their own names, as errors.
    """

    legend: Legend
    shared: tuple[str, ...]
    source_private: tuple[str, ...]
    target_private: tuple[str, ...]
    unknown: bool


def label_set(
    source_counts: Mapping[str, int], target_names: Collection[str], kind: Kind, min_per_class: int
) -> LabelSet:
    """Choose the classifier's classes.

    closed: the shared classes. partial: all source classes (the target is expected to hold some of them). open: shared
    and source-private classes, and target-private ones are scored together as "unknown".

    Args:
        source_counts: Class name -> labelled source samples; every class named here is demanded.
        target_names: Names of the target's classes. Only the set is used: counts would be target labels.
        kind: "closed", "open" or "partial".
        min_per_class: Source classes with fewer samples are left out as if the source did not have them (>= 1).

    Raises:
        ValueError: ``kind`` misspelt, a demanded class without any source sample, no shared class, ``min_per_class``
            below 1, or a class called "unknown" in an open set.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is one of {list(get_args(Kind))}; got {kind!r}")
    if min_per_class < 1:
        raise ValueError(f"min_per_class is at least 1; got {min_per_class}")
    if empty := sorted(name for name, count in source_counts.items() if count <= 0):
        raise ValueError(f"classes without any source sample: {empty}; leave them out of the legend or add samples")
    source = {name for name, count in source_counts.items() if count >= min_per_class}
    target = set(_strings("target_names", target_names if isinstance(target_names, str) else set(target_names)))
    if not (shared := source & target):
        raise ValueError(
            f"source and target share no class. Source: {sorted(source)} (at least {min_per_class} samples a class, "
            f"left out: {sorted(set(source_counts) - source)}); target: {sorted(target)}. Join them by one legend, "
            "e.g. hcat.shared_depth, or lower min_per_class"
        )
    if kind == "open" and UNKNOWN in source | target:
        raise ValueError(f"an open set reserves the name {UNKNOWN!r} for target-private classes; rename that class")
    return LabelSet(
        legend=Legend(tuple(sorted(shared if kind == "closed" else source))),
        shared=tuple(sorted(shared)),
        source_private=tuple(sorted(source - target)),
        target_private=tuple(sorted(target - source)),
        unknown=kind == "open",
    )


def _strings(what: str, values: Collection[str]) -> tuple[str, ...]:
    """``values`` as a tuple of distinct strings, or an error that says why not."""
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{what} is a collection of strings; got {values!r}")
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise ValueError(f"{what} must differ from one another; {twice} occur more than once")
    return tuple(values)
