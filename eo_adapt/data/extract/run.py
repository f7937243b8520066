"""Runs the units that are missing, notes what became of each, and says at the end what failed."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .engine import Run
from .errors import FatalError, cannot_write
from .manifest import Manifest, Unit
from .unit import Task, run_unit

if TYPE_CHECKING:
    from .results import Results

log = logging.getLogger("eo_adapt.extract")
EVERY = 30.0  # seconds between two lines of progress


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One extraction at a time in a folder; the lock goes with the process that holds it.

    Raises:
        FatalError: If another one is at work there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise FatalError(
            f"another extraction is at work in {folder}; wait for it, or name another folder with work="
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        yield
    finally:
        lock.release()


def run_units(
    manifest: Manifest, units: Sequence[Unit], tasks: Mapping[tuple[str, str], Task], run: Run
) -> dict[str, str]:
    """Compute the units whose parts are not there yet.

    Returns:
        Unit id -> error, of those that failed.

    Raises:
        FatalError: If no unit can be computed any more (disk full); what is done stays.
    """
    missing = {unit.id: unit for unit in units if not manifest.is_done(unit)}
    log.info("%d units, %d of them done before", len(units), len(units) - len(missing))
    jobs = {
        key: (run_unit, (unit.acquisition, tasks[unit.place], str(manifest.part(unit))))
        for key, unit in missing.items()
    }
    failed: dict[str, str] = {}
    said, done = time.monotonic(), 0
    for key, _, error, attempt in run(jobs):
        unit, done = missing[key], done + 1
        if error is None and not manifest.is_done(unit):
            raise FatalError(
                f"a worker computed {unit.name}, but {manifest.part(unit)} is not here: the workers must see the "
                f"folder "
                "work= under the same name"
            )
        manifest.note(unit, "failed" if error else "done", attempt, str(error) if error else "")
        if error is not None:
            failed[key] = str(error) or type(error).__name__
            log.info("failed: %s (%s)", unit.name, failed[key])
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            log.info("%d of %d units", done, len(jobs))
    return failed


def check_failures(results: Results, most: float) -> None:
    """Say what failed.

    Args:
        results: Of the run.
        most: Share of units and images that may fail.

    Raises:
        FatalError: If more did, or nothing is left.
    """
    failures = results.failures
    total = len(results.units) + len(results.plan.lost)
    if not failures:
        return
    listed = "\n".join(f"  {name}: {error}" for name, error in failures[:5])
    text = f"{len(failures)} of {total} images failed, first:\n{listed}"
    if len(failures) > most * total or len(failures) == total:
        raise FatalError(
            f"{text}\nNo store was made (max_failed={most:g}). Finished units are kept in {results.manifest.folder}: "
            f"mend "
            "the images and run the same command again, or accept the gaps with a higher max_failed="
        )
    log.warning(
        "%s\nthey are missing in the store and listed in its failed.csv; once mended, force=true adds them", text
    )
