"""eo_adapt: move Earth-observation models to places, seasons and sensors they were not trained on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exporting.predictor import Predictor

__version__ = "0.1.0"


def load(path: Path | str, domain: str | None = None, device: str = "cpu") -> Predictor:
    """A ready predictor of an exported folder or file, or of a run directory; imports torch only now.

    Args:
        path: What ``python -m eo_adapt.export`` made, or a run directory.
        domain: Whose network of a run; None = the only target.
        device: Where to run.
    """
    from .exporting.predictor import load as load_predictor

    return load_predictor(path, domain, device)
