"""Train, choose a checkpoint, evaluate it: ``python -m eo_adapt.train task=crops method=coral``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    from eo_adapt.cli import launch  # first: sets the environment that torch reads when it is imported

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from .data.datamodule import DomainDataModule
    from .meter import Meter


def run(config: Mapping[str, Any] | DictConfig, folder: Path | str) -> dict[str, Any]:
    """One run: fit, choose, evaluate, report.

    Args:
        config: As :func:`eo_adapt.registry.config` composes it.
        folder: The run directory.

    Returns:
        What ``report.json`` holds.

    Raises:
        RunDirectoryError: If the directory is taken or cannot be written.
        NotFiniteError: If a loss term became NaN.
        Interrupted: After a signal, when the checkpoint is written.
    """
    from . import rundir

    plain: dict[str, Any] = as_plain(config)
    folder = Path(folder)
    with rundir.occupy(folder):
        return _run(plain, folder, resumed=rundir.claim(folder, plain))


def as_plain(config: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """A config as plain dicts with enums spelt out; Lightning cannot load checkpoints that hold anything else."""
    if isinstance(config, DictConfig):
        from enum import Enum

        text = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        assert isinstance(text, dict) and not isinstance(text, Enum)  # noqa: S101, PT018  (a mapping stays one)
        return {str(k): v for k, v in text.items()}
    return dict(config)


def _run(config: dict[str, Any], folder: Path, resumed: bool) -> dict[str, Any]:
    import pytorch_lightning as pl
    import torch

    from .assemble import build_task
    from .evaluate import earlier, evaluate_task
    from .meter import Meter
    from .registry import instantiate
    from .tables import keep_metrics, merge_metrics, write_frame
    from .trainer import Interrupted
    from .tuning import tune_checkpoints

    pl.seed_everything(config["seed"], verbose=False)
    task, data = build_task(config)
    if resumed:
        keep_metrics(folder)
    else:
        _record(config, folder, data)
    write_frame(data.splits_frame(), folder / "splits.parquet")
    options = instantiate(config["trainer"])
    loggers = instantiate(config["logger"]).build(folder)
    trainer, signals = options.build(folder, loggers, task.alignment.learns_at_test)
    if options.compile:
        task.model.encoder.compile(dynamic=True)
    last = folder / "checkpoints" / "last.ckpt"
    meter = Meter()
    before = int(torch.load(last, weights_only=True)["global_step"]) if resumed else 0
    with signals.listening(), meter.running(task.model):
        trainer.fit(task, data, ckpt_path=last if resumed else None)
        if signals.received is not None:
            raise Interrupted(signals.received)
    merge_metrics(folder)
    tune_checkpoints(task, data, folder)
    # Of a resumed run only this last part was timed; of one that was finished already, nothing.
    steps = (trainer.global_step - before) * trainer.accumulate_grad_batches
    facts = {**costs(meter, data, steps), "resumed": resumed} if steps else earlier(folder)
    facts["selection_score"] = task.final_scores()[task.chosen()]
    return evaluate_task(task, data, folder, "best", facts)


def _record(config: dict[str, Any], folder: Path, data: DomainDataModule) -> None:
    """The directory is this run's from here on; that it will see target labels is written down, too."""
    from . import rundir

    rundir.record(folder, config)
    if data.oracle or data.reveal_target_val:
        purpose = "training" if data.oracle else "selection"
        rundir.audit(folder, config, f"train {purpose}", purpose)


def costs(meter: Meter, data: DomainDataModule, steps: int) -> dict[str, float]:
    """What the report says of the cost of ``steps`` training steps."""
    parcels = steps * data.batch_size * len(data.loader.steps.samplers)
    return {
        "seconds": meter.seconds,
        "parcels_per_second": parcels / meter.seconds,
        "forwards_per_step": meter.forwards / steps,
        "peak_memory_mb": meter.peak_memory_mb(),
    }


def main(cfg: DictConfig) -> float:
    """What the command line runs.

    Returns:
        Score of the chosen checkpoint by the criterion that chose it: what a hyper-parameter sweep maximises, without
        target labels.
    """
    from hydra.core.hydra_config import HydraConfig

    from .registry import GROUPS, with_choices
    from .report.screen import show
    from .trainer import Interrupted

    hydra = HydraConfig.get()
    choices = {k: v for k, v in hydra.runtime.choices.items() if k in GROUPS}
    folder = Path(hydra.runtime.output_dir)
    try:
        report = run(with_choices(cfg, choices), folder)
    except Interrupted as stop:
        print(f"{stop}; continue with the same command and resume=auto hydra.run.dir={folder}", file=sys.stderr)
        sys.exit(stop.exit_code)
    show(report, folder)
    return float(report["selection_score"])


if __name__ == "__main__":
    launch("train", main)
