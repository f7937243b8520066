"""What a training costs: seconds, forward passes, memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Meter:
    """Measures one training.

    Attributes:
        seconds: Wall-clock time inside :meth:`running`.
        forwards: Forward passes of the network in training mode, one domain each.
    """

    def __init__(self) -> None:
        self.seconds, self.forwards = 0.0, 0

    @contextmanager
    def running(self, model: nn.Module) -> Iterator[None]:
        """Measure what happens inside."""

        def count(module: nn.Module, *_: object) -> None:
            self.forwards += module.training

        hook, start = model.register_forward_hook(count), time.perf_counter()
        _forget_peak()
        try:
            yield
        finally:
            self.seconds = time.perf_counter() - start
            hook.remove()

    def peak_memory_mb(self) -> float:
        """Largest memory since :meth:`running` began: the accelerator's where there is one, else this process's.

        Where the system cannot forget an earlier peak (all but Linux), that of the whole process.
        """
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated() / 2**20
        if STATUS.exists():
            line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) / 2**10
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif RESET.exists():
        try:
            RESET.write_text("5")  # Linux: the peak starts anew at what is in use now
        except OSError:
            return  # not allowed in some containers: then the peak is that of the process
