"""Whoever is cited in a docstring is cited in the bibliography, and every recipe can be cited."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from eo_adapt.paths import configs_dir, recipes_dir
from eo_adapt.report.citations import CITED, citations, data_entries, library

GROUPS = ("method", "encoder", "head", "selection")
ENTRIES = [(group, path.stem) for group in GROUPS for path in sorted((configs_dir() / group).glob("*.yaml"))]
NAMED = re.compile(r"arXiv:\d|[A-Z][a-z]+ (?:& [A-Z][a-z]+ |et al\.,? )(?:[A-Z]+ )?(?:19|20)\d\d")


def targets(node: Any) -> Iterator[str]:
    """Every ``_target_`` of a config."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield node["_target_"]
        for inner in node.values():
            yield from targets(inner)


def sources(group: str, name: str) -> str:
    """What the modules behind an entry say in their docstrings."""
    config = yaml.safe_load((configs_dir() / group / f"{name}.yaml").read_text())
    modules = {target.rpartition(".")[0] for target in targets(config)}
    found = [(configs_dir() / group / f"{name}.yaml").read_text().splitlines()[0]]
    for module in modules:
        loaded = importlib.import_module(module)
        own = [x for x in vars(loaded).values() if getattr(x, "__module__", "") == module]
        found += [inspect.getdoc(x) or "" for x in (loaded, *own)]
    return " ".join(" ".join(found).split())


@pytest.mark.parametrize(("group", "name"), ENTRIES)
def test_what_is_cited_in_the_code_is_cited_in_the_report(group: str, name: str) -> None:
    assert name in CITED[group], f"say in eo_adapt/report/citations.py what to cite for {group}={name}, () for nothing"
    text, keys = sources(group, name), CITED[group][name]
    if NAMED.search(text):
        assert keys, f"{group}={name} cites {NAMED.findall(text)} and has no entry"
    cited = " ".join(library()[key] for key in keys)
    if group not in ("encoder", "head"):
        for number in re.findall(r"arXiv:(\d{4}\.\d{5})", text):
            assert number in cited, f"{group}={name} cites arXiv:{number}, which none of {keys} is"


def test_entries_are_complete_and_each_is_used() -> None:
    used = {key for group in CITED.values() for keys in group.values() for key in keys}
    assert used == set(library())
    for key, entry in library().items():
        assert re.match(rf"@(article|inproceedings|misc)\{{{key},\n", entry), key
        assert entry.count("{") == entry.count("}"), key
        for field in ("author", "title", "year"):
            assert re.search(rf"^  {field} += \{{.+", entry, re.M), (key, field)
        if entry.startswith("@article"):
            assert "journal" in entry, key
        if entry.startswith("@misc"):
            assert "arXiv:" in entry, key


@pytest.mark.parametrize("path", sorted(recipes_dir().glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_cited(path: Path) -> None:
    recipe = yaml.safe_load(path.read_text())
    (entry,) = data_entries(recipe)
    assert entry.startswith(f"@misc{{{path.stem},\n")
    assert recipe["citation"].get("doi", "") in entry
    assert recipe["citation"]["text"].split()[0] in entry


def test_odd_citations() -> None:
    assert data_entries({"recipe": "/my/own data.yaml", "citation": "A & B {100 %}"}) == [
        "@misc{own_data,\n  note = {A \\& B 100 \\%}\n}"
    ]
    assert len(data_entries({"citation": [{"text": "a"}, {"doi": "10.1/a_b"}]})) == 2
    assert "doi = {10.1/a_b}" in data_entries({"citation": {"doi": "10.1/a_b"}})[0]
    assert data_entries({"recipe": "x"}) == []


def test_a_run_cites_data_first_then_each_part_once() -> None:
    report = {"method": "stack", "encoder": "pse_ltae", "selector": "infomax", "domains": {"A": {"area": [1]}}}
    config = {"method": {"parts": {"csn": {}, "adabn": {}, "my_own": {}}}}
    found = citations(report, config, {"recipe": "cawa", "citation": {"text": "Somebody"}})
    keys = [re.match(r"@\w+\{(\w+)", entry)[1] for entry in found]  # type: ignore[index]
    assert keys[:4] == ["cawa", "wang2022lovecs", "chang2019dsbn", "li2016adabn"]
    assert keys[-1] == "olofsson2014area"
    assert len(keys) == len(set(keys))
