"""How a scene is mapped: all options in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .answer import Answer, Precision
from .blocks import SCHEDULERS


@dataclass(frozen=True)
class Settings:
    """How a scene is mapped.

    Attributes:
        tile: Side of a window, pixels; 0 = 512, of series 128.
        overlap: Pixels that neighbours share; None = an eighth of a window.
        batch: Windows at once; 0 = 16 on GPUs, else 4.
        probabilities: Whether to write those of all classes, too.
        entropy: Whether to write the entropy, too, as a share of that of equal probabilities.
        tta: Views of each window: ``none``, ``flips``, ``d4``.
        scales: Magnifications of each window.
        precision: ``auto`` (bf16 on GPUs), ``fp32``, ``bf16``.
        device: ``auto``, ``cpu``, ``cuda``, or several such as ``cuda:0,cuda:1`` for several workers.
        readers: Threads that read.
        resample: How to bring files onto the grid that fits; "" = refuse those that do not; ``keep`` = pixels of
            another size are read as they lie.
        year: Of the labels, for series; 0 = the year of most dates.
        bands: Names of the files' bands; () = as the files say.
        adapt: ``none``, ``tent``, ``adabn``, ``label_shift``: what is learnt from the scene before it is mapped.
        adapt_windows: Windows that it is learnt from, spread over the scene.
        scheduler: ``none`` = in this process; ``threads``, ``processes`` or the address of a Dask scheduler.
        workers: Of this machine, for Dask.
        overwrite: Whether a map that is there may be replaced.
    """

    tile: int = 0
    overlap: int | None = None
    batch: int = 0
    probabilities: bool = False
    entropy: bool = False
    tta: str = "none"
    scales: Sequence[float] = (1.0,)
    precision: Precision = "auto"
    device: str = "auto"
    readers: int = 2
    resample: str = ""
    year: int = 0
    bands: Any = ()
    adapt: str = "none"
    adapt_windows: int = 64
    scheduler: str = "none"
    workers: int = 2
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.tile < 0 or self.batch < 0 or self.readers < 1 or self.workers < 1 or self.adapt_windows < 1:
            raise ValueError(
                "tile and batch are at least 0 (0 = chosen), readers, workers and adapt_windows at least 1; got "
                f"tile={self.tile}, batch={self.batch}, readers={self.readers}, workers={self.workers}, "
                f"adapt_windows={self.adapt_windows}"
            )
        if self.scheduler not in SCHEDULERS and "://" not in self.scheduler:
            raise ValueError(
                f"scheduler is one of {list(SCHEDULERS)} or an address such as tcp://host:8786; got {self.scheduler!r}"
            )
        if self.scheduler in SCHEDULERS:  # another computer may have what this one lacks
            check_devices(self.devices)
        Answer(lambda inputs: torch.zeros(0), 1.0, self.tta, self.scales, self.precision)  # says what is wrong

    @property
    def devices(self) -> tuple[str, ...]:
        """Where networks run; ``auto`` is a GPU where there is one."""
        if self.device == "auto":
            return ("cuda" if torch.cuda.is_available() else "cpu",)
        return tuple(part.strip() for part in self.device.split(","))


def check_devices(names: Sequence[str]) -> None:
    """Refuse devices that this computer has not.

    Raises:
        ValueError: Naming the first one, and what there is.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for name in names:
        try:
            device = torch.device(name)
        except RuntimeError as error:
            raise ValueError(f"device is auto, cpu, cuda, or several as cuda:0,cuda:1; got {name!r}") from error
        if device.type == "cuda" and (device.index or 0) >= found:
            there = f"{found} GPU{'s' if found > 1 else ''}" if found else "no GPU"
            raise ValueError(f"device={name}, but torch {torch.__version__} sees {there} here: set device=auto or cpu")
