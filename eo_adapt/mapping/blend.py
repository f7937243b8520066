"""Answers of overlapping windows, averaged with a smooth weight in a band of rows that moves down the scene."""

from __future__ import annotations

import torch
from torch import Tensor

from .windows import Windows

LEAST = 1e-3  # weight of the outermost pixel: where one window alone answers, its answer must survive the division


def weight_of(tile: int, overlap: int) -> Tensor:
    """Weight of a window's pixels, (tile, tile) float32: 1 inside, a squared sine down to the edge along the overlap.

    Two neighbours that overlap by at most half a window add up to 1, but for ``LEAST``.
    """
    ramp = torch.ones(tile, dtype=torch.float64)
    reach = min(overlap, tile // 2)
    if reach:
        rise = torch.sin((torch.arange(reach, dtype=torch.float64) + 0.5) * torch.pi / (2 * reach)).square()
        ramp[:reach] = rise.clamp_min(LEAST)
        ramp[-reach:] = ramp[:reach].flip(0)
    return torch.outer(ramp, ramp).float()


class Blend:
    """Sums of weighted answers of as many rows as a window has: memory is O(width x tile), whatever the height.

    Answers are added in the order of the grid, rows of windows first, so that sums do not depend on where work began.

    Args:
        windows: The grid.
        channels: Numbers a pixel.
        device: Where sums are kept.
        first: Number of the row of windows to begin with.
    """

    def __init__(self, windows: Windows, channels: int, device: torch.device, first: int = 0) -> None:
        width = windows.columns[-1] + windows.tile
        self.windows, self.top = windows, windows.rows[first]
        self.weight = weight_of(windows.tile, windows.overlap).to(device)
        self.sums = torch.zeros(channels, windows.tile, width, device=device)
        self.weights = torch.zeros(windows.tile, width, device=device)
        self.seen = torch.zeros(windows.tile, width, dtype=torch.bool, device=device)

    def add(self, answers: Tensor, seen: Tensor, columns: tuple[int, ...]) -> None:
        """Windows of the row that begins at :attr:`top`.

        Args:
            answers: (B, C, tile, tile).
            seen: (B, tile, tile) bool, pixels that there are.
            columns: Where each begins.
        """
        weighted = answers.float() * self.weight
        for answer, there, left in zip(weighted, seen, columns, strict=True):
            at = slice(left, left + self.windows.tile)
            self.sums[:, :, at] += answer
            self.weights[:, at] += self.weight
            self.seen[:, at] |= there

    def take(self, until: int) -> tuple[Tensor, Tensor]:
        """Averages of the rows from :attr:`top` to ``until`` (not included), which then leave the buffer.

        Returns:
            (C, N, W) means, 0 where nothing was added, and (N, W) which pixels there are.
        """
        rows, width = until - self.top, self.windows.width
        weights = self.weights[:rows, :width]
        mean = self.sums[:, :rows, :width] / torch.where(weights > 0, weights, 1.0)
        seen = self.seen[:rows, :width].clone()
        for buffer in (self.sums, self.weights, self.seen):
            rest = buffer[..., rows:, :].clone()
            buffer[..., : rest.shape[-2], :] = rest
            buffer[..., rest.shape[-2] :, :] = 0
        self.top = until
        return mean, seen
