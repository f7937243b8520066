"""The configs/ tree is the registry: each entry resolves, lists its whole signature and builds; none is an orphan."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

import eo_adapt.align
import eo_adapt.encoders
import eo_adapt.heads
import eo_adapt.selection
from eo_adapt import registry
from eo_adapt.align.base import Alignment
from eo_adapt.encoders.base import Encoder
from eo_adapt.heads.base import Head
from eo_adapt.paths import configs_dir
from eo_adapt.registry import GROUPS, build, config, describe, names
from eo_adapt.selection.base import Criterion
from eo_adapt.signature import locate

OF_PLACES = {"aerial": 4, "elevation": 2, "s2": 10, "s1_asc": 2, "s1_desc": 2}  # sensors of task=fusion
BY_AN_OPTION = {
    "eo_adapt.align.branches.EachBranch",  # align_at=branches makes it
    "eo_adapt.encoders.blocks.attributes.AttributeEncoder",  # a branch of u_tt
}

# What Python hands to a constructor because only the data know it.
GIVEN = {"encoder": {"sensors"}, "head": {"encoder", "classes"}, "data": {"shift", "seed", "kind", "oracle", "shots"}}
BLOCKS = {"in_channels", "sensors", "encoder", "classes"}
ENTRIES = [(group, name) for group in GROUPS for name in names(group)]


def nodes(cfg: Any) -> list[dict[str, Any]]:
    """Every mapping with a _target_, the outermost first."""
    if isinstance(cfg, list):
        return [node for item in cfg for node in nodes(item)]
    if not isinstance(cfg, dict):
        return []
    return [cfg] * ("_target_" in cfg) + [node for value in cfg.values() for node in nodes(value)]


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_each_yaml_says_what_it_is_and_lists_every_option(group: str, name: str) -> None:
    assert describe(group)[name], "begin the yaml with a comment: one line of what it is"
    found = nodes(OmegaConf.to_container(OmegaConf.load(configs_dir() / group / f"{name}.yaml")))
    assert found or group == "task"
    for i, node in enumerate(found):
        target = locate(node["_target_"])
        given = GIVEN.get(group, set()) if i == 0 else BLOCKS if node.get("_partial_") else set()
        listed = {key for key in node if key not in ("_target_", "_partial_")}
        assert listed == set(inspect.signature(target).parameters) - given


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_each_yaml_builds(group: str, name: str) -> None:
    if group == "task":
        assert config(f"task={name}").choices.task == name
        return
    changes: dict[str, Any] = {}
    if group == "encoder":
        changes = {"sensors": OF_PLACES if name in ("map_fusion", "u_tt") else {"s2": 4}}
    elif group == "head":
        fits = {"classify": "pse_ltae", "auxiliary": "fusion", "decision": "fusion"}.get(name, "timm_pyramid")
        fits = "map_fusion" if name.startswith("map_") else fits
        scheme = {"scheme": "decision"} if name.endswith("decision") else {}
        sensors = OF_PLACES if fits == "map_fusion" else {"s2": 4}
        changes = {"encoder": build("encoder", fits, sensors=sensors, **scheme), "classes": 3}
    elif group == "data":
        recipe = OmegaConf.load(registry.path_of(group, name)).recipe
        shift = eo_adapt.types.Shift((eo_adapt.types.Domain("a", recipe),))
        changes = {"shift": shift, "seed": 0, "kind": "closed", "oracle": False}
    elif (group, name) == ("method", "stack"):
        changes = {"parts": {"coral": build("method", "coral")}}
    assert build(group, name, **changes) is not None


@pytest.mark.parametrize(
    ("package", "base", "group"),
    [
        (eo_adapt.align, Alignment, "method"),
        (eo_adapt.encoders, Encoder, "encoder"),
        (eo_adapt.heads, Head, "head"),
        (eo_adapt.selection, Criterion, "selection"),
    ],
)
def test_no_class_is_an_orphan(package: Any, base: type, group: str) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    paths = [registry.path_of(group, name) for name in names(group)]
    named = {OmegaConf.load(path)._target_ for path in paths}
    concrete = {c for c in subclasses(base) if not inspect.isabstract(c) and c.__module__.startswith("eo_adapt.")}
    assert {f"{c.__module__}.{c.__name__}" for c in concrete} - BY_AN_OPTION == named


def subclasses(base: type) -> set[type]:
    """All classes below one."""
    return {c for child in base.__subclasses__() for c in {child, *subclasses(child)}}


def test_unknown_names_are_refused_with_the_closest() -> None:
    with pytest.raises(LookupError, match="did you mean 'coral'"):
        build("method", "corral")
    with pytest.raises(LookupError, match="did you mean 'method'"):
        names("methods")


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="wieght"):
        build("method", "coral", wieght=2)


def test_the_command_line_beats_the_task_and_the_shift() -> None:
    assert config("task=crops", "encoder=gru").choices.encoder == "gru"
    assert config("shift=cawa_fergana_to_samarkand").choices.data == "cawa"
    assert config("shift=cawa_fergana_to_samarkand", "data=timematch").choices.data == "timematch"


def test_several_methods_become_a_stack_with_options() -> None:
    cfg = config("method=[csn,coral]", "method.parts.coral.weight=3")
    assert cfg.choices.method == "csn+coral"
    stack = registry.instantiate(cfg.method)
    assert [type(part).__name__ for part in stack] == ["CSN", "CORAL"]
    assert stack.parts["coral"].weight == 3


@pytest.mark.parametrize("place", ["", "method."])
def test_weights_and_ramps_of_a_stack_need_not_name_the_method(place: str) -> None:
    cfg = config("method=[csn,coral,dann]", f"{place}weights.coral=.5", f"{place}ramps.dann=sigmoid")
    assert cfg.method.weights == {"coral": 0.5}
    assert cfg.method.ramps == {"dann": "sigmoid"}
    assert "weights" not in cfg
    stack = registry.instantiate(cfg.method)
    assert stack.factor("coral", 1.0) == 0.5
    assert stack.factor("dann", 0.0) == 0
    with pytest.raises(ValueError, match=r"weights of \['csn'\] would change nothing"):
        registry.instantiate(config("method=[csn,coral]", f"{place}weights.csn=0.5").method)


def test_configs_and_recipes_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "coral" in names("method")
