"""Score a run's checkpoint on the sealed test parcels: ``python -m eo_adapt.evaluate run=<run dir>``.

The only place where target labels are opened; each time is written to the run's ``audit.jsonl``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import launch

from omegaconf import DictConfig

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from torch import Tensor

    from .data.datamodule import DomainDataModule
    from .data.loader import Part
    from .selection.base import Outputs
    from .task import AdaptationTask


OF_TRAINING = (
    "seconds",
    "parcels_per_second",
    "peak_memory_mb",
    "forwards_per_step",
    "selection_score",
    "resumed",
    "version",
)


def evaluate_run(
    folder: Path | str,
    checkpoint: str = "best",
    data_changes: Mapping[str, Any] | None = None,
    companion: Path | str | None = None,
    figures: bool | None = None,
    boundary: int | None = None,
) -> dict[str, Any]:
    """Evaluate a run directory again.

    Args:
        folder: The run directory.
        checkpoint: ``best`` or ``last``.
        data_changes: Data options that differ from the run's, e.g. ``{"root": "/where/it/lies/now"}``.
        companion: Run directory of ``method=source_only`` on the same shift: the page then warns of negative transfer.
        figures: Whether to draw figures and write report.html; None = as the run was told.
        boundary: Maps: tolerance of boundary scores, pixels; 0 = none, None = as the run was told.

    Returns:
        What ``report.json`` holds afterwards.

    Raises:
        FileNotFoundError: If the directory holds no run or no such checkpoint.
        ValueError: If the data do not fit the checkpoint.
    """
    import yaml

    from .assemble import build_task
    from .rundir import occupy

    folder = Path(folder)
    if not (folder / "config.yaml").is_file():
        raise FileNotFoundError(f"no run in {folder} (it has no config.yaml); give the folder that training printed")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["data"] = {**config["data"], **(data_changes or {})}
    config["figures"] = config["figures"] if figures is None else figures
    config["boundary"] = config.get("boundary", 0) if boundary is None else boundary  # older runs do not say
    task, data = build_task(config)
    with occupy(folder):
        return evaluate_task(task, data, folder, checkpoint, earlier(folder), beside(companion))


def beside(companion: Path | str | None) -> dict[str, Any] | None:
    """The report of the run to compare with."""
    import json

    if companion is None:
        return None
    path = Path(companion) / "report.json"
    if not path.is_file():
        raise FileNotFoundError(f"companion={companion} is no finished run (it has no report.json)")
    found: dict[str, Any] = json.loads(path.read_text())
    return {**found, "folder": str(companion)}


def earlier(folder: Path) -> dict[str, Any]:
    """What an earlier report says of the training, which evaluating again does not change."""
    import json

    path = folder / "report.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    return {key: report[key] for key in OF_TRAINING if key in report}


def evaluate_task(
    task: AdaptationTask,
    data: DomainDataModule,
    folder: Path,
    checkpoint: str,
    facts: Mapping[str, Any],
    companion: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Load a checkpoint into a built task, score every domain's test split, write report, predictions, figures, page.

    Opens the target's labels, and writes so into ``audit.jsonl``.

    Raises:
        ValueError: If the method learns from a few target labels and this checkpoint has not.
    """
    from .candidates import score_candidates, to_score
    from .rundir import audit
    from .tuning import stamp

    facts = {**facts, **stamp(task, data, checkpoint)}
    load(task, data, folder / "checkpoints" / f"{checkpoint}.ckpt")
    config = task.card["config"]
    task.to(device_of(config["trainer"]["accelerator"]))
    count = 0

    def write_down() -> None:
        nonlocal count
        count = audit(folder, config, f"evaluate checkpoint={checkpoint}")

    with data.opened(write_down):
        if config["trainer"]["keep"] == "all" and to_score(folder):
            score_candidates(task, data, folder)
            load(task, data, folder / "checkpoints" / f"{checkpoint}.ckpt")
        facts = {"checkpoint": checkpoint, "labels_opened": count, **facts}
        report, predictions = _score(task, data, folder, facts)
        if config["figures"]:
            from .report.figures import draw
            from .report.html import write_run_page

            if data.maps:
                from .report.pictures import draw_maps

                sheets = draw_maps(folder, task, data, report, companion)
                write_run_page(folder, report, data, predictions, companion, sheets)
            else:
                draw(folder / "figures", data, predictions, report)
                write_run_page(folder, report, data, predictions, companion)
        return report


