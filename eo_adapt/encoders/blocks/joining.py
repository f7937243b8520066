"""Joining the maps or vectors of several modalities, level by level, on the grid of the first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .static import same_size


class Join(nn.Module):
    """One level: concatenation and a projection; what a sample lacks is filled by a learned token.

    Vectors (B, D_m) go through Linear and LayerNorm, maps (B, D_m, H_m, W_m) are resized to the grid of the first and
    go through a 1 x 1 convolution (Garioud et al. 2025, FLAIR-HUB); a vector joins maps by being the same everywhere.

    Args:
        widths: Channels D_m of each modality.
        out: Channels of the result.
        maps: Whether the first modality gives maps.
        attention: Let the modalities of a sample (of a cell, for maps) look at each other before they are joined: one
            attention layer with ``heads`` heads over their projections to ``out`` channels.
        heads: Heads of the attention; ``out`` is a multiple.
    """

    def __init__(self, widths: Sequence[int], out: int, maps: bool, attention: bool = False, heads: int = 4) -> None:
        super().__init__()
        self.widths, self.maps = tuple(widths), maps
        self.tokens = nn.ParameterList(nn.Parameter(0.02 * torch.randn(width)) for width in widths)
        self.cross = Cross(widths, out, heads) if attention else None
        total = out * len(widths) if attention else sum(widths)
        if maps:
            self.project: nn.Module = nn.Conv2d(total, out, 1)
        else:
            self.project = nn.Sequential(nn.Linear(total, out), nn.LayerNorm(out))

    def forward(self, parts: Sequence[Tensor | None], present: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Maps or vectors of each modality, None where no sample has it, and present (B, M) -> (B, out, *grid)."""
        filled = [
            self._filled(part, token, present[:, i], grid)
            for i, (part, token) in enumerate(zip(parts, self.tokens, strict=True))
        ]
        if self.cross is not None:
            filled = self.cross(filled)
        joined: Tensor = self.project(torch.cat(filled, 1))
        return joined

    def _filled(self, part: Tensor | None, token: Tensor, present: Tensor, grid: tuple[int, ...]) -> Tensor:
        shape = (present.shape[0], len(token), *grid)
        blank = token.view(1, -1, *[1] * len(grid)).expand(shape)
        if part is None:
            return blank
        part = part[:, :, None, None].expand(shape) if grid and part.ndim == 2 else resized(part, grid)
        return torch.where(present.view(-1, *[1] * (len(shape) - 1)), part, blank.to(part.dtype))


class Cross(nn.Module):
    """Attention among the modalities of a sample or cell; the projections, each with what it saw added."""

    def __init__(self, widths: Sequence[int], out: int, heads: int) -> None:
        super().__init__()
        if out % heads:
            raise ValueError(f"encoder.out={out} must be a multiple of the {heads} heads of fuse=attention")
        self.heads = heads
        self.embed = nn.ModuleList(nn.Linear(width, out) for width in widths)  # their biases tell the modalities apart
        self.norm = nn.LayerNorm(out)
        self.look, self.finish = nn.Linear(out, 3 * out), nn.Linear(out, out)

    def forward(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """(B, D_m, *S) each -> (B, out, *S) each."""
        x = torch.stack([layer(part.movedim(1, -1)) for layer, part in zip(self.embed, parts, strict=True)], -2)
        query, key, value = (
            t.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for t in self.look(self.norm(x)).chunk(3, -1)
        )
        seen = F.scaled_dot_product_attention(query, key, value).transpose(-3, -2).flatten(-2)
        x = x + self.finish(seen)
        return [part.movedim(-1, 1) for part in x.unbind(-2)]


def resized(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Maps on another grid of the same extent, bilinear, pixel centres in place; vectors, grid (), as they are."""
    if not grid or same_size(x.shape[2:], grid):
        return x
    return F.interpolate(x, tuple(grid), mode="bilinear", align_corners=False)
