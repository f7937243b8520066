"""Parts of a scene folder's description: bands by name and number, facts about an image, a table of facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..scenes.records import Imagery
from .files import check_columns, need, read_csv
from .parcel_spec import build


@dataclass(frozen=True)
class Numbered:
    """Imagery, and where its bands lie in the file.

    Attributes:
        imagery: How the numbers are to be read.
        numbers: 1-based number of each band in the file; () = all, in order.
    """

    imagery: Imagery
    numbers: tuple[int, ...] = ()

    @classmethod
    def of(cls, spec: Any, where: str) -> Numbered:
        """From imagery, or from a mapping of its arguments, whose bands may be a mapping of name -> number.

        Raises:
            ValueError: If the mapping has other keys, or numbers are below 1.
        """
        if isinstance(spec, Imagery):
            return cls(spec)
        bands = spec.get("bands", ()) if isinstance(spec, Mapping) else ()
        if isinstance(bands, Mapping):
            numbers = tuple(int(number) for number in bands.values())
            if any(number < 1 for number in numbers):
                raise ValueError(f"{where}: bands of a file are numbered from 1; got {dict(bands)}")
            return cls(build(Imagery, {**spec, "bands": tuple(bands)}, where), numbers)
        rest = {**spec, "bands": tuple(bands)} if isinstance(spec, Mapping) else spec
        return cls(build(Imagery, rest, where))


@dataclass(frozen=True)
class Facts:
    """Name -> text of one image, to be put into templates.

    Attributes:
        image: Its path, for messages.
        values: Groups of the path, columns of the table, number of the window.
    """

    image: str
    values: Mapping[str, str]

    def and_(self, **more: Any) -> Facts:
        """The same and more; what was there before wins."""
        return Facts(self.image, {**{name: str(value) for name, value in more.items()}, **self.values})

    def fill(self, template: str) -> str:
        """A template with its names filled in.

        Raises:
            ValueError: If it uses a name that is not known.
        """
        try:
            return str(template).format_map(self.values)
        except KeyError as error:
            raise ValueError(
                f"{self.image}: the template {template!r} uses {error}; known are {sorted(self.values)}"
            ) from error


@dataclass(frozen=True)
class Table:
    """A comma-separated file with a row for each image.

    Attributes:
        file: Path below the root.
        column: Its column of ids.
        id: Template of an image's id, of groups of the path.
    """

    file: str
    column: str
    id: str

    def rows(self, root: Path) -> dict[str, dict[str, str]]:
        """Id -> column -> text.

        Raises:
            FileNotFoundError: If the file is missing.
            ValueError: If it is damaged, lacks the column of ids, or an id occurs twice.
        """
        path = need(root / self.file, "the table")
        frame = read_csv(path, dtype=str, keep_default_na=False)
        check_columns(path, frame.columns, {"image id": self.column})
        if len(twice := frame[self.column][frame[self.column].duplicated()].unique()):
            raise ValueError(f"{path}: ids occur twice in column {self.column!r}, first {list(twice[:5])}")
        rows = frame.to_dict("records")
        return {str(row[self.column]): {str(name): str(value) for name, value in row.items()} for row in rows}

    def join(self, facts: Facts, rows: Mapping[str, Mapping[str, str]]) -> Facts:
        """Facts of an image together with its row; groups of the path win.

        Raises:
            ValueError: If there is no row.
        """
        key = facts.fill(self.id)
        if key not in rows:
            raise ValueError(f"{self.file} has no row with {self.column} = {key!r}, for the image {facts.image}")
        return facts.and_(**rows[key])
