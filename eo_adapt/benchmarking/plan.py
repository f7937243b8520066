"""Which runs a benchmark consists of, and what each of them is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import numpy as np

from ..registry import build, config, names, path_of
from .suite import ALWAYS, Suite

# Every run is told so: what the comparison needs, and nothing that it does not.
FIXED = ("trainer.keep=all", "figures=false", "logger=csv", "trainer.progress=none", "resume=auto")


@dataclass(frozen=True)
class Job:
    """One run.

    Attributes:
        shift: Entry of configs/shift.
        method: Entry of configs/method, or several joined by ``+``.
        seed: Seed of the run.
        trial: Number of the hyper-parameter trial; 0 = as configured.
    """

    shift: str
    method: str
    seed: int
    trial: int

    def place(self, root: Path) -> Path:
        """Its run directory."""
        return root / "runs" / self.shift / self.method / f"seed{self.seed}_trial{self.trial}"


def jobs(suite: Suite, methods: Sequence[str], seeds: int, trials: int) -> list[Job]:
    """Every run of a benchmark, a shift after the other, all methods of a seed together.

    Raises:
        LookupError: If a method or a shift does not exist.
        ValueError: If a count is below 1.
    """
    if seeds < 1 or trials < 1:
        raise ValueError(f"seeds and trials must be at least 1; got seeds={seeds}, trials={trials}")
    wanted = list(dict.fromkeys([*ALWAYS, *(methods or every_method())]))
    for method in wanted:
        for part in method.split("+"):
            path_of("method", part)
    for shift in suite.shifts:
        path_of("shift", shift)
    return [
        Job(shift, method, seed, trial)
        for shift in suite.shifts
        for seed in range(seeds)
        for method in wanted
        for trial in range(trials)
    ]


def every_method() -> list[str]:
    """All methods but the stack, which is nothing without parts, and those that want ``shift.target_labels``."""
    return [name for name in names("method") if name != "stack" and not build("method", name).tunes]


def label_free() -> list[str]:
    """All criteria that see no target labels; without ``auto``, which is one of the others."""
    return [name for name in names("selection") if name != "auto" and not build("selection", name).uses_target_labels]


def overrides(
    job: Job, suite: Suite, more: Sequence[str], selector: str, space: Mapping[str, Sequence[float]]
) -> list[str]:
    """What the run of a job is told, in the order in which later words win.

    Args:
        job: Which run.
        suite: Where it belongs.
        more: The user's own words for every run.
        selector: Criterion that chooses the checkpoint of the run's own report.
        space: See :func:`draw`.
    """
    parts = job.method.split("+")
    method = parts[0] if len(parts) == 1 else f"[{','.join(parts)}]"
    words = [f"task={suite.task}", f"shift={job.shift}", f"method={method}", f"seed={job.seed}"]
    words += [*suite.overrides, *suite.options.get(job.method, ()), *more]
    words += [f"selection={selector}", f"watch=[{','.join(label_free())}]", *FIXED]
    check_space(space)
    return words + (draw(config(*words), job.trial, space) if job.trial else [])  # composing takes a while


def draw(cfg: Any, trial: int, space: Mapping[str, Sequence[float]]) -> list[str]:
    """Hyper-parameters of one trial, as overrides: those of the config times factors drawn log-uniformly.

    The draw follows from the trial's number alone, so all methods get the same learning rates. Trial 0 is the config as
    it is. In trial 1 the weights of a method are 0: a search that cannot fall back to no adaptation hides harm.

    Args:
        cfg: Composed config of the run.
        trial: Number of the trial.
        space: ``lr`` and ``weight`` -> (lowest, highest) factor.

    Raises:
        ValueError: If the space names something else, or a range is not positive and ascending.
    """
    check_space(space)
    if trial == 0:
        return []
    rng = np.random.default_rng([trial])
    factor = {name: float(np.exp(rng.uniform(*np.log(space[name])))) for name in ("lr", "weight") if name in space}
    words = [f"optim.lr={cfg.optim.lr * factor['lr']:.6g}"] if "lr" in factor else []
    if "weight" in factor:
        scale = 0 if trial == 1 else factor["weight"]
        words += [f"{key}={min(value * scale, most):.6g}" for key, value, most in weights(cfg.method)]
    return words


def check_space(space: Mapping[str, Sequence[float]]) -> None:
    """Refuse what is no space of :func:`draw`."""
    for name, limits in space.items():
        if name not in ("lr", "weight") or len(limits) != 2 or not 0 < limits[0] <= limits[1]:
            raise ValueError(
                f"space has ranges of factors for 'lr' and 'weight', 0 < lowest <= highest; got {name}: {list(limits)}"
            )


def weights(method: Mapping[str, Any], where: str = "method") -> Iterator[tuple[str, float, float]]:
    """Key, value and largest value of every ``weight`` of a method's config, the parts of a stack included."""
    for key, value in method.items():
        if key == "weight":
            yield f"{where}.{key}", float(value), resolve_name(method["_target_"]).weight_limit
        elif isinstance(value, Mapping):
            yield from weights(value, f"{where}.{key}")
