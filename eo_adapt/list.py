"""What there is to choose from: ``python -m eo_adapt.list [group]``."""

from __future__ import annotations

import sys

import yaml

from .paths import recipes_dir
from .registry import GROUPS, describe

PLURALS = {f"{group}s": group for group in GROUPS} | {"recipes": "recipe"}


def lines(group: str) -> dict[str, str]:
    """Name -> one line, of a config group or of the data recipes."""
    if group == "recipe":
        # Read here, not through Recipe: that would import torch to print a list.
        return {path.stem: yaml.safe_load(path.read_text())["title"] for path in sorted(recipes_dir().glob("*.yaml"))}
    return describe(group)


def main(arguments: list[str]) -> int:
    """Print the groups asked for, all without a name."""
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\ngroups: {', '.join([*GROUPS, 'recipe'])}")
        return 0
    wanted = [PLURALS.get(a, a) for a in arguments] or [*GROUPS, "recipe"]
    try:
        found = {group: lines(group) for group in wanted}
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for group, entries in found.items():
        print(group)
        width = max(map(len, entries), default=0)
        for name, line in entries.items():
            print(f"  {name:<{width}}  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
