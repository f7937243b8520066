"""Whether a .pt2 may be opened: torch unpickles and evaluates some of what such an archive holds."""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .about import NotExportedError

# What an export of this package holds, below the archive's root. Compiled libraries and pickled objects are missing.
PARTS = re.compile(
    r"(data/(weights|constants)/(weight_\d+|tensor_\d+|model_(weights|constants)_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/[\w.]+\.json"
    r"|archive_format|archive_version|byteorder|\.data/(version|serialization_id|alignment)|\.format_version"
    r"|\.storage_alignment|version)"
)
EXPRESSIONS = ("expr_str", "guards_code")  # strings of the graph that torch evaluates
CALLS = frozenset(
    {"Symbol", "Integer", "Rational", "Float", "Mul", "Add", "Pow", "Max", "Min", "Mod", "FloorDiv", "CleanDiv",
     "CeilDiv", "PythonMod", "IntTrueDiv", "TruncToInt", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not",
     "Piecewise", "ExprCondPair", "Where", "ModularIndexing", "ToFloat", "FloatTrueDiv", "Equality", "Unequality",
     "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "Boolean", "BooleanTrue", "BooleanFalse"}
)  # fmt: skip
ATTRIBUTES = frozenset(
    {"size", "stride", "storage_offset", "dim", "sym_min", "sym_max", "sym_not", "sym_ite", "sym_int", "sym_float"}
)
NODES = (
    ast.Expression, ast.Name, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare, ast.Load, ast.operator, ast.unaryop,
    ast.boolop, ast.cmpop, ast.keyword, ast.Tuple, ast.Subscript, ast.Slice,
)  # fmt: skip


def check_archive(path: Path) -> None:
    """Refuse an archive that holds more than tensors, a graph and a card.

    Raises:
        NotExportedError: If so, or if it is no archive of torch.export at all.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            parts = {name.partition("/")[2]: name for name in archive.namelist()}
            if "archive_format" not in parts or archive.read(parts["archive_format"]) != b"pt2":
                raise NotExportedError(f"{path} is a zip file, but none of torch.export: {_PICKLE}")
            if odd := sorted(part for part in parts if not PARTS.fullmatch(part)):
                raise NotExportedError(f"{path} holds {odd[0]!r}, which no export of this package does: {_PICKLE}")
            for part, name in parts.items():
                if part.endswith("_config.json"):
                    _check_payload(path, json.loads(archive.read(name)))
            _check_sample(path, archive.read(parts["data/sample_inputs/model.pt"]))
            for text in _strings(json.loads(archive.read(parts["models/model.json"]))):
                _check_expression(path, text)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NotExportedError(f"{path} does not read as a .pt2 of torch.export ({error}): {_PICKLE}") from error


_PICKLE = "it is not opened, for pickles and compiled code in it could run; export the run again"


def _check_payload(path: Path, config: Any) -> None:
    for name, payload in config.get("config", {}).items():
        if payload.get("use_pickle") or not re.fullmatch(r"(weight|tensor)_\d+", str(payload.get("path_name"))):
            raise NotExportedError(f"{path} holds {name!r} as a pickle: {_PICKLE}")


def _check_sample(path: Path, content: bytes) -> None:
    """torch.export.load falls back to plain unpickling where safe loading fails: then it must not be called."""
    try:
        torch.load(io.BytesIO(content), weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise NotExportedError(f"{path} holds example inputs that are no plain tensors: {_PICKLE}") from error


def _strings(node: Any, wanted: bool = False) -> Iterator[str]:
    """Every string below the keys of ``EXPRESSIONS``."""
    if isinstance(node, str):
        if wanted:
            yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(value, wanted or key in EXPRESSIONS)
    elif isinstance(node, list):
        for value in node:
            yield from _strings(value, wanted)


def _check_expression(path: Path, text: str) -> None:
    """Sizes and comparisons of sizes only."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise NotExportedError(f"{path} holds the expression {text!r}, which does not read: {_PICKLE}") from error
    for node in ast.walk(tree):
        if not _harmless(node):
            raise NotExportedError(f"{path} holds the expression {text!r}, which is none of sizes: {_PICKLE}")


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Attribute) or (isinstance(node.func, ast.Name) and node.func.id in CALLS)
    if isinstance(node, ast.Attribute):
        return node.attr in ATTRIBUTES
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) or bool(re.fullmatch(r"[\w. :]*", str(node.value)))
    return isinstance(node, NODES)
