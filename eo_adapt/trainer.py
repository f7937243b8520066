"""Lightning, set up for one run: checkpoints that survive a kill, signals, precision, progress."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.callbacks import Callback, ModelCheckpoint, RichProgressBar
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from .task import AdaptationTask

Precision = Literal["fp32", "bf16", "fp16"]
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Interrupted(BaseException):
    """A signal asked the run to stop; the checkpoint is written. Not an Exception: nothing may swallow it."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.exit_code = 128 + number


class Signals(Callback):
    """First SIGINT or SIGTERM: finish the optimiser step, save ``last.ckpt``, raise. A second SIGINT stops at once.

    After the last batch of an epoch the validation is awaited, too: a resumed run would skip it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.received: int | None = None

    def _notice(self, number: int, frame: Any) -> None:
        if self.received == signal.SIGINT == number:
            raise Interrupted(number)
        self.received = number
        print(f"\n{signal.Signals(number).name}: finishing this batch, then saving", file=sys.stderr)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch both signals inside; leave the process as it was afterwards."""
        before = {number: signal.signal(number, self._notice) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, *_: Any) -> None:
        # Lightning has put a handler of its own in front by now, which ends a run with exit code 0.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._notice)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self.received is not None and stepped and batch_idx + 1 < trainer.num_training_batches:
            trainer.save_checkpoint(self.folder / "last.ckpt")
            raise Interrupted(self.received)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.received is not None:  # the epoch before is whole and saved
            raise Interrupted(self.received)


class AtomicCheckpoints(TorchCheckpointIO):
    """Checkpoints appear whole or not at all, and are read without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name with nothing in it
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = True) -> dict[str, Any]:
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded


class Candidates(Callback):
    """Keeps the weights of the epochs that may still be chosen, and ``best.ckpt`` up to date.

    Args:
        folder: Where to.
        keep: ``chosen``: in the end only the chosen epoch. ``all``: every epoch, as ``epoch_0000.ckpt`` and so on.
        patience: Epochs after the chosen one before training stops; 0 = never.
    """

    def __init__(self, folder: Path, keep: Literal["chosen", "all"], patience: int) -> None:
        self.folder, self.keep, self.patience = folder, keep, patience
        self._copied: int | None = None

    def path(self, epoch: int) -> Path:
        """Where an epoch's weights lie."""
        return self.folder / f"epoch_{epoch:04d}.ckpt"

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AdaptationTask)  # noqa: S101  (the one task)
        trainer.save_checkpoint(self.path(trainer.current_epoch), weights_only=True)
        scores = pl_module.final_scores()
        if all(math.isnan(score) for score in scores):
            return  # nothing to choose yet; the run ends with an error if it stays so
        chosen = pl_module.chosen()
        if chosen != self._copied:
            _copy(self.path(chosen), self.folder / "best.ckpt")
            self._copied = chosen
        combines = pl_module.criteria[pl_module.selection].members
        if not combines:  # a score of its own does not change any more: the others have lost for good
            self._drop(chosen)
        if self.patience and trainer.current_epoch - chosen >= self.patience:
            trainer.should_stop = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, AdaptationTask)  # noqa: S101
        pl_module.chosen()  # raises if no epoch has a score
        if self.keep == "chosen":
            for path in self.folder.glob("epoch_*.ckpt"):
                path.unlink()

    def _drop(self, chosen: int) -> None:
        if self.keep == "chosen":
            for path in self.folder.glob("epoch_*.ckpt"):
                if path != self.path(chosen):
                    path.unlink()


def _copy(source: Path, place: Path) -> None:
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, place)


