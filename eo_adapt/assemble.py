"""Plain config -> the objects of a run. Training and evaluation build them alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from .align import Alignment
from .align.augment import StrongView
from .align.branches import align_at
from .data.datamodule import DomainDataModule
from .data.scenes.datamodule import SceneDataModule
from .data.scenes.store import SceneStore
from .heads.base import Head, PanopticHead
from .loss import CrossEntropy
from .model import Model, Normalise
from .registry import build, instantiate
from .selection.base import Criterion
from .task import AdaptationTask, check_needs
from .types import Shift

Config = Mapping[str, Any]


def build_data(config: Config, alignment: Alignment, selection: Criterion) -> DomainDataModule:
    """The shift's domains, opened, divided and measured; needs are checked before any data are read."""
    shift: Shift = instantiate(config["shift"])
    sources = len(shift.targets if alignment.uses_target_labels else shift.sources)
    check_needs(alignment, selection, sources, len(shift.targets), frozenset({"labels", "lonlat", "days", "images"}))
    check_target_labels(alignment, shift.target_labels)
    if alignment.uses_target_labels and not shift.targets:
        raise ValueError(f"{type(alignment).__name__} trains on target labels; this shift has no target domain")
    data: DomainDataModule = instantiate(
        config["data"],
        shift=shift,
        seed=config["seed"],
        kind=config["label_set"],
        oracle=alignment.uses_target_labels,
        shots=alignment.shots,
    )
    check_boundary(config.get("boundary", 0), data.maps)
    data.reveal_target_val = selection.uses_target_labels
    data.targets_in_fit = alignment.needs_target
    data.setup()
    check_places(alignment, data)
    return data


def check_places(alignment: Alignment, data: DomainDataModule) -> None:
    """Refuse a method that reads places where some samples have none; names the first five.

    Raises:
        ValueError: If so.
    """
    if "lonlat" not in alignment.needs:
        return
    rows = np.concatenate([d.rows for d in data.parcels])
    nowhere = rows[~torch.isfinite(data.store.lonlat[rows]).all(1).numpy()]
    if len(nowhere):
        first = data.store.index["parcel_id"].iloc[nowhere[:5]].tolist()
        raise ValueError(
            f"{type(alignment).__name__} reads places, and {len(nowhere)} of {len(rows)} samples have none, first "
            f"{first}: give the files a CRS or the metadata their centre, leave them out, or take another method"
        )


def check_boundary(tolerance: object, maps: bool) -> None:
    """Refuse a tolerance of boundary scores that is no number of pixels, or that parcels cannot have.

    Raises:
        ValueError: Naming the option.
    """
    if isinstance(tolerance, bool) or not isinstance(tolerance, int) or tolerance < 0:
        raise ValueError(f"boundary is a whole number of pixels, 0 = no boundary scores; got {tolerance!r}")
    if tolerance and not maps:
        raise ValueError(f"boundary={tolerance} scores the outlines of maps; parcels have none: set boundary=0")


def check_target_labels(alignment: Alignment, number: int) -> None:
    """Refuse a method that learns from a few target labels and gets none, or gets some and learns from none.

    Raises:
        ValueError: Naming the option.
    """
    name = type(alignment).__name__
    if alignment.tunes and not number:
        raise ValueError(
            f"{name} learns from a few labels of the target: set shift.target_labels=<labelled samples a class>"
        )
    if number and not alignment.tunes:
        raise ValueError(
            f"shift.target_labels={number} is for methods that learn from a few target labels (fine_tune, fomaml, "
            f"maml, anil); {name} does not: set it to 0"
        )


def build_criteria(config: Config, alignment: Alignment) -> tuple[dict[str, Criterion], str]:
    """Criteria by name, and which of them chooses.

    An oracle method is chosen by its own labelled validation parcels, whatever the config says; with a few labels there
    are none to spare, so the last epoch is taken.
    """
    chooser = named(config)
    if alignment.uses_target_labels:
        chooser = "last" if alignment.shots else "source_val"
    selection: Criterion = build("selection", chooser) if chooser != named(config) else instantiate(config["selection"])
    criteria = {chooser: selection}
    for name in (*selection.members, *config["watch"]):
        if name not in criteria:
            criteria[name] = build("selection", name)
    if labelled := [name for name, c in criteria.items() if c.uses_target_labels and name != chooser]:
        raise ValueError(f"watch={labelled} would open target labels while training; only selection= may do that")
    return criteria, chooser


def named(config: Config) -> str:
    """What the chosen criterion is called in configs/selection; one from elsewhere goes by its class."""
    target = config["selection"]["_target_"]
    return str(config.get("choices", {}).get("selection", target.rpartition(".")[2]))


def build_model(config: Config, data: DomainDataModule) -> Model:
    """The network, with weights that follow from the seed alone."""
    torch.manual_seed(config["seed"])
    encoder = instantiate(config["encoder"], sensors=data.sensors)
    head: Head = instantiate(config["head"], encoder=encoder, classes=len(data.legend))
    give_instances(head, data)
    return Model(encoder, head, Normalise(data.statistics), give_branches=where_aligned(config) != "fused")