def _score(
    task: AdaptationTask, data: DomainDataModule, folder: Path, facts: Mapping[str, Any]
) -> tuple[dict[str, Any], pd.DataFrame]:
    from .report.predictions import write_predictions
    from .report.run import temperature_facts, write_report
    from .robustness import without_each

    val = labelled_val(task, data)
    scale = temperature_facts(data, *val)
    threshold = unknown_threshold(val[0], scale["temperature"]) if data.label_set.unknown else None
    facts = {**facts, **without_each(task, data)}
    if data.maps:
        from .report.map_run import write_map_results
        from .report.parcels import confidence_facts

        facts |= confidence_facts(task, data)
        boundary = task.card["config"].get("boundary", 0)
        return write_map_results(folder, task, data, threshold, {**scale, **facts}, boundary)
    said = {d.domain.name: domain_logits(task, data, i) for i, d in enumerate(data.parcels)}
    predictions = write_predictions(folder / "predictions.parquet", data, said, threshold, scale["temperature"])
    report = write_report(folder / "report.json", task, data, predictions, {**scale, **facts})
    return report, predictions


def device_of(accelerator: str) -> torch.device:
    """Where to evaluate: Lightning has put the network back on the CPU after training."""
    import torch

    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if accelerator == "mps" else "cpu")


def load(task: AdaptationTask, data: DomainDataModule, path: Path) -> None:
    """Put a checkpoint's weights into a task built for the same bands and classes.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If bands, units or classes differ; says which.
    """
    import torch

    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob("*.ckpt"))
        raise FileNotFoundError(f"no checkpoint {path}; there are {there}")
    state = torch.load(path, map_location="cpu", weights_only=True)
    card = state["card"]
    for what in ("bands", "units", "legend"):
        if card[what] != task.card[what]:
            raise ValueError(
                f"the checkpoint {path.name} was trained with {what} {card[what]}; these data give {task.card[what]}. "
                "Give data with the same ones (data.bands=, data.classes=) or train again"
            )
    task.load_state_dict(state["state_dict"])
    task.eval()


def domain_logits(task: AdaptationTask, data: DomainDataModule, domain: int) -> tuple[Part, Tensor]:
    """Every parcel of one domain, in store order, and its logits (N, K) on the CPU."""
    import torch

    from .data.loader import Part

    parcels = data.parcels[domain]
    part = Part(torch.from_numpy(parcels.rows), None)
    return part, part_logits(task, data, part, 0 if data.oracle else domain)


def part_logits(task: AdaptationTask, data: DomainDataModule, part: Part, domain: int) -> Tensor:
    """Logits (N, K) of some parcels of one domain, as the method predicts them."""
    return part_outputs(task, data, part, domain).logits


def part_outputs(task: AdaptationTask, data: DomainDataModule, part: Part, domain: int) -> Outputs:
    """Logits (N, K) and features (N, D) of some parcels of one domain, as the method predicts them, on the CPU."""
    import torch

    from .report.predict import said_of
    from .selection.base import Outputs

    looks = said_of(task, data, part, domain)
    said = [(logits.float().cpu(), output.features.detach().float().cpu()) for _, logits, output in looks]
    logits, features = zip(*said, strict=True)
    return Outputs(torch.cat(logits), part.labels, torch.cat(features))


def labelled_val(task: AdaptationTask, data: DomainDataModule) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and labels (N,) of the labelled domains' validation parcels, or of sampled pixels, pooled.

    They are the source's; an oracle's are the target's.
    """
    import torch

    parts = data.val_parts()[: len(data.labelled)]
    if data.maps:
        from .report.predict import sampled_of

        return sampled_of(task, data, parts)
    logits = [part_logits(task, data, part, 0 if data.oracle else i) for i, part in enumerate(parts)]
    return torch.cat(logits), torch.cat([part.labels for part in parts if part.labels is not None])


def source_temperature(task: AdaptationTask, data: DomainDataModule) -> float:
    """The temperature of the weights that are loaded."""
    from .report.run import temperature_facts

    return float(temperature_facts(data, *labelled_val(task, data))["temperature"])


def unknown_threshold(logits: Tensor, temperature: float, quantile: float = 0.05) -> float:
    """Open set: below this calibrated confidence a parcel is called unknown.

    The 5 % quantile of the largest probability on source-val: one in twenty known parcels is given up, and no target
    label is needed.

    Args:
        logits: (N, K) of source-val.
        temperature: What all probabilities are scaled by.
        quantile: Share of known parcels to give up.
    """
    from .calibration import calibrated

    return float(calibrated(logits, temperature).amax(1).quantile(quantile))


def main(cfg: DictConfig) -> None:
    """What the command line runs."""
    from omegaconf import OmegaConf

    from .report.screen import show

    if not cfg.run:
        raise ValueError("say which run: python -m eo_adapt.evaluate run=<run directory>")
    changes = OmegaConf.to_container(cfg.data, resolve=True)
    assert isinstance(changes, dict)  # noqa: S101  (evaluate.yaml says so)
    changed = {str(k): v for k, v in changes.items()}
    if cfg.figures not in (None, True, False):
        raise ValueError(f"figures must be true, false or null (as the run was told); got {cfg.figures!r}")
    report = evaluate_run(cfg.run, cfg.checkpoint, changed, cfg.companion or None, cfg.figures, cfg.boundary)
    show(report, Path(cfg.run))


if __name__ == "__main__":
    launch("evaluate", main)
