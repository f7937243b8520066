"""Alignment modules. They import torch, the standard library and one another: copy this folder freely."""

from .base import Alignment, Setup, Step, View

__all__ = ["Alignment", "Setup", "Step", "View"]
