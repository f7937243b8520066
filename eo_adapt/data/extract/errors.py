"""Errors of single images and of the whole extraction."""

from __future__ import annotations

import errno

FATAL = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


class BadImageError(ValueError):
    """An image that cannot be used, and that will not be better at the next try."""


class UnreadableError(BadImageError):
    """An image that could not be read: cut short, or only out of reach for a moment."""


class LostWorkerError(RuntimeError):
    """The workers that tried a unit died."""


class FatalError(RuntimeError):
    """Nothing more can be done, whatever the unit: disk full, no permission."""


def missing_extra(package: str, use: str) -> ImportError:
    """The error of a dependency that is not installed."""
    return ImportError(f"{package} is needed for {use} and is not installed: pip install 'eo_adapt[scale]'")


def cannot_write(path: object, error: OSError) -> FatalError:
    """The error of a folder that takes no more files; what is done stays."""
    what = error.strerror or str(error)
    return FatalError(
        f"cannot write {path} ({what}). Finished units are kept: make room or give the right to write, or name another "
        "folder with work=, and run the same command again"
    )