class EpochLine(Callback):
    """One line an epoch, for logs and notebooks, where a progress bar would fill pages."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        shown = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(("loss/", "select/"))}
        text = "  ".join(f"{name} {value:.4f}" for name, value in shown.items())
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {text}", flush=True)


@dataclass(frozen=True)
class Loggers:
    """Where metrics go.

    Attributes:
        csv: ``metrics.csv`` in the run directory.
        tensorboard: Event files in ``tensorboard/``.
    """

    csv: bool = True
    tensorboard: bool = True

    def build(self, folder: Path) -> list[Logger]:
        """Loggers that write into one run directory."""
        made: list[Logger] = []
        if self.csv:
            made.append(CSVLogger(folder, name="", version="", flush_logs_every_n_steps=10**9))
        if self.tensorboard:
            made.append(TensorBoardLogger(folder, name="", version="tensorboard"))
        return made


@dataclass(frozen=True)
class TrainerOptions:
    """How long and on what.

    Attributes:
        max_epochs: Epochs.
        accelerator: ``auto`` | ``cpu`` | ``gpu`` | ``mps``; one device.
        precision: ``fp32`` | ``bf16`` | ``fp16``; mixed precision is slower than fp32 on most CPUs.
        clip: Largest gradient norm; 0 = no clipping.
        accumulate: Batches per optimiser step.
        patience: Epochs without a better selection score before stopping; 0 = never stop early.
        keep: ``chosen``: the weights of the chosen epoch (and the last, to go on). ``all``: of every epoch.
        compile: ``torch.compile`` the network.
        progress: ``auto`` (a bar on a terminal, a line an epoch elsewhere) | ``bar`` | ``lines`` | ``none``.
    """

    max_epochs: int = 20
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    precision: Precision = "fp32"
    clip: float = 1.0
    accumulate: int = 1
    patience: int = 0
    keep: Literal["chosen", "all"] = "chosen"
    compile: bool = False
    progress: Literal["auto", "bar", "lines", "none"] = "auto"

    def build(self, folder: Path, loggers: list[Logger], learns_at_test: bool) -> tuple[pl.Trainer, Signals]:
        """The Lightning trainer of one run directory, and its signal catcher."""
        if self.precision == "fp16" and (self.accelerator == "cpu" or not torch.cuda.is_available()):
            raise ValueError("trainer.precision=fp16 needs a GPU; on this machine use fp32 or bf16")
        checkpoints = folder / "checkpoints"
        signals = Signals(checkpoints)
        _quiet()
        trainer = pl.Trainer(
            max_epochs=self.max_epochs,
            accelerator=self.accelerator,
            devices=1,
            precision=PRECISIONS[self.precision],
            gradient_clip_val=self.clip or None,
            accumulate_grad_batches=self.accumulate,
            callbacks=[
                signals,
                *self._progress(),
                Candidates(checkpoints, self.keep, self.patience),
                _last(checkpoints),
            ],
            plugins=[AtomicCheckpoints()],
            logger=loggers,
            log_every_n_steps=1,
            num_sanity_val_steps=0,
            enable_model_summary=False,
            enable_progress_bar=self._bar,
            inference_mode=not learns_at_test,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        return trainer, signals

    @property
    def _bar(self) -> bool:
        return self.progress == "bar" or (self.progress == "auto" and sys.stdout.isatty())

    def _progress(self) -> list[Callback]:
        if self.progress == "none":
            return []
        return [RichProgressBar()] if self._bar else [EpochLine()]


def _last(folder: Path) -> Callback:
    """Everything that a resumed run needs, each epoch."""
    return ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)


def _quiet() -> None:
    """Silence what is by design here; everything else is still heard."""
    import logging

    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*Experiment logs directory .* exists and is not empty.*",
        ".*does not have many workers.*",
        r".*Found \d+ module\(s\) in eval mode.*",  # a teacher, or a frozen copy
        ".*GPU available but not used.*",
        ".*You have overridden `transfer_batch_to_device`.*",
        ".*treespec, LeafSpec.*",  # Lightning 2.6 with torch 2.15
        ".*lr_scheduler.step.*before.*optimizer.step.*",
    ):
        warnings.filterwarnings("ignore", message=message)
