"""What a trained network is worth when a sensor is gone, or most of its dates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .data.datamodule import DomainDataModule
from .data.loader import Part
from .data.sampler import generator
from .encoders.blocks.branched import Late
from .encoders.blocks.masked import valid_dates
from .encoders.blocks.modalities import hide
from .encoders.blocks.schemes import Early
from .encoders.fusion import Fusion
from .metrics import confusion, mean_iou, scores
from .report.map_scores import score_maps
from .report.predict import said_of
from .task import AdaptationTask
from .types import Batch, Inputs

KEYS = ("overall_accuracy", "macro_f1", "closed_macro_f1", "kappa")
MAP_KEYS = ("overall_accuracy", "macro_f1", "closed_macro_f1", "miou", "closed_miou", "kappa")
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
Shown = Callable[[Batch], Inputs]


def without(sensor: str) -> Shown:
    """Batches as if nobody had the sensor: nothing of it is valid, or, where it has no masks, it is not there.

    Images stay in any case, for they say how large the maps are.
    """

    def shown(batch: Batch) -> Inputs:
        look = batch.inputs[sensor]
        if look.valid is None and look.valid_pixels is None:
            if look.values.ndim not in (4, 5):
                return {name: other for name, other in batch.inputs.items() if name != sensor}
            shape = (*look.values.shape[:-3], *look.values.shape[-2:])
            look = replace(look, valid_pixels=torch.ones(shape, dtype=torch.bool, device=look.values.device))
        nobody = torch.zeros(len(batch), dtype=torch.bool, device=look.values.device)
        return {**batch.inputs, sensor: hide(look, nobody)}

    return shown


def with_fewer_dates(sensor: str, share: float, seed: int) -> Shown:
    """Batches in which each sample lacks a share of the sensor's valid dates, rounded down; at least one stays.

    The draw follows from the seed and the samples of the batch; what is gone at a share is gone at every larger one.
    """

    def shown(batch: Batch) -> Inputs:
        look = batch.inputs[sensor]
        valid = valid_dates(look).cpu()
        luck = torch.rand(valid.shape, generator=generator(seed, int(batch.rows[0]))).masked_fill(~valid, 2.0)
        rank = luck.argsort(1).argsort(1)  # the valid dates come first
        count = valid.sum(1, keepdim=True)
        gone = rank < torch.minimum((share * count + 1e-6).floor(), count - 1)
        return {**batch.inputs, sensor: replace(look, valid=(valid & ~gone).to(look.values.device))}

    return shown


def score_tests(task: AdaptationTask, data: DomainDataModule, shown: Shown) -> dict[str, dict[str, float]]:
    """Domain -> scores of its sealed test samples, of what the network is shown; labels must be opened."""
    names, shared = data.scored_classes().names, data.label_set.shared
    found = {}
    for i, d in enumerate(data.parcels):
        part, domain = data.sealed(d), 0 if data.oracle else i
        if data.maps:
            matrix = score_maps(task, data, part, domain, len(names), shown=shown).matrices.sum(0)
            rows = [i for i, name in enumerate(names) if name in set(shared)]
            more = {"miou": mean_iou(matrix), "closed_miou": mean_iou(matrix, rows)}
        else:
            matrix, more = _matrix(task, data, part, domain, shown), {}
        every = {**scores(matrix, names, shared), **more}
        found[d.domain.name] = {key: every[key] for key in keys_of(data)}
    return found


def _matrix(task: AdaptationTask, data: DomainDataModule, part: Part, domain: int, shown: Shown) -> Tensor:
    said = [logits.float().cpu() for _, logits, _ in said_of(task, data, part, domain, shown)]
    assert part.labels is not None  # noqa: S101  (sealed parts have labels)
    return confusion(part.labels, torch.cat(said).argmax(1), len(data.scored_classes()))


def keys_of(data: DomainDataModule) -> tuple[str, ...]:
    """Which scores are taken."""
    return MAP_KEYS if data.maps else KEYS


def without_each(task: AdaptationTask, data: DomainDataModule) -> dict[str, Any]:
    """For the report of a fusion: ``{"without": {sensor: {domain: scores}}}``, each sensor removed in turn.

    ``untrained`` names the sensors whose token, which then stands in for them, no sample has taught by modality
    dropout. Nothing for encoders of one sensor. Labels must be opened.
    """
    encoder = task.model.encoder
    if not isinstance(encoder, Fusion) or len(encoder.modalities) < 2:
        return {}
    shares = encoder.drop_modality.get_buffer("p").tolist()
    never = [name for name, share in zip(encoder.modalities, shares, strict=True) if not share]
    return {
        "without": {sensor: score_tests(task, data, without(sensor)) for sensor in encoder.modalities},
        "untrained": [name for name in never if isinstance(encoder.scheme, Early | Late)],
    }


def missing_dates(
    task: AdaptationTask,
    data: DomainDataModule,
    sensor: str,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
) -> dict[str, Any]:
    """Scores against the share of one sensor's dates that are gone; labels must be opened.

    Args:
        task: A trained network.
        data: Its domains.
        sensor: Whose dates go.
        shares: Each in [0, 1).
        seeds: Of the draws.

    Returns:
        ``{"sensor", "shares", "seeds", "domains": {domain: {score: [[one a seed] a share]}}}``.

    Raises:
        LookupError: If the data have no such sensor.
        ValueError: If a share is impossible.
    """
    if sensor not in data.bands:
        raise LookupError(f"there is no sensor {sensor!r}; the data provide {sorted(data.bands)}")
    if not all(0 <= share < 1 for share in shares):
        raise ValueError(f"shares of missing dates lie from 0 up to, but not including, 1; got {list(shares)}")
    found = [[score_tests(task, data, with_fewer_dates(sensor, share, seed)) for seed in seeds] for share in shares]
    domains = {
        d.domain.name: {key: [[one[d.domain.name][key] for one in at] for at in found] for key in keys_of(data)}
        for d in data.parcels
    }
    return {"sensor": sensor, "shares": list(shares), "seeds": list(seeds), "domains": domains}


def missing_dates_of_run(
    folder: Path | str,
    sensor: str,
    shares: Sequence[float] = SHARES,
    seeds: Sequence[int] = (0, 1, 2),
    data_changes: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """:func:`missing_dates` of a run's chosen checkpoint; opens target labels, and writes so into ``audit.jsonl``.

    Args:
        folder: The run directory.
        sensor: Whose dates go.
        shares: Each in [0, 1).
        seeds: Of the draws.
        data_changes: Data options that differ from the run's, e.g. ``{"root": "/where/it/lies/now"}``.

    Raises:
        FileNotFoundError: If the directory holds no run.
    """
    import yaml

    from .assemble import build_task
    from .evaluate import device_of, load
    from .rundir import audit

    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"no run in {folder} (it has no config.yaml); give the folder that training printed")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"] = {**config["data"], **(data_changes or {})}
    task, data = build_task(config)
    load(task, data, folder / "checkpoints" / "best.ckpt")
    task.to(device_of(config["trainer"]["accelerator"]))

    def write_down() -> None:
        audit(folder, config, f"missing dates of {sensor}")

    with data.opened(write_down):
        choices = config.get("choices", {})
        about = {key: choices.get(key, "") for key in ("method", "encoder", "shift")}
        scheme = config["encoder"].get("scheme", "")
        return {**about, "scheme": scheme, "seed": config["seed"], **missing_dates(task, data, sensor, shares, seeds)}
