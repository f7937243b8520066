"""Checks a config against the signatures it will call: unknown keys, missing keys and wrong types, said for people."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

SPECIAL = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")
ALLOWED = ("eo_adapt.", "torch.", "pytorch_lightning.")


def locate(target: str) -> Callable[..., Any]:
    """The class or function that ``_target_`` names; only this package, torch and pytorch_lightning are allowed.

    A config may come from elsewhere and building it runs code, hence the list.
    """
    if not target.startswith(ALLOWED):
        raise ValueError(f"_target_: {target} is not allowed; targets begin with one of {list(ALLOWED)}")
    from hydra.utils import get_object

    found: Callable[..., Any] = get_object(target)
    return found


def check(node: Any, given: Mapping[str, Any] | None = None, where: str = "") -> None:
    """Check one node and, first, all nodes below it.

    Args:
        node: Plain dict or list.
        given: Arguments that Python adds to those of the node.
        where: Dotted place of the node, for messages.

    Raises:
        TypeError: If a key is unknown or missing or a value has the wrong type.
        ValueError: If a target is not allowed.
    """
    if isinstance(node, Sequence) and not isinstance(node, str):
        for i, item in enumerate(node):
            check(item, None, f"{where}[{i}]")
    if not isinstance(node, Mapping):
        return
    for key, value in node.items():
        check(value, None, f"{where}.{key}" if where else str(key))
    if "_target_" in node:
        _check_call(node, given or {}, where)


def _check_call(node: Mapping[str, Any], given: Mapping[str, Any], where: str) -> None:
    target = locate(str(node["_target_"]))
    parameters = inspect.signature(target).parameters
    hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    place = f" at {where}" if where else ""
    for key, value in node.items():
        if key in SPECIAL:
            continue
        if key not in parameters:
            near = difflib.get_close_matches(str(key), list(parameters), n=1)
            hint = f" did you mean {near[0]!r}?" if near else ""
            raise TypeError(f"{target.__name__}{place} has no option {key!r};{hint} it has {list(parameters)}")
        built = isinstance(value, Mapping) and "_target_" in value
        if key in hints and not built and not fits(value, hints[key]):
            raise TypeError(f"{target.__name__}.{key}{place} must be {spell(hints[key])}; got {value!r}")
    wanted = {n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_KEYWORD}
    if not node.get("_partial_") and (missing := sorted(wanted - set(node) - set(given))):
        raise TypeError(f"{target.__name__}{place} lacks {missing}")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain config value is of a hinted type; hints that configs cannot hold always fit."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, argument) for argument in arguments)
    if hint is type(None):
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if inspect.isclass(origin) and issubclass(origin, Sequence):
        items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else None
        return items is not None and all(
            fits(item, arguments[0]) for item in items if not (isinstance(item, Mapping) and "_target_" in item)
        )
    return True


def spell(hint: Any) -> str:
    """A type as people say it: ``one of ['u', 'v']``, ``a number``."""
    if get_origin(hint) is Literal:
        return f"one of {list(get_args(hint))}"
    plain = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return plain.get(hint, str(hint).replace("collections.abc.", ""))
