"""One run of a benchmark: finished ones are not run again, failures are written down."""

from __future__ import annotations

import json
import shutil
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

REPORT, CANDIDATES, FAILURE = "report.json", "candidates.parquet", "failure.json"


def is_finished(place: Path) -> bool:
    """Whether a run has its scores."""
    return (place / REPORT).exists() and (place / CANDIDATES).exists()


def is_failed(place: Path) -> bool:
    """Whether a run was tried and failed."""
    return (place / FAILURE).exists()


def is_settled(place: Path, retry: bool) -> bool:
    """Whether a run is not to be run again: it is finished, or it failed and is not tried again."""
    return is_finished(place) or (is_failed(place) and not retry)


def is_tidy(place: Path) -> bool:
    """Whether a settled run has no weights left that were scored; a kill may leave some."""
    return not is_finished(place) or not any((place / "checkpoints").glob("epoch_*.ckpt"))


def tidy(place: Path) -> None:
    """Delete the weights of every epoch, which are scored; best and last stay."""
    for path in (place / "checkpoints").glob("epoch_*.ckpt"):
        path.unlink()


def run_job(words: Sequence[str], place: Path, threads: int) -> None:
    """Train and score one run; an error is written to ``failure.json`` and does not end the benchmark.

    Args:
        words: Overrides of ``configs/train.yaml``.
        place: Its run directory; an unfinished run there goes on where it stopped.
        threads: Threads of this run; the same for every launcher, so that scores are, too. 0 = as the system says.
    """
    if is_finished(place):
        tidy(place)
        return
    import torch

    from ..registry import config
    from ..rundir import RunDirectoryError, write_text
    from ..train import as_plain, run

    if is_failed(place):  # tried again: from the start, not from where it went wrong
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
    if threads:
        torch.set_num_threads(threads)
    plain = None
    try:
        plain = as_plain(config(*words))
        with warnings.catch_warnings():
            # A criterion that refuses is no news here: the table counts it.
            warnings.filterwarnings("ignore", message=".* gives no score")
            run(plain, place)
    except RunDirectoryError:
        raise  # somebody else's run, or one of another config: nothing may be written there
    except Exception as error:
        place.mkdir(parents=True, exist_ok=True)
        found = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc(), "words": list(words)}
        write_text(place / FAILURE, json.dumps({**found, "config": plain}, indent=1))
        return
    (place / FAILURE).unlink(missing_ok=True)
    tidy(place)
