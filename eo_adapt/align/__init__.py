"""Alignment modules. They import torch, the standard library and one another: copy this folder freely."""

from .base import Alignment, Step, View

__all__ = ["Alignment", "Step", "View"]
