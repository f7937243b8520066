"""Archives unpacked so that nothing lands outside the folder, fills the disk, or stands for something else.

zip, tar, tar.gz, tar.bz2 and tar.xz. Refused: absolute
paths, ``..``, backslashes, links, devices, encrypted members, names that occur twice. Sizes are counted while bytes are
written, because a header may lie. Modes and owners in an archive are not taken over.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

BLOCK = 1 << 20
FREE_OF_RATIO = 64 << 20  # bytes up to which the ratio is not looked at: small files of zeros are no bomb
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError)


class ArchiveError(ValueError):
    """An archive that is damaged, or that would do what none should."""


@dataclass(frozen=True)
class Limits:
    """What an archive may hold.

    Attributes:
        bytes: In all, when unpacked.
        files: Members, folders included.
        ratio: Bytes when unpacked, as a multiple of the archive's size.
    """

    bytes: int = 2 << 40
    files: int = 5_000_000
    ratio: float = 200.0


@dataclass(frozen=True)
class Unpacked:
    """What came out: number of files, and their bytes."""

    files: int
    bytes: int


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    folder: bool
    handle: Any


def is_archive(path: Path) -> bool:
    """Whether a file's name is that of an archive that can be unpacked."""
    name = path.name.lower()
    return name.endswith((".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz"))