def give_instances(head: Head, data: DomainDataModule) -> None:
    """Let the data tell things apart for a head that learns them one by one.

    Raises:
        ValueError: If they do not.
    """
    if not isinstance(head, PanopticHead):
        return
    if not isinstance(data, SceneDataModule):
        raise ValueError(f"{type(head).__name__} learns things of maps one by one; these data hold one vector a parcel")
    data.give_instances()


def keep_colours(alignment: Alignment, data: DomainDataModule) -> None:
    """Bands that augmentation leaves as they are (an elevation) keep their values in strong views of methods, too."""
    augment = getattr(data, "augment", None)  # of images alone
    left = set(augment.leave) if augment else set()
    kept = {sensor: tuple(i for i, band in enumerate(bands) if band in left) for sensor, bands in data.bands.items()}
    for part in alignment.modules():
        strong = getattr(part, "strong", None)
        if isinstance(strong, StrongView):
            strong.leave_bands = {**{sensor: at for sensor, at in kept.items() if at}, **strong.leave_bands}


def build_task(config: Config) -> tuple[AdaptationTask, DomainDataModule]:
    """Everything a run needs, from its plain config."""
    alignment: Alignment = instantiate_method(config["method"])
    criteria, chooser = build_criteria(config, alignment)
    data = build_data(config, alignment, criteria[chooser])
    keep_colours(alignment, data)
    keys = data.store.index["parcel_id"].tolist()
    model = build_model(config, data)
    task = AdaptationTask(
        model,
        align_at(alignment, where_aligned(config), model.branches),
        CrossEntropy(),
        instantiate(config["optim"]),
        criteria,
        chooser,
        sources=len(data.labelled),
        targets=len(data.unlabelled),
        classes=len(data.legend),
        provides=data.provides,
        seed=config["seed"],
        card=card_of(config, data),
        keys=lambda rows: [str(keys[row]) for row in rows.tolist()],
        names=data.legend.names,
    )
    return task, data


def where_aligned(config: Config) -> Any:
    """fused, branches or all; runs of before the option had fused."""
    return config.get("align_at", "fused")


def instantiate_method(node: Mapping[str, Any]) -> Alignment:
    """The alignment of a config."""
    alignment: Alignment = instantiate(node)
    return alignment


def card_of(config: Config, data: DomainDataModule) -> dict[str, Any]:
    """What a user of a checkpoint must know, in plain types that load with ``weights_only=True``."""
    return {
        "bands": {sensor: list(bands) for sensor, bands in data.bands.items()},
        "units": {sensor: data.store.sensors[sensor].units for sensor in data.bands},
        "statistics": {name: [list(mean), list(std)] for name, (mean, std) in data.statistics.items()},
        "legend": data.legend.to_dict(),
        "maps": data.maps,
        "sensors": dict(data.sensors),
        "imagery": {sensor: plain(asdict(data.store.sensors[sensor])) for sensor in data.bands},
        "gsd": pixel_sizes(data),
        "pixel_sets": pixel_sets(data),
        "colours": published_colours(data),
        "labelled": [d.domain.name for d in data.labelled],
        "unlabelled": [d.domain.name for d in data.unlabelled],
        "config": plain(config),
    }


def pixel_sizes(data: DomainDataModule) -> dict[str, float]:
    """Sensor -> metres a pixel of its images, the median over labelled patches; parcels have none."""
    if not isinstance(data.store, SceneStore):
        return {}
    store, rows = data.store, np.concatenate([d.rows for d in data.labelled])
    lead = store.index["gsd"].to_numpy(float)[rows]
    found: dict[str, float] = {}
    for name in data.bands:
        if store.sensors[name].kind != "points":
            own = np.array([store.size(row, name)[0] for row in rows])
            found[name] = float(np.median(lead * store.sizes[rows, 0] / own))
    return found


def pixel_sets(data: DomainDataModule) -> dict[str, bool]:
    """Sensor -> whether its parcels are sets of pixels; images have no entry."""
    if isinstance(data.store, SceneStore):
        return {}
    kept = data.store.arrays
    return {name: kept[name].is_pixel_set for name in data.bands if name in kept}


def published_colours(data: DomainDataModule) -> dict[str, str]:
    """Class -> ``#rrggbb`` where the publisher has one, also that of the first class joined; parcels have none."""
    if not isinstance(data.store, SceneStore):
        return {}
    own = dict(data.store.classes.colours)
    for old, new in getattr(data, "names", {}).items():
        if old in own:
            own.setdefault(new, own[old])
    return {name: own[name] for name in data.legend.names if name in own}


def plain(node: Any) -> Any:
    """A config as dicts, lists and scalars."""
    if isinstance(node, Mapping):
        return {str(k): plain(v) for k, v in node.items()}
    if isinstance(node, list | tuple):
        return [plain(v) for v in node]
    return node
