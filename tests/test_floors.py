"""Imports point down only; alignments can be lifted out; one Lightning namespace."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "eo_adapt"
FILES = sorted(PACKAGE.rglob("*.py"))

# Floor of each module or folder; a file may import its own floor's folder, and anything lower.
FLOORS = {
    "types": 0, "align": 0, "paths": 0,
    "encoders": 1, "heads": 1, "data": 1,
    "model": 2, "metrics": 2, "calibration": 2, "area": 2, "selection": 2, "loss": 2, "optim": 2, "rundir": 2,
    "tables": 2, "diagnosis": 2, "boundaries": 2, "panoptic": 2,
    "task": 3, "view": 3, "trainer": 3, "meter": 3, "report": 4,
    "registry": 4, "signature": 4, "cli": 4, "assemble": 4, "trained": 4,
    "train": 4, "evaluate": 4, "candidates": 4, "benchmark": 4, "benchmarking": 4, "prepare": 4, "list": 4, "doctor": 4,
    "diagnose": 4, "tuning": 4, "robustness": 4, "export": 4, "exporting": 4,
    "mapping": 4, "predict": 4,
}  # fmt: skip
APART = ({"encoders", "heads"}, {"data"})  # same floor, never import each other
HYDRA_ONLY = {
    "registry",
    "signature",
    "cli",
    "train",
    "evaluate",
    "prepare",
    "benchmark",
    "diagnose",
    "export",
    "predict",
}


def room(path: Path) -> str:
    """Which module or folder of the package a file belongs to; the package itself is "eo_adapt"."""
    relative = path.relative_to(PACKAGE)
    name = relative.parts[0].removesuffix(".py")
    return "eo_adapt" if name == "__init__" else name


def imports(path: Path) -> list[tuple[str, bool]]:
    """(dotted absolute name, is it only for type checkers) of everything a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    parts = ("eo_adapt", *path.relative_to(PACKAGE).with_suffix("").parts)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) in typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level] if node.level else ()
            stem = ".".join((*base, *(node.module or "").split("."))).strip(".")
            names = [stem] if stem != "eo_adapt" else [f"eo_adapt.{alias.name}" for alias in node.names]
            found += [(name, id(node) in typing_only) for name in names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    here = room(path)
    if here == "eo_adapt":
        return
    assert here in FLOORS, f"{here} has no floor: add it to FLOORS"
    for name, _ in imports(path):
        first, *rest = name.split(".")
        if first != "eo_adapt" or not rest or rest[0] in (here, "__version__"):
            continue
        there = rest[0]
        assert FLOORS[there] <= FLOORS[here], f"{path.name} (floor {FLOORS[here]}) imports {there} ({FLOORS[there]})"
        assert not any(here in a and there in b for a in APART for b in APART if a is not b), f"{here} imports {there}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "align").glob("*.py")), ids=lambda p: p.name)
def test_align_needs_torch_and_the_standard_library_only(path: Path) -> None:
    for name, _ in imports(path):
        top = name.split(".")[0]
        assert top in {"torch", *sys.stdlib_module_names} or name.startswith("eo_adapt.align"), name


def test_types_need_torch_only() -> None:
    assert {name.split(".")[0] for name, _ in imports(PACKAGE / "types.py")} <= {"torch", *sys.stdlib_module_names}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_hydra_lives_upstairs_and_lightning_has_one_name(path: Path) -> None:
    names = {name.split(".")[0] for name, _ in imports(path)}
    assert "lightning" not in names, "import pytorch_lightning: the two do not mix"
    if room(path) not in HYDRA_ONLY:
        assert not names & {"hydra", "omegaconf"}
    if room(path) == "data":
        assert not any(name.startswith("torch.nn") for name, _ in imports(path))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300, f"{path.name} is two ideas in one file"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0
            assert length <= 40, f"{path.name}: {node.name} has {length} lines"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, eo_adapt; print(sorted({'torch','numpy','hydra','pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_imports_no_torch() -> None:
    code = (
        "import sys, runpy, contextlib, io; sys.argv=['train','--help']\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    runpy.run_module('eo_adapt.train', run_name='__main__')\n"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
