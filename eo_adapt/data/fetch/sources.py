"""What the ``sources`` of a recipe say: where each raw file comes from, how it is verified, where it is unpacked."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

UNKNOWN = "unknown until first verified download"
PART = "{part}"


class SourceError(ValueError):
    """A recipe's sources, or the parts asked for, that make no sense."""


@dataclass(frozen=True)
class Unpack:
    """How an archive becomes the layout that the reader expects.

    Attributes:
        into: Folder below the raw folder; "" = the raw folder itself. May hold ``{part}``.
        strip: ``alone`` leaves out the one folder that everything in the archive lies in, if there is one; ``none``
            keeps the archive's folders.
        ratio: Largest size when unpacked, as a multiple of the archive's; more is taken for a bomb.
    """

    into: str = ""
    strip: str = "alone"
    ratio: float = 200.0

    def __post_init__(self) -> None:
        if self.strip not in ("alone", "none"):
            raise SourceError(f"unpack.strip is 'alone' or 'none'; got {self.strip!r}")
        _inside("unpack.into", self.into)


@dataclass(frozen=True)
class Source:
    """One raw file, or a page that tells where files are.

    Attributes:
        url: Direct link to the file; "" = it is fetched by hand. May hold ``{part}``.
        page: Page of the publisher, for people.
        file: Name below the raw folder; "" = last part of the link.
        sha256: 64 hexadecimal digits, or :data:`UNKNOWN`.
        md5: 32 hexadecimal digits where the publisher gives only that; "" = none.
        bytes: Size, or a text that begins with :data:`UNKNOWN` (what is known may follow).
        unpacked_bytes: The same of what an archive holds, for people.
        part: Name of the part of the data that this file is; "" = it is always needed.
        optional: Whether it is fetched only if its part is named.
        unpack: How it is unpacked; None = the file is used as it is.
        gives: Globs below the raw folder that all find something once the file is unpacked: then it is not fetched.
    """

    url: str = ""
    page: str = ""
    file: str = ""
    sha256: str = UNKNOWN
    md5: str = ""
    bytes: int | str = UNKNOWN
    unpacked_bytes: int | str = UNKNOWN
    part: str = ""
    optional: bool = False
    unpack: Unpack | None = None
    gives: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not (self.url or self.page or self.file):
            raise SourceError("a source has a url (direct link), a page (for people) or a file (fetched by hand)")
        for name, link in (("url", self.url), ("page", self.page)):
            if link and link != PART and not re.fullmatch(r"https?://[^\s]+", link):
                raise SourceError(f"{name} is a link that begins with https:// or http://; got {link!r}")
        _digits("sha256", self.sha256, 64)
        if self.md5:
            _digits("md5", self.md5, 32)
        for what in ("bytes", "unpacked_bytes"):
            _size(what, getattr(self, what))
        _inside("file", self.file)
        if self.optional and not self.part:
            raise SourceError("an optional source needs the name of its part")
        if self.url and not self.file and not self.template:
            object.__setattr__(self, "file", _last(self.url))
        for glob in self.gives:
            _inside("gives", glob)

    @property
    def template(self) -> bool:
        """Whether this stands for one file for each part that is asked for."""
        return PART in self.url

    @property
    def informs(self) -> bool:
        """Whether this is a page for people and no file."""
        return not self.url and not self.file

    @property
    def size(self) -> int | None:
        """Bytes, None = not known."""
        return self.bytes if isinstance(self.bytes, int) else None

    @property
    def known(self) -> dict[str, str]:
        """The hashes to compare with: algorithm -> hexadecimal digits."""
        return {name: text for name, text in (("sha256", self.sha256), ("md5", self.md5)) if text and text[0] != "u"}

    def of(self, part: str) -> Source:
        """The source of one part of a template."""
        url = self.url.replace(PART, part)
        if self.url == PART and not re.fullmatch(r"https?://[^\s]+/[^/\s]+", part):
            raise SourceError(f"a part of these data is the link of a file, https://...; got {part!r}")
        if self.url != PART and not re.fullmatch(r"[\w.\-]+", part):
            raise SourceError(f"the name of a part has letters, digits, '_', '-' and '.'; got {part!r}")
        name = _last(url)
        unpack = self.unpack and dataclasses.replace(self.unpack, into=self.unpack.into.replace(PART, part))
        gives = tuple(glob.replace(PART, part) for glob in self.gives if PART in glob)  # others tell of any part
        return dataclasses.replace(
            self, url=url, file=self.file.replace(PART, part) or name, part=part, unpack=unpack, gives=gives
        )


