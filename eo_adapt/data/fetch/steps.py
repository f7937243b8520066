"""From sources to a raw folder: what is missing is fetched, what is packed is unpacked, nothing is done twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from .archives import Limits, unpack
from .download import download
from .hashing import Hashes, mismatch, verified_by
from .ledger import Ledger, now, unpack_key
from .patience import Patience
from .sources import Source, SourceError


@dataclass(frozen=True)
class Wishes:
    """How a raw folder is to be filled.

    Attributes:
        verify: Whether files that have a link must be those that the recipe describes; False takes other ones as they
            are. Of files that are fetched by hand, a difference is said and noted.
        keep: Whether archives stay once they are unpacked.
        fetch: Whether the network may be used; without, what is missing stays missing.
        patience: With servers.
        say: What to call with a line for people.
    """

    verify: bool = True
    keep: bool = True
    fetch: bool = True
    patience: Patience = field(default_factory=Patience)
    say: Callable[[str], None] = print


def found(raw: Path, source: Source) -> bool:
    """Whether all that a source gives is below the raw folder."""
    return bool(source.gives) and all(next(raw.glob(glob), None) is not None for glob in map(_any_part, source.gives))


def _any_part(glob: str) -> str:
    return glob.replace("{part}", "*")


def bring(
    raw: Path, sources: Sequence[Source], wishes: Wishes, how: str = "", pages: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Make the raw folder hold what the sources give, and say what was done for each.

    Args:
        raw: The raw folder.
        sources: The files that are wanted (:func:`.sources.select`).
        wishes: How.
        how: What a person does about files that no program may fetch.
        pages: Where a person finds them.

    Raises:
        FileNotFoundError: If files are missing that must be fetched by hand; names all, before anything is fetched.
        SourceError: If no part is named where one must be.
        ValueError: If a file is not the one that the recipe describes, or an archive is damaged.
    """
    missing = [source for source in sources if not _here(raw, source)]
    if not wishes.fetch:
        present = [_bring(raw, source, wishes) for source in sources if source not in missing and not source.template]
        return [*present, *({"file": source.file or source.url, "missing": True} for source in missing)]
    if wanting := [source for source in missing if source.template]:
        raise SourceError(
            f"nothing below {raw} is of these data, and they are fetched in parts: name some with parts=[...] (see "
            f"show), or put the files there. {how or wanting[0].page}"
        )
    if hand := [source for source in missing if not source.url]:
        names = ", ".join(source.file for source in hand[:5]) + (f" and {len(hand) - 5} more" if len(hand) > 5 else "")
        where = " or ".join(pages) or "the publisher's page"
        raise FileNotFoundError(
            f"{names} must be fetched by hand and put below {raw}. {how or f'See {where}.'} Then run the same command "
            "again, or set fetch=false to go on with what is there"
        )
    return [_bring(raw, source, wishes) for source in sources if not source.template]


def _here(raw: Path, source: Source) -> bool:
    ledger = Ledger(raw, source)
    present = (raw / source.file).is_file() if source.file else False
    return present or found(raw, source) or ledger.under_way or is_unpacked(raw, source)


def _bring(raw: Path, source: Source, wishes: Wishes) -> dict[str, Any]:
    ledger, packed = Ledger(raw, source), (raw / source.file).is_file()
    fresh = not ledger.path.exists() and not ledger.under_way
    if fresh and (source.unpack or not packed) and found(raw, source):
        return {"file": source.file, "found": list(source.gives)}  # somebody else unpacked it
    notes = ledger.read()
    if not packed and is_unpacked(raw, source, notes):
        return _told(notes)  # the archive was not kept
    notes = {"file": source.file, **notes, "download": have(raw, source, wishes, notes.get("download", {}))}
    if source.unpack:
        with FileLock(str(ledger.lock)):
            notes = _unpack(raw, source, ledger, notes, wishes)
        if not wishes.keep:
            (raw / source.file).unlink(missing_ok=True)
    return _told(notes)


def _told(notes: dict[str, Any]) -> dict[str, Any]:
    return {name: notes[name] for name in ("file", "download", "unpack") if name in notes}


