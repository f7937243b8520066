"""What kind of shift separates source and target domains, before any training, with the number behind each sentence."""

from .core import Diagnosis, TargetDiagnosis, diagnose
from .rules import Finding

__all__ = ["Diagnosis", "Finding", "TargetDiagnosis", "diagnose"]
