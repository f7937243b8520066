"""What an exported file says of itself: plain types, embedded in the file as json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import __version__
from ..report.look import FILLS
from ..report.pictures import MORE
from ..trained import Trained
from .inputs import Layout

FORMAT = 1
KEY = "eo_adapt"  # where it is kept: metadata of safetensors and ONNX; <KEY>.json in a .pt2
NEEDED = frozenset({"domain", "bands", "units", "statistics", "legend", "maps", "temperature", "inputs", "axes"})


class NotExportedError(ValueError):
    """A file that is not what this package exports."""


def about_of(one: Trained, domain: str, layout: Layout) -> dict[str, Any]:
    """The card of one domain's network.

    Args:
        one: The run.
        domain: Name of the domain.
        layout: Inputs of the network.
    """
    card, config = one.card, one.card["config"]
    used = layout.sensors
    names = list(one.legend.names)
    return {
        "format": FORMAT,
        "made_with": f"eo_adapt {__version__}",
        "choices": dict(config.get("choices", {})),
        "domain": domain,
        "domains": {"labelled": list(card["labelled"]), "unlabelled": list(card["unlabelled"])},
        "values_are": "physical units: stored count * scale + offset, see imagery; normalisation is inside",
        "bands": {sensor: list(card["bands"][sensor]) for sensor in used if sensor in card["bands"]},
        "units": {sensor: card["units"][sensor] for sensor in used if sensor in card["units"]},
        "imagery": {sensor: card["imagery"][sensor] for sensor in used if sensor in card["imagery"]},
        "gsd": {sensor: card["gsd"][sensor] for sensor in used if sensor in card.get("gsd", {})},
        "statistics": {name: [list(mean), list(std)] for name, (mean, std) in card["statistics"].items()},
        "sensors": dict(card["sensors"]),
        "legend": card["legend"],
        "colours": colours_of(names, card.get("colours", {})),
        "maps": one.maps,
        "temperature": one.temperature,
        "licences": licences_of(config),
        "checkpoint": one.digest,
        "config": {"encoder": config["encoder"], "head": config["head"]},
        "hyperparameters": hyperparameters_of(config),
        **layout.to_dict(),
    }


def colours_of(names: list[str], known: Mapping[str, str]) -> dict[str, str]:
    """Class -> ``#rrggbb``: the publisher's where it is known, else the next of the palette of the figures."""
    taken = {known[name] for name in names if name in known}
    free = (colour for colour in (*FILLS, *MORE) if colour not in taken)
    return {name: known[name] if name in known else next(free, "#444444") for name in names}


def licences_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Recipe of the training data -> its licence."""
    from ..data.recipe import Recipe

    found = {}
    for domain in (*config["shift"]["sources"], *config["shift"].get("targets", ())):
        try:
            found[domain["recipe"]] = str(Recipe.load(domain["recipe"]).licence.get("id", "unknown"))
        except LookupError:  # a recipe of the user's own, that is no longer there
            found[domain["recipe"]] = "unknown"
    return found


def hyperparameters_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Seed, method and optimiser, as ``{"method.weight": 1.0}``; plain values only."""
    found: dict[str, Any] = {"seed": config.get("seed", 0)}

    def walk(prefix: str, node: Any) -> None:
        if isinstance(node, Mapping):
            for key, value in node.items():
                walk(f"{prefix}.{str(key).strip('_')}", value)
        elif isinstance(node, str | int | float | bool):
            found[prefix] = node

    for group in ("method", "optim"):
        walk(group, config.get(group, {}))
    return found


def packed(about: Mapping[str, Any]) -> str:
    """As json, in the given order: that of the sensors says which of them leads a fusion."""
    return json.dumps(about)


def unpacked(text: str | None, path: Any) -> dict[str, Any]:
    """The card that a file holds.

    Raises:
        NotExportedError: If there is none, or it is of another version.
    """
    try:
        about = json.loads(text or "null")
    except json.JSONDecodeError as error:
        raise NotExportedError(f"{path} holds a damaged card ({error}): export the run again") from error
    if not isinstance(about, dict) or not set(about) >= NEEDED:
        raise NotExportedError(
            f"{path} does not say what bands and classes it was trained on: it was not made by "
            "python -m eo_adapt.export, and is not used on trust"
        )
    if about.get("format") != FORMAT:
        raise NotExportedError(f"{path} is of format {about.get('format')}; this version reads {FORMAT}: export again")
    return about
