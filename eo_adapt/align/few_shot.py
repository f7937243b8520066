"""The baseline that naive transfer must beat: a handful of target labels and no source at all."""

from typing import ClassVar

from .base import Alignment
from .options import check_number


class FewShot(Alignment):
    """Trains on a few labelled target samples a class, drawn by the run's seed. Stamped ``uses_target_labels``.

    Args:
        shots: Labelled target samples a class; a class that has fewer gives all.
    """

    needs_target = True
    uses_target_labels: ClassVar[bool] = True

    def __init__(self, shots: int = 5) -> None:
        super().__init__()
        check_number("few_shot.shots", shots, least=1, whole=True)
        self.shots = shots
