"""A recipe says, in one yaml, what a dataset is and how its raw files become a store."""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import importlib
import inspect
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from ..paths import cache_dir, recipes_dir
from .extract.reader import ParcelExtraction
from .fetch.ledger import FOLDER
from .fetch.sources import Source, read_sources
from .layers import NAME as LAYERS
from .layers import LayerReader, ParcelLayers, write_layers
from .records import Record, Sensor
from .scenes.records import Classes, SceneReader
from .scenes.store import SceneStore, open_store
from .scenes.writer import SCENE_FORMAT, OnCorrupt, write_scenes
from .store import FORMAT, Store
from .writer import OnEmpty, StoreWriter

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class RecordReader(Protocol):
    """Raw layout -> records; one class a layout, in ``eo_adapt/data/readers``."""

    @property
    def sensors(self) -> Mapping[str, Sensor]:
        """Sensor name -> how its numbers are to be read."""

    def read(self, root: Path) -> Iterator[Record]:
        """Stream the parcels below ``root``."""


class Generator(Protocol):
    """Writes a synthetic dataset in the genuine raw layout; one a layout, in ``eo_adapt/data/synthetic``."""

    def write(self, root: Path) -> None:
        """Write the raw files below ``root``."""


@dataclass(frozen=True)
class Recipe:
    """A dataset's description, as its yaml spells it.

    Attributes:
        name: File name without ``.yaml``.
        title: One line for people.
        licence: ``{id, url}``.
        citation: How to cite the data.
        sources: Where the raw files come from, as :class:`.fetch.sources.Source` has it.
        revision: Which version of the data this is: record, commit or date of the publisher.
        by_hand: What a person does about files that no program may fetch, and where they go.
        parts: What ``parts=`` names, and an example; "" = the data have no parts.
        sensors: Sensor -> ``{bands, units, scale, offset, nodata, crs}``, for people; readers are what counts.
        domains: What sets of these data differ by, and the column that tells.
        reader: ``_target_`` of a :class:`RecordReader`, a :class:`.scenes.records.SceneReader` or a
            :class:`.layers.LayerReader`, and its arguments.
        synthetic: ``_target_`` of a :class:`Generator` and its arguments.
        crs: Projected CRS for distances; "" = equal-area, centred on the data.
        on_empty: ``error`` or ``drop`` for parcels without a valid date and patches without a pixel.
        on_corrupt: ``error`` or ``skip`` for images that cannot be read.
        notes: Anything a user should know before using the data.
    """

    name: str
    title: str
    licence: Mapping[str, str]
    citation: Any
    reader: Mapping[str, Any]
    synthetic: Mapping[str, Any] = field(default_factory=dict)
    sources: tuple[Mapping[str, Any], ...] = ()
    crs: str = ""
    on_empty: OnEmpty = "error"
    on_corrupt: OnCorrupt = "error"
    notes: str = ""
    split: Any = None
    legend: Any = None
    revision: str = ""
    by_hand: str = ""
    parts: str = ""
    sensors: Mapping[str, Any] = field(default_factory=dict)
    domains: Any = None
    text: str = field(default="", repr=False)

    @classmethod
    def load(cls, name: str) -> Recipe:
        """Read ``data_recipes/<name>.yaml``, or a recipe of the user's own by its path.

        Args:
            name: Name of a shipped recipe, or path of a yaml file; the recipe is then called by its path.

        Raises:
            LookupError: If there is no such recipe; names the closest and all.
            ValueError: If the yaml has unknown or missing keys.
        """
        own = name.endswith((".yaml", ".yml"))
        path = Path(name) if own else recipes_dir() / f"{name}.yaml"
        if not path.is_file():
            raise LookupError(f"no recipe called {name!r};{closest(name, recipe_names())} there are: {recipe_names()}")
        text = path.read_text()
        spec = yaml.safe_load(text) or {}
        known = {f for f in cls.__dataclass_fields__ if f != "text"}
        if wrong := sorted(set(spec) - known):
            raise ValueError(f"{path.name} has unknown keys {wrong}; a recipe has {sorted(known)}")
        if missing := sorted({"name", "title", "licence", "citation", "reader"} - set(spec)):
            raise ValueError(f"{path.name} lacks {missing}")
        if spec["name"] != path.stem:
            raise ValueError(f"{path.name} calls itself {spec['name']!r}; a recipe is named like its file")
        return cls(**{**spec, "sources": tuple(spec.get("sources", ()))}, text=text)

    def files(self) -> tuple[Source, ...]:
        """The sources, each checked.

        Raises:
            ValueError: If one makes no sense.
        """
        return read_sources(self.sources, self.name)

    def prepare(self, raw: Path, out: Path, limit: int | None = None) -> Store | SceneStore | ParcelLayers:
        """Raw files below ``raw`` -> a store or layers at ``out``; what is there is replaced once the new one is whole.

        Args:
            raw: Folder of the raw files.
            out: Folder of the result.
            limit: Only the first samples, to see whether the files can be read; None = all.

        Raises:
            FileNotFoundError: If ``raw`` does not exist.
            FileExistsError: If ``out`` holds something that is no store, or the raw files themselves.
        """
        if not raw.is_dir():
            raise FileNotFoundError(f"no folder {raw} with the raw files of {self.name} ({self.title})")
        if raw.resolve().is_relative_to(out.resolve()):
            raise FileExistsError(f"the raw files at {raw} lie in {out}, which would be replaced; choose another out")
        reader: RecordReader | SceneReader | LayerReader = make(self.reader)
        about = {"title": self.title, "licence": dict(self.licence), "citation": self.citation}
        if reads_layers(reader):
            write_layers(out, self.name, islice(reader.layers(raw), limit), about)
            return ParcelLayers(out)
        if reads_scenes(reader):
            how = (reader.sensors, reader.classes, self.on_empty, self.on_corrupt)
            write_scenes(out, self.name, raw, islice(reader.read(raw), limit), *how, about)
            return SceneStore(out)
        records = reader.read(raw)  # some readers know their sensors only once they have looked at the files
        with StoreWriter(out, self.name, reader.sensors, self.crs, self.on_empty, about) as writer:
            for record in islice(records, limit):
                writer.add(record)
            if isinstance(reader, ParcelExtraction):
                writer.dropped += reader.finish(writer.temporary)
        return Store(out)

    @property
    def extracts(self) -> bool:
        """Whether parcels are cut out of images."""
        return isinstance(make(self.reader), ParcelExtraction)

    def options(self) -> dict[str, Any]:
        """Arguments of the reader: what this recipe says, else its defaults."""
        known = inspect.signature(type(make(self.reader))).parameters
        return {name: self.reader.get(name, known[name].default) for name in known}

    def with_options(self, options: Mapping[str, Any]) -> Recipe:
        """The same recipe with other arguments of its reader.

        Raises:
            ValueError: If the reader has no such argument.
        """
        known = sorted(self.options())
        if wrong := sorted(set(options) - set(known)):
            raise ValueError(f"the reader of recipe {self.name} has no option {wrong}; it has {known}")
        return replace(self, reader={**self.reader, **options})

    def _store(self, raw: Path, out: Path) -> Store | SceneStore:
        made = self.prepare(raw, out)
        assert not isinstance(made, ParcelLayers)  # noqa: S101  # `cached` refused them
        return made

    def cached(self, raw: Path | None, generator: Mapping[str, Any] | Generator | None = None) -> Store | SceneStore:
        """The store of these raw files, prepared on first use and kept in the cache.

        Args:
            raw: Folder of the raw files; None = generate them synthetically.
            generator: Which generator to use instead of the recipe's own, built or as a spec.
        """
        if reads_layers(make(self.reader)):
            raise ValueError(
                f"recipe {self.name} holds outlines of parcels without images, so that nothing can be trained on it; "
                "give its prepared layers to an extraction of image series, and train on what that makes"
            )
        made = generator or self.synthetic
        state = _stamp(raw) if raw else repr(made)
        known = {"code": code_hash(), "recipe": self.text, "format": [FORMAT, SCENE_FORMAT], "raw": state}
        known |= {"on_corrupt": self.on_corrupt}
        key = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
        out = cache_dir() / "stores" / f"{self.name}-{key}"
        if (out / "store.json").is_file():
            return open_store(out)
        if raw:
            return self._store(raw, out)
        if (kept := out.with_name(f"{out.name}.raw")).is_dir():  # images stay where they are
            return self._store(kept, out)
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".raw.", dir=out.parent))
        try:
            (make(made) if isinstance(made, Mapping) else made).write(temporary)
            if not reads_scenes(make(self.reader)):
                return self._store(temporary, out)
            with contextlib.suppress(OSError):  # another run was faster
                temporary.rename(kept)
            return self._store(kept, out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def reads_scenes(reader: object) -> TypeIs[SceneReader]:
    """Whether a reader yields images with masks: then it says what the numbers in masks mean."""
    return isinstance(getattr(reader, "classes", None), Classes)


def reads_layers(reader: object) -> TypeIs[LayerReader]:
    """Whether a reader yields outlines of parcels without series."""
    return callable(getattr(reader, "layers", None))


def open_result(path: Path) -> Store | SceneStore | ParcelLayers:
    """What was prepared at a place."""
    return ParcelLayers(path) if (path / LAYERS).is_file() else open_store(path)


def recipe_names() -> list[str]:
    """Every recipe there is."""
    return sorted(path.stem for path in recipes_dir().glob("*.yaml"))


def closest(name: str, known: list[str]) -> str:
    """`` did you mean 'x'?``, or nothing when no name is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" did you mean {near[0]!r}?" if near else ""


def make(spec: Mapping[str, Any]) -> Any:
    """Build what a recipe's ``_target_`` names; only this package's own classes are allowed."""
    target = str(spec["_target_"])
    if not target.startswith("eo_adapt."):
        raise ValueError(f"a recipe may only name classes of eo_adapt; got _target_: {target}")
    module, _, name = target.rpartition(".")
    return getattr(importlib.import_module(module), name)(**{k: v for k, v in spec.items() if k != "_target_"})


@cache
def code_hash() -> str:
    """Hash of the code that makes stores: readers, generators, writer. A store made by other code is made anew."""
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.rglob("*.py")))).hexdigest()


def _stamp(raw: Path) -> list[Any]:
    """What tells one state of a raw folder from another: its entries' names, sizes and times."""
    found = [*raw.iterdir(), *raw.glob("*/*")] if raw.is_dir() else []
    entries = sorted(path for path in found if FOLDER not in path.parts)[:10_000]  # notes on downloads are no data
    return [str(raw.resolve()), [(str(p.relative_to(raw)), p.stat().st_size, p.stat().st_mtime_ns) for p in entries]]
