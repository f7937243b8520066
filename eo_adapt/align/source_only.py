"""The baseline that every method is compared with: train on the sources, hope for the targets."""

from .base import Alignment


class SourceOnly(Alignment):
    """No alignment: the task loss on the sources alone."""

    def __init__(self) -> None:
        super().__init__()
