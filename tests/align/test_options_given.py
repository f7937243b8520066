"""Impossible options: what is no number, has no end or is out of its range is refused when the method is made."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from bench import METHODS
from omegaconf import OmegaConf

from eo_adapt.align import Alignment
from eo_adapt.registry import path_of
from eo_adapt.signature import locate

Path = tuple[str | int, ...]


def node_of(method: str) -> dict[str, Any]:
    """The plain config of a method."""
    node = OmegaConf.to_container(OmegaConf.load(path_of("method", method)))
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def numbers(node: Any, path: Path = ()) -> Iterator[tuple[Path, float]]:
    """Every number of a config and where it stands, those of lists and of parts (the strong view) too."""
    if isinstance(node, bool | str) or node is None:
        return
    if isinstance(node, int | float):
        yield path, node
        return
    for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        yield from numbers(value, (*path, key))


def changed(node: Any, path: Path, value: float) -> Any:
    """The same config with another number at one place."""
    if not path:
        return value
    other = dict(node) if isinstance(node, Mapping) else list(node)
    other[path[0]] = changed(node[path[0]], path[1:], value)
    return other


def made(node: Any) -> Any:
    """Built by its constructor alone, without the registry's check of types."""
    if isinstance(node, Mapping):
        parts = {key: made(value) for key, value in node.items() if key != "_target_"}
        return locate(node["_target_"])(**parts) if "_target_" in node else parts
    return [made(item) for item in node] if isinstance(node, list) else node


OPTIONS = [(m, path, value) for m in METHODS if m != "stack" for path, value in numbers(node_of(m))]
NAMES = [f"{m}.{'.'.join(map(str, path))}" for m, path, _ in OPTIONS]


def refused(method: str, path: Path, value: float) -> None:
    name = [part for part in path if isinstance(part, str)][-1]
    with pytest.raises(ValueError, match=rf"{name}\b.*; got .*{value}"):
        made(changed(node_of(method), path, value))


def test_there_are_options_to_look_at() -> None:
    assert len(OPTIONS) > 100
    assert {"self_training.strong.gain", "mmd.scales.4", "fine_tune.steps"} <= set(NAMES)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
@pytest.mark.parametrize(("method", "path", "default"), OPTIONS, ids=NAMES)
def test_no_number_no_end_and_less_than_nothing_are_refused(
    method: str, path: Path, default: float, bad: float
) -> None:
    assert isinstance(made(changed(node_of(method), path, default)), Alignment)
    refused(method, path, bad)


@pytest.mark.parametrize(
    ("method", "path"),
    [(m, path) for m, path, default in OPTIONS if isinstance(default, int)],
    ids=[name for name, (_, _, default) in zip(NAMES, OPTIONS, strict=True) if isinstance(default, int)],
)
def test_half_of_what_is_counted_is_refused(method: str, path: Path) -> None:
    refused(method, path, 2.5)


@pytest.mark.parametrize("prior", [[math.nan, 1.0], [math.inf, 1.0], [-1.0, 2.0], [0.0, 0.0]])
def test_impossible_shares_of_classes_are_refused(prior: list[float]) -> None:
    with pytest.raises(ValueError, match=r"timematch\.prior"):
        made({**node_of("timematch"), "prior": prior})
