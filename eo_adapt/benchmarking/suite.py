"""What a benchmark runs on: an entry of configs/suite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

ALWAYS = ("source_only", "adabn", "few_shot", "target_only")  # what every method is seen beside


@dataclass(frozen=True)
class Published:
    """A number that somebody else published on the same shift.

    Attributes:
        method: What they call it.
        score: Which score, e.g. ``macro-F1``.
        value: In percent.
        source: Where it stands (paper, table).
        note: How their protocol differs from this one.
    """

    method: str
    score: str
    value: float
    source: str
    note: str = ""


@dataclass(frozen=True)
class Suite:
    """Shifts that are studied together.

    Attributes:
        title: One line for the report.
        task: Entry of configs/task.
        shifts: Entries of configs/shift; each is a scenario, over which intervals are clustered.
        overrides: Given to every run, e.g. ``trainer.max_epochs=12``.
        options: Method -> words for its runs alone, e.g. ``{fda: [method.beta=0.05]}``: what it needs on such data.
        root: Whether the raw files must be given (``data.root=<folder>``) because nothing is embedded.
        published: Numbers of others, shown beside the table.
    """

    title: str
    task: str
    shifts: Sequence[str]
    overrides: Sequence[str] = ()
    options: Mapping[str, Sequence[str]] = field(default_factory=dict)
    root: bool = False
    published: Sequence[Published | Mapping[str, Any]] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.shifts:
            raise ValueError("a suite needs at least one shift; suite.shifts is empty")
        known = tuple(p if isinstance(p, Published) else Published(**p) for p in self.published)
        object.__setattr__(self, "published", known)
