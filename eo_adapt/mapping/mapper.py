"""What makes maps: a network for one domain and what must be known of it to feed it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..data.legend import Legend
from ..data.scenes.labels import joined_names
from ..types import Inputs
from .answer import Network

if TYPE_CHECKING:
    from ..trained import Trained

Loads = Callable[[torch.device], Network]
Batches = Callable[[], Iterable[Inputs]]
Adapts = Callable[[str, Batches, int, Path, torch.device], Loads]  # how, inputs, samples, file, device
MORE = ("#7f4f24", "#8c8c8c", "#b5e48c", "#3d348b", "#f7b801", "#00bbf9", "#9b2226", "#6a994e")  # as in reports


@dataclass(frozen=True)
class Mapper:
    """A network that can be loaded anywhere: in this process, or in a worker's.

    Attributes:
        loads: Device -> network (inputs in physical units -> logits), in eval mode. Can be pickled.
        card: Bands, units, statistics, imagery, gsd and legend, as a checkpoint has them.
        domain: Whose network it is.
        digest: sha256 of the checkpoint.
        temperature: What logits are divided by before the softmax.
        origin: Run directory, or where else it is from.
        adapts: How it learns from the scene before it is mapped; None = it cannot.
    """

    loads: Loads
    card: Mapping[str, Any]
    domain: str
    digest: str
    temperature: float = 1.0
    origin: str = ""
    adapts: Adapts | None = None

    @property
    def legend(self) -> Legend:
        """The classes, in the order of the logits."""
        return Legend.from_dict(self.card["legend"])

    @property
    def series(self) -> bool:
        """Whether the leading sensor is a series."""
        return bool(self.card["imagery"][next(iter(self.card["bands"]))]["kind"] == "series")


def of_path(path: Path | str, domain: str | None = None, checkpoint: str = "best") -> Mapper:
    """The network of a run directory (:func:`of_run`), or what ``python -m eo_adapt.export`` made.

    Raises:
        FileNotFoundError: If there is neither.
        ValueError: If it labels parcels, not pixels.
    """
    folder = Path(path)
    if (folder / "checkpoints").is_dir() or not folder.exists():
        return of_run(folder, domain, checkpoint)
    from ..exporting.predictor import load

    one = load(folder, domain)
    if not one.maps:
        raise ValueError(f"{path} labels parcels: predict their tables from the run directory")
    about = one.about
    return Mapper(
        partial(_exported, str(path), domain), about, one.domain, about["checkpoint"], about["temperature"], str(path)
    )


def _exported(path: str, domain: str | None, device: torch.device) -> Network:
    from ..exporting.predictor import load

    return load(path, domain, str(device)).logits


def of_run(run: Path | str, domain: str | None = None, checkpoint: str = "best") -> Mapper:
    """The network of a run for one of its domains.

    Args:
        run: The run directory.
        domain: Whose; None = that of the only target, or of the only domain there is.
        checkpoint: ``best`` or ``last``.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        LookupError: If there is no such domain, or several to choose from.
        ValueError: If it labels parcels, not pixels, or reads attributes of patches, which a scene has not.
    """
    from ..exporting.inputs import ATTRIBUTES, sensors_of
    from ..trained import load_run

    trained = load_run(run, checkpoint)
    number = trained.number(domain)
    if not trained.maps:
        raise ValueError(
            f"the run {run} labels parcels: give input= a store of parcels, and output= a .parquet or .gpkg"
        )
    if ATTRIBUTES in sensors_of(trained.model.encoder):
        raise ValueError(
            f"the run {run} reads attributes of patches (encoder.modalities), and a scene has none: train one without"
        )
    loads = partial(_network, str(run), checkpoint, number)
    known = (trained.card, trained.domains[number], trained.digest, trained.temperature, str(run))
    return Mapper(loads, *known, partial(_adapts, str(run), checkpoint, number))


def _adapts(
    run: str, checkpoint: str, number: int, how: str, batches: Batches, samples: int, path: Path, device: torch.device
) -> Loads:
    from .adapt import adapted_network, learn

    if not path.exists():
        learn(run, checkpoint, number, how, batches, samples, path, device)
    return partial(adapted_network, run, checkpoint, number, path)


def _network(run: str, checkpoint: str, number: int, device: torch.device) -> Network:
    from ..trained import load_run  # here: a worker with another kind of network need not import all of training

    trained = load_run(run, checkpoint)
    refuse_learning(trained)
    trained.to(device)
    if device.type == "cuda":
        trained.model.to(memory_format=torch.channels_last)
    return partial(trained.logits, domain=number)


def refuse_learning(trained: Trained) -> None:
    """Refuse a method that learns while it predicts: its map would depend on the order of the windows.

    Raises:
        ValueError: Saying how to go on.
    """
    if trained.alignment.learns_at_test:
        raise ValueError(
            f"{type(trained.alignment).__name__} learns while it predicts, so that a map would depend on the order of "
            "its windows; set adapt=tent: it learns from windows of the scene first, then maps all of it alike"
        )


def plain(network: nn.Module, device: torch.device) -> Network:
    """A network that returns (features, logits) -> one that returns logits, without gradients."""
    network.to(device).eval()

    def said(inputs: Inputs) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = network(inputs)[1]
        return found

    return said


def colours_of(card: Mapping[str, Any]) -> list[str]:
    """``#rrggbb`` of each class: the publisher's where the recipe has them, else a palette that all can tell apart."""
    from ..data.recipe import Recipe, make
    from ..report.look import FILLS

    own: dict[str, str] = dict(card.get("colours", {}))
    data = card["config"].get("data", {}) if "config" in card else {}
    try:
        classes = make(Recipe.load(data["recipe"]).reader).classes
        own = {**classes.colours, **own}
        for old, new in joined_names(classes, data.get("join") or {}).items():
            if old in own:
                own.setdefault(new, own[old])
    except (LookupError, ValueError, TypeError, AttributeError, OSError):
        pass  # a recipe that is not here any more: colours are no reason to fail
    free = (c for c in (*FILLS, *MORE) if c not in own.values())
    return [own.get(name) or next(free, "#444444") for name in card["legend"]["names"]]
