"""The registry is the configs/ tree: a group is a folder, a name is a file, `_target_` is the entry.

Light on purpose: importing it imports hydra, and nothing heavier.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from .paths import configs_dir

GROUPS = (
    "task", "method", "encoder", "head", "shift", "data", "optim", "selection", "trainer", "logger", "suite",
)  # fmt: skip


class LabelSetKind(Enum):
    """Which classes are learnt when source and target name different ones."""

    closed = "closed"
    open = "open"
    partial = "partial"


class Resume(Enum):
    """What to do in a run directory that holds an unfinished run of the same config."""

    never = "never"
    auto = "auto"


class AlignedAt(Enum):
    """What methods that compare features look at: fused features, each branch of a fusion, or both."""

    fused = "fused"
    branches = "branches"
    all = "all"


@dataclass
class TrainSchema:
    """Types of the top-level keys of ``train.yaml``."""

    seed: int = 0
    label_set: LabelSetKind = LabelSetKind.closed
    resume: Resume = Resume.never
    figures: bool = True
    align_at: AlignedAt = AlignedAt.fused
    boundary: int = 0
    watch: list[str] = field(default_factory=list)
    encoder: Any = field(default_factory=dict)
    head: Any = field(default_factory=dict)
    data: Any = field(default_factory=dict)
    shift: Any = field(default_factory=dict)
    method: Any = field(default_factory=dict)
    optim: Any = field(default_factory=dict)
    selection: Any = field(default_factory=dict)
    trainer: Any = field(default_factory=dict)
    logger: Any = field(default_factory=dict)


@dataclass
class BenchmarkSchema:
    """Types of the top-level keys of ``benchmark.yaml``."""

    methods: list[str] = field(default_factory=list)
    seeds: int = 5
    trials: int = 1
    space: dict[str, list[float]] = field(default_factory=dict)
    selector: str = "auto"
    overrides: list[str] = field(default_factory=list)
    out: str = ""
    threads: int = 1
    retry: bool = False
    job: int = -1
    suite: Any = field(default_factory=dict)


ConfigStore.instance().store(name="train_schema", node=TrainSchema)
ConfigStore.instance().store(name="benchmark_schema", node=BenchmarkSchema)


def names(group: str) -> list[str]:
    """Every entry of a group: ``names("method") -> ["coral", "csn", ...]``.

    Raises:
        LookupError: If there is no such group; names the closest and all.
    """
    folder = configs_dir() / group
    if not folder.is_dir():
        groups = sorted(path.name for path in configs_dir().iterdir() if path.is_dir())
        raise LookupError(f"no group {group!r};{closest(group, groups)} there are: {groups}")
    return sorted(path.stem for path in folder.glob("*.yaml"))


def closest(name: str, known: list[str]) -> str:
    """`` did you mean 'x'?``, or nothing when no name is near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" did you mean {near[0]!r}?" if near else ""


def path_of(group: str, name: str) -> Path:
    """The yaml of an entry.

    Raises:
        LookupError: If there is none; names the closest and all.
    """
    known = names(group)
    if name not in known:
        raise LookupError(f"no {group} called {name!r};{closest(name, known)} there are: {known}")
    return configs_dir() / group / f"{name}.yaml"


def describe(group: str) -> dict[str, str]:
    """Name -> one line of what it is: the first comment of its yaml."""
    lines = {}
    for name in names(group):
        comments = [
            x for x in path_of(group, name).read_text().splitlines() if x.startswith("#") and "@package" not in x
        ]
        lines[name] = comments[0].lstrip("# ") if comments else ""
    return lines


def build(group: str, name: str, **changes: Any) -> Any:
    """Build one entry: ``build("encoder", "pse_ltae", sensors={"s2": 12})``.

    Args:
        group: A folder of configs/.
        name: A file in it.
        **changes: Arguments to override or add; the entry's own constructor refuses unknown ones.
    """
    path = path_of(group, name)
    if "@package _global_" in path.read_text():
        return instantiate(config(f"{group}={name}")[group], **changes)
    return instantiate(OmegaConf.load(path), **changes)


def instantiate(node: Any, **changes: Any) -> Any:
    """Build what a config node names, with its types checked first (see :mod:`.signature`)."""
    from hydra.utils import instantiate as hydra_instantiate

    from .signature import check

    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else node
    check(plain, changes)
    # As a partial, called here: hydra would turn dataclasses among the changes into configs.
    return hydra_instantiate({**plain, "_partial_": True}, _convert_="all")(**changes)


def expand(overrides: list[str]) -> list[str]:
    """What people type -> what hydra takes.

    ``method=[csn,coral]`` becomes a stack of the two, each under ``method.parts.<name>`` and with its own options;
    ``data.bands.s2=[B04,B08]``, ``data.join.cereals=[wheat,rye]``, ``input.s2=<path>`` and ``method.weights.coral=0.5``
    may name keys that the yaml does not have. ``weights.coral=0.5`` and ``ramps.dann=sigmoid`` are short for those of
    the method.
    """
    out = []
    for override in overrides:
        match = re.fullmatch(r"method=\[([\w\s,]+)\]", override)
        if match is None:
            # Mappings whose keys only the data know: hydra wants to be told that new keys are meant.
            override = re.sub(r"^(weights|ramps)\.", r"method.\1.", override)
            override = _quoted(override)
            free = re.match(
                r"(data\.(join|bands)\b|(input|bands)\.)|method\.(parts\.\w+\.)?(weights|ramps|priors)\.", override
            )
            out.append(f"++{override}" if free else override)
            continue
        parts = [name.strip() for name in match[1].split(",") if name.strip()]
        for name in parts:
            path_of("method", name)
        out += ["method=stack", *(f"+method@method.parts.{name}={name}" for name in parts)]
    return out


def _quoted(override: str) -> str:
    """Paths of ``predict`` in quotes where they hold what hydra reads otherwise: ``input.s2=s2/{date}.tif``."""
    match = re.fullmatch(r"((?:run|input|output|raw)(?:\.\w+)*)=([^\[{\"'].*)", override)
    if match is None or not re.search(r"[{}()\[\],=:\s]", match[2]):
        return override
    escaped = match[2].replace('"', '\\"')
    return f'{match[1]}="{escaped}"'


def config(*overrides: str, name: str = "train") -> DictConfig:
    """The composed config, as ``python -m eo_adapt.<name> *overrides`` would see it, with the chosen names in it."""
    already = GlobalHydra.instance().is_initialized()
    if already:
        GlobalHydra.instance().clear()
    with initialize_config_dir(str(configs_dir()), version_base="1.3"):
        full = compose(name, overrides=expand(list(overrides)), return_hydra_config=True)
    choices = {k: v for k, v in full.hydra.runtime.choices.items() if k in GROUPS}
    with open_dict(full):
        del full["hydra"]
    return with_choices(full, choices)


def with_choices(cfg: DictConfig, choices: dict[str, str]) -> DictConfig:
    """Add ``choices``: group -> the entry that was chosen; a stack is called by its parts."""
    if choices.get("method") == "stack":
        choices = {**choices, "method": "+".join(cfg.method.parts)}
    with open_dict(cfg):
        cfg.choices = {group: choices[group] for group in GROUPS if group in choices}
    return cfg
