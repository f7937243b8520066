"""The run directory: one writer at a time, one config, nothing overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from . import __version__

FREE = ("resume", "figures", "boundary", "choices")  # may differ between the run and its continuation
PURPOSES = ("training", "selection", "evaluation")  # what target labels are opened for
ABSENT: Any = object()  # where a config has no such key


class RunDirectoryError(RuntimeError):
    """The run directory cannot be used."""


@contextmanager
def occupy(folder: Path) -> Iterator[None]:
    """Hold the run directory; a second run that wants it is refused.

    Raises:
        RunDirectoryError: If it cannot be written, or another run writes it.
    """
    lock = FileLock(folder / ".lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunDirectoryError(
            f"another run is writing {folder}; wait for it or set hydra.run.dir=<another folder>"
        ) from error
    except OSError as error:
        raise RunDirectoryError(f"cannot write to the run directory {folder}: {error}; set hydra.run.dir=") from error
    try:
        yield
    finally:
        (folder / ".lock").unlink(missing_ok=True)  # before the release: nobody may lock a file that is about to go
        lock.release()


def claim(folder: Path, config: Mapping[str, Any]) -> bool:
    """Agree that a run of this config may use a directory; nothing is written.

    Returns:
        Whether an earlier run is to be continued.

    Raises:
        RunDirectoryError: If the directory holds a run of another config, or resuming was not asked for.
    """
    there = folder / "config.yaml"
    of_value = [*(folder / "checkpoints").glob("*.ckpt"), *folder.glob("report.json")]
    if there.exists() and not (folder / "env.txt").exists():
        raise RunDirectoryError(f"{folder} has a config.yaml that is no run's; set hydra.run.dir=<another folder>")
    if there.exists() and of_value:  # a run that failed before its first checkpoint blocks nobody
        earlier = yaml.safe_load(there.read_text())
        if different := differences(earlier, config):
            raise RunDirectoryError(
                f"{folder} holds a run of another config; different: {spell(different)}. Nothing was changed; set "
                "hydra.run.dir=<another folder>"
            )
        if config["resume"] != "auto":
            raise RunDirectoryError(
                f"{folder} holds a run of this config; resume=auto continues it, hydra.run.dir= takes another folder"
            )
    return of_value != [] and (folder / "checkpoints" / "last.ckpt").exists()


def record(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.yaml and env.txt: from here on the directory is this run's."""
    write_text(folder / "env.txt", environment())
    write_text(folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False))


def audit(folder: Path, config: Mapping[str, Any], by: str, purpose: str = "evaluation") -> int:
    """Write down that target labels are about to be opened: a line of ``audit.jsonl`` (time, config, count, by whom).

    Args:
        folder: The run directory.
        config: What it runs.
        by: Who opens them.
        purpose: ``evaluation`` of the sealed test, or ``training`` or ``selection``, which stamp the result.

    Returns:
        How often they have been opened in this directory for this purpose, this time included.

    Raises:
        ValueError: If the purpose is none of the three.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {list(PURPOSES)}; got {purpose!r}")
    path = folder / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    count = 1 + sum(line.get("purpose", "evaluation") == purpose for line in lines)  # older lines do not say
    line = {
        "purpose": purpose,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_sha256": config_hash(config),
        "count": count,
        "by": by,
        "version": version(),
    }
    with path.open("a") as file:
        file.write(json.dumps(line) + "\n")
    return count


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of what a run depends on; where it lies and how it is shown does not count."""
    kept = {key: value for key, value in config.items() if key not in FREE}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()


def differences(
    a: Mapping[str, Any], b: Mapping[str, Any], free: Collection[str] = FREE, where: str = ""
) -> dict[str, tuple[Any, Any]]:
    """What two configs differ in: dotted key -> (value in ``a``, value in ``b``), :data:`ABSENT` where there is none.

    Args:
        a: A config.
        b: Another.
        free: Dotted keys that may differ.
        where: Dotted key of these two, with a dot at its end.
    """
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*a, *b}):
        key, one, other = f"{where}{name}", a.get(name, ABSENT), b.get(name, ABSENT)
        if key in free:
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            found |= differences(one, other, free, f"{key}.")
        elif one != other:
            found[key] = (one, other)
    return found


def spell(different: Mapping[str, tuple[Any, Any]]) -> str:
    """:func:`differences` as a line of text."""

    def said(value: Any) -> str:
        return "nothing" if value is ABSENT else repr(value)

    return "; ".join(f"{key}: {said(there)} there, {said(now)} now" for key, (there, now) in different.items())


def write_text(path: Path, text: str) -> None:
    """Write under a temporary name, then rename: a reader sees the old file or the new one, never half of one."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        file.write(text)
    Path(file.name).chmod(0o644)
    os.replace(file.name, path)


@cache
def version() -> str:
    """Version and, in a checkout, the commit, with + when files were changed."""

    def git(*words: str) -> str:
        place = Path(__file__).parent.parent
        if not (place / ".git").exists():
            return ""
        return subprocess.run(["git", *words], cwd=place, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603, S607

    try:
        commit, changed = git("rev-parse", "--short", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    except OSError:
        commit, changed = "", ""
    return __version__ + (f"+{commit}{'+' if changed else ''}" if commit else "")


def environment() -> str:
    """Versions of everything that made a result."""
    lines = [f"eo_adapt {version()}", f"python {platform.python_version()}", f"platform {platform.platform()}"]
    return "\n".join([*lines, *_installed()]) + "\n"


@cache
def _installed() -> list[str]:
    """``name==version`` of every package; reading them takes nearly a second."""
    found = {d.metadata["Name"]: d.version for d in metadata.distributions()}
    return sorted(f"{name}=={number}" for name, number in found.items() if name)