def read_sources(entries: Iterable[Mapping[str, Any]], recipe: str = "") -> tuple[Source, ...]:
    """The sources of a recipe, each checked.

    Raises:
        SourceError: If an entry has unknown keys or a value of the wrong form; says which entry of which recipe.
    """
    known = {f.name for f in dataclasses.fields(Source)}
    found = []
    for number, entry in enumerate(entries, 1):
        try:
            if odd := sorted(set(entry) - known):
                raise SourceError(f"unknown keys {odd}; a source has {sorted(known)}")
            spec = dict(entry)
            if "unpack" in spec:
                spec["unpack"] = _unpack(spec["unpack"])
            spec["gives"] = tuple(spec.get("gives", ()))
            found.append(Source(**spec))
        except (SourceError, TypeError) as error:
            raise SourceError(f"source {number} of recipe {recipe or '?'}: {error}") from error
    return tuple(found)


def _unpack(spec: Any) -> Unpack:
    allowed = {f.name for f in dataclasses.fields(Unpack)}
    if not isinstance(spec, Mapping) or set(spec) - allowed:
        raise SourceError(f"unpack is a mapping of {sorted(allowed)}; got {spec!r}")
    return Unpack(**spec)


def read_parts(value: Any) -> tuple[str, ...]:
    """Parts as an option gives them: a list, one name, or a text file with one a line (# begins a comment)."""
    if value is None or value == "":
        return ()
    if not isinstance(value, str):
        return tuple(dict.fromkeys(str(part) for part in value))
    path = Path(value).expanduser()
    if path.suffix == ".txt" and not path.is_file():
        raise FileNotFoundError(f"parts={value}: there is no such file; give one part a line, or parts=[a,b]")
    if not path.is_file():
        return (value,)
    lines = (
        line.split("#")[0].strip() if "://" not in line else line.strip() for line in path.read_text().splitlines()
    )
    parts = tuple(dict.fromkeys(line for line in lines if line))
    if not parts:
        raise SourceError(f"parts={value}: the file names no part; one a line")
    return parts


def select(sources: Sequence[Source], parts: Sequence[str], recipe: str = "") -> tuple[Source, ...]:
    """The files that are wanted: those of the parts, or all without any; templates stay where no part is named.

    Raises:
        SourceError: If a part does not exist; names the closest and all.
    """
    files = [source for source in sources if not source.informs]
    if not parts:
        return tuple(source for source in files if not source.optional)
    named = {source.part for source in files if source.part}
    templates = [source for source in files if source.template]
    if not named and not templates:
        raise SourceError(f"recipe {recipe or '?'} has no parts to choose from; leave parts out")
    chosen = [source for source in files if not source.template and (not source.part or source.part in parts)]
    for part in parts:
        if part not in named and not templates:
            near = difflib.get_close_matches(part, named, n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise SourceError(f"recipe {recipe or '?'} has no part {part!r};{hint} there are {sorted(named)}")
        chosen += [template.of(part) for template in templates]
    twice = {source.file for source in chosen if [s.file for s in chosen].count(source.file) > 1}
    if twice:
        raise SourceError(f"several parts would be files of one name: {sorted(twice)[:5]}")
    return tuple(chosen)


def _last(url: str) -> str:
    name = unquote(PurePosixPath(urlsplit(url).path).name)
    if not name or name in (".", "..") or "/" in name or "\\" in name:
        raise SourceError(f"the link {url} does not end in a file's name; say which with file:")
    return name


def _inside(what: str, path: Any) -> None:
    if not isinstance(path, str):
        raise SourceError(f"{what} is a text; got {path!r}: put it in quotes")
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path:
        raise SourceError(f"{what} lies below the raw folder: no absolute path and no '..'; got {path!r}")


def _digits(name: str, text: Any, length: int) -> None:
    if text != UNKNOWN and not (isinstance(text, str) and re.fullmatch(rf"[0-9a-f]{{{length}}}", text)):
        raise SourceError(f"{name} is {length} lower-case hexadecimal digits or {UNKNOWN!r}; got {text!r}")


def _size(name: str, value: Any) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if not whole and not (isinstance(value, str) and value.startswith(UNKNOWN)):
        raise SourceError(f"{name} is a number of bytes or a text that begins with {UNKNOWN!r}; got {value!r}")