def unpack(archive: Path, into: Path, limits: Limits | None = None) -> Unpacked:
    """Unpack an archive into a new folder, which appears under its name when all of it is there.

    Args:
        archive: The archive; it is not changed.
        into: The folder to be; ``<into>.part`` is used on the way, and one that a killed run left is removed.
        limits: What it may hold.

    Raises:
        ArchiveError: If the archive is damaged, of no known kind, or holds what it must not; nothing is left behind.
        FileNotFoundError: If there is no archive.
        FileExistsError: If ``into`` is there.
        OSError: If the disk is full.
    """
    if not archive.is_file():
        raise FileNotFoundError(f"there is no archive {archive}")
    if into.exists():
        raise FileExistsError(f"{into} is there already; remove it, or unpack elsewhere")
    temporary = into.with_name(f"{into.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        with _opened(archive) as (members, read):
            result = _write(archive, temporary, members, read, limits or Limits())
        os.replace(temporary, into)
    except (*BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # gzip and bz2 tell of bad data without a number
            raise
        raise ArchiveError(
            f"{archive} cannot be unpacked ({error}); it is damaged or cut short: fetch it again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def _write(archive: Path, root: Path, members: Iterator[_Member], read: Any, limits: Limits) -> Unpacked:
    size = archive.stat().st_size
    most = min(limits.bytes, max(int(limits.ratio * size), FREE_OF_RATIO))
    seen: dict[tuple[str, ...], bool] = {}
    count = total = files = 0
    for member in members:
        count += 1
        if count > limits.files:
            raise ArchiveError(f"{archive} holds more than {limits.files:,} files; nothing was unpacked")
        parts = _checked(archive, member, seen)
        if not parts:
            continue
        if total + member.size > most:
            raise _bomb(archive, size, limits, most)
        target = root.joinpath(*parts)
        if member.folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        _room(archive, root, member.size)
        target.parent.mkdir(parents=True, exist_ok=True)
        files += 1
        with read(member) as source, target.open("xb") as file:
            while data := source.read(BLOCK):
                total += len(data)
                if total > most:
                    raise _bomb(archive, size, limits, most)
                file.write(data)
    return Unpacked(files, total)


def _bomb(archive: Path, size: int, limits: Limits, most: int) -> ArchiveError:
    return ArchiveError(
        f"{archive} ({size:,} bytes) would unpack to more than {most:,} bytes; allowed are {limits.bytes:,}, and "
        f"{limits.ratio:g} times its size. It may be a bomb: nothing was unpacked. If it is right, raise "
        "unpack.ratio in a copy of the recipe"
    )


def _room(archive: Path, root: Path, size: int) -> None:
    if size > BLOCK and size > (free := shutil.disk_usage(root).free):
        raise OSError(
            errno.ENOSPC, f"{archive.name} needs {size:,} bytes more, and {free:,} are free on the disk of {root}"
        )


def _checked(archive: Path, member: _Member, seen: dict[tuple[str, ...], bool]) -> tuple[str, ...]:
    """The parts of a member's path; () = the folder itself. ``seen``: path -> whether it is a folder."""
    name = member.name
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    drive = len(name) > 1 and name[1] == ":"
    if name.startswith("/") or "\\" in name or "\0" in name or drive or ".." in parts:
        raise ArchiveError(
            f"{archive} holds {name!r}, which leads out of the folder it is unpacked in; nothing was unpacked"
        )
    if not parts:
        return ()
    above = [parts[:i] for i in range(1, len(parts))]
    if (parts in seen and not (member.folder and seen[parts])) or any(seen.get(path) is False for path in above):
        raise ArchiveError(f"{archive} holds {name!r} twice, or in a file; nothing was unpacked")
    seen.update(dict.fromkeys(above, True))
    seen[parts] = member.folder
    return parts


@contextmanager
def _opened(archive: Path) -> Iterator[tuple[Iterator[_Member], Any]]:
    """An archive's members, and how to read one."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield _zip_members(archive, packed), lambda member: packed.open(member.handle)
        return
    with archive.open("rb") as file, _plain(archive, file) as stream:
        with tarfile.open(fileobj=stream, mode="r|", tarinfo=_Strict) as tar:
            yield _tar_members(archive, tar), lambda member: tar.extractfile(member.handle)
        _drain(archive, stream)


def _plain(archive: Path, file: IO[bytes]) -> Any:
    """The bytes of a tar, by its first bytes rather than its name."""
    head = file.read(6)
    file.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(file)
    if head.startswith(b"BZh"):
        return bz2.open(file)
    if head.startswith(b"\xfd7zXZ"):
        return lzma.open(file)
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        raise ArchiveError(f"{archive} is packed with zstd, which is not read here; unpack it by hand")
    return file


def _zip_members(archive: Path, packed: zipfile.ZipFile) -> Iterator[_Member]:
    for info in packed.infolist():
        if info.flag_bits & 1:
            raise ArchiveError(f"{archive} is encrypted ({info.filename!r}); unpack it by hand")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _odd(archive, info.filename, "a link" if kind == stat.S_IFLNK else "a device")
        # orig_filename: zipfile cuts the other one at a NUL and turns backslashes on some systems
        yield _Member(info.orig_filename, info.file_size, info.is_dir(), info)


class _Strict(tarfile.TarInfo):
    """A header that is damaged is an error: tarfile takes it for the end and leaves out what follows."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Strict:
        try:
            return super().fromtarfile(tar)
        except tarfile.HeaderError as error:
            if isinstance(error, tarfile.EOFHeaderError):  # type: ignore[attr-defined]  # the end mark
                raise
            raise tarfile.ReadError(f"{error or 'no end mark'}") from error


def _drain(archive: Path, stream: Any) -> None:
    """Read to the end: only there stands the check sum of what is packed."""
    for _ in range(FREE_OF_RATIO // BLOCK):
        if not stream.read(BLOCK):
            return
    raise ArchiveError(f"{archive} goes on after its end mark; it is no plain archive")


def _tar_members(archive: Path, tar: tarfile.TarFile) -> Iterator[_Member]:
    for info in tar:
        if not (info.isfile() or info.isdir()):
            raise _odd(archive, info.name, "a link" if info.issym() or info.islnk() else "a device")
        yield _Member(info.name, info.size if info.isfile() else 0, info.isdir(), info)


def _odd(archive: Path, name: str, what: str) -> ArchiveError:
    return ArchiveError(f"{archive} holds {name!r}, which is {what}; only files and folders are unpacked. Nothing was")
