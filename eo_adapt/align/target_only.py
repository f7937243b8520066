"""The oracle: train on the target's own labels, the score that adaptation is aiming at."""

from typing import ClassVar

from .base import Alignment


class TargetOnly(Alignment):
    """Trains on target labels. An upper bound and never a method: results are stamped ``uses_target_labels``."""

    needs_target = True
    uses_target_labels: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
