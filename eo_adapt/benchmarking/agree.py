"""Results that are already there, and the config that is asked for now: they must be of one experiment."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from ..registry import config
from ..rundir import ABSENT, FREE, RunDirectoryError, differences, spell
from ..train import as_plain
from .job import FAILURE, is_failed, is_finished
from .plan import Job

# May differ between runs of one table: what is only watched or shown, and where the data lie (which data they are is
# compared when the table is made). Choices are made afterwards, over all criteria.
SHOWN = (*FREE, "watch", "logger", "trainer.progress", "data.root", "data.store", "data.workers")


def agree(settled: Sequence[Job], root: Path, tell: Callable[[Job], list[str]]) -> None:
    """Refuse to put finished and failed runs into a table with runs of another config.

    Args:
        settled: The runs that would not be run again.
        root: Folder of the benchmark.
        tell: Job -> what its run is told now.

    Raises:
        RunDirectoryError: If one of them was made with another config; lists what differs.
    """

    @cache
    def asked(job: Job) -> tuple[dict[str, Any], tuple[str, ...]]:
        words = tell(job)
        return as_plain(config(*words)), tuple(words)

    found: dict[str, list[Path]] = {}
    for job in settled:
        place = job.place(root)
        if (there := earlier(place)) is not None:
            now, words = asked(replace(job, seed=0))  # composing takes a while, and seeds differ in nothing else
            if different := differing(there, {**now, "seed": job.seed}, words):
                found.setdefault(spell(different), []).append(place)
    if not found:
        return
    listed = "\n".join(f"  {len(places)} runs, e.g. {places[0]}: {text}" for text, places in found.items())
    raise RunDirectoryError(
        f"{sum(map(len, found.values()))} of {len(settled)} finished or failed runs in {root} were made with another "
        f"config:\n{listed}\nResults of two configs cannot stand in one table: set out=<another folder>, give the "
        "options as they were, or delete those runs (failed ones: retry=true runs them again)"
    )


def earlier(place: Path) -> dict[str, Any] | None:
    """Config of a run that was made; None where it failed too early to leave one."""
    found: dict[str, Any] | None = None
    if not is_finished(place) and is_failed(place):  # it may have failed before it wrote its config.yaml
        found = json.loads((place / FAILURE).read_text()).get("config")
    if found is None and (place / "config.yaml").exists():
        found = yaml.safe_load((place / "config.yaml").read_text())
    return found


def differing(there: Mapping[str, Any], now: Mapping[str, Any], words: Sequence[str]) -> dict[str, tuple[Any, Any]]:
    """What changes results between two configs: dotted key -> (value there, value now).

    Args:
        there: Config of a run that was made.
        now: What it would be made with now.
        words: What it would be told now. A key that the older config lacks and that nobody names is a new option with
            its default: no difference.
    """
    told = [word.partition("=")[0].lstrip("+~") for word in words]
    found = differences({**there, "selection": labelled(there)}, {**now, "selection": labelled(now)}, SHOWN)
    return {
        key: (one, other)
        for key, (one, other) in found.items()
        if one is not ABSENT or any(f"{word}.".startswith(f"{key}.") or _inside(key, word) for word in told)
    }


def _inside(key: str, word: str) -> bool:
    """Whether a word sets a mapping that the key lies in; ``method=coral`` only chooses one."""
    return "." in word and key.startswith(f"{word}.")


def labelled(made: Mapping[str, Any]) -> str:
    """All that the criterion of a run changes: whether its validation parcels of the target had labels."""
    module, _, name = made["selection"]["_target_"].rpartition(".")
    criterion = getattr(import_module(module), name)
    return "with target labels" if criterion.uses_target_labels else "label-free"