def is_unpacked(raw: Path, source: Source, notes: dict[str, Any] | None = None) -> bool:
    """Whether the archive that is noted was unpacked as the recipe says, and what it gives is still there."""
    notes = Ledger(raw, source).read() if notes is None else notes
    key = unpack_key(source, notes.get("download", {}).get("sha256", ""))
    return notes.get("unpack", {}).get("key") == key and (not source.gives or found(raw, source))


def have(raw: Path, source: Source, wishes: Wishes, known: dict[str, Any]) -> dict[str, Any]:
    """The file of a source, fetched if it is not there and verified; what is to be noted of it."""
    path, ledger = raw / source.file, Ledger(raw, source)
    if fetched := not path.is_file():
        wishes.say(f"fetching {source.url}")
        got = download(source, path, ledger.lock, wishes.patience)
        note = {"url": source.url, **got.hashes, "bytes": got.bytes, "verified": got.verified, "when": now()}
    else:
        state = path.stat()
        if (known.get("bytes"), known.get("time")) == (state.st_size, state.st_mtime_ns):
            hashes = {name: known[name] for name in ("sha256", "md5")}
        else:
            hashes = Hashes().add_file(path).hex()
        note = {"url": source.url, **hashes, "bytes": state.st_size, "verified": verified_by(source)}
        note["when"] = known.get("when", "") or now()
        if problem := mismatch(source, hashes, state.st_size):
            if wishes.verify and source.url:  # files fetched by hand are the user's own affair
                raise ValueError(
                    f"{path} {problem}: it is damaged or another version. Remove it to have it fetched, or set "
                    "verify=false to use it as it is"
                )
            wishes.say(f"{path} {problem}; used as it is")
            note["verified"] = "no"
    note = {"file": source.file, **note, "time": path.stat().st_mtime_ns}
    if note != known and (fetched or known or source.unpack):  # else leave the folder alone
        ledger.write(file=source.file, download=note)
    return note


def _unpack(raw: Path, source: Source, ledger: Ledger, notes: dict[str, Any], wishes: Wishes) -> dict[str, Any]:
    if is_unpacked(raw, source, notes) or source.unpack is None:
        return notes
    key = unpack_key(source, notes["download"]["sha256"])
    ready = ledger.ready.with_name(f"{ledger.ready.name}-{key}")
    for old in ledger.folder.glob(f"{ledger.ready.name}*"):
        if old != ready:  # of another archive or recipe
            shutil.rmtree(old, ignore_errors=True)
    if not ready.exists():
        wishes.say(f"unpacking {raw / source.file}")
        shutil.rmtree(ledger.work, ignore_errors=True)
        came = unpack(raw / source.file, ledger.work, Limits(ratio=source.unpack.ratio))
        ledger.write(file=source.file, unpacking={"key": key, "files": came.files, "bytes": came.bytes})
        os.replace(_core(ledger.work, source.unpack.strip), ready)
        shutil.rmtree(ledger.work, ignore_errors=True)
    merge(ready, raw / source.unpack.into)
    shutil.rmtree(ready)
    if lacking := [glob for glob in source.gives if next(raw.glob(glob), None) is None]:
        raise ValueError(
            f"{raw / source.file} was unpacked, but nothing below {raw} is called {' or '.join(lacking)}: the "
            "publisher packs these data otherwise than the recipe says. Correct its unpack or gives in a copy"
        )
    counted = {k: v for k, v in ledger.read().get("unpacking", {}).items() if k != "key"}
    note = {"key": key, "into": source.unpack.into, **counted, "when": now()}
    ledger.write(file=source.file, unpack=note)
    return {**notes, "unpack": note}


def _core(folder: Path, strip: str) -> Path:
    """What is moved: the archive's contents, or those of the one folder that they lie in."""
    inner = list(folder.iterdir())
    return inner[0] if strip == "alone" and len(inner) == 1 and inner[0].is_dir() else folder


def merge(source: Path, target: Path) -> None:
    """Move all that is in a folder into another one; can be killed and called again."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        there = target / path.name
        if path.is_dir() and there.is_dir():
            merge(path, there)
            path.rmdir()
        else:
            if path.is_dir() != there.is_dir() and there.exists():
                raise FileExistsError(
                    f"{there} is in the way of a {'folder' if path.is_dir() else 'file'} of that name"
                )
            os.replace(path, there)
