"""TSViT: a transformer over the dates of every patch, then one over the patches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..types import Features, Inputs
from .blocks.days import DayEncoding, Position
from .blocks.frames import dates_only, seen_cells
from .blocks.static import exporting
from .blocks.tokens import Tokens
from .series import SeriesEncoder


class TSViT(SeriesEncoder):
    """TSViT (Tarasiou et al. 2023, "ViTs for SITS", arXiv:2301.04944).

    Learned tokens attend to the dates of each patch; then, token by token, patches attend to each other. The paper has
    one token a class and reads each class off its own token; an encoder does not know the classes, so that here each
    token gives ``out`` channels of one map, which any head reads.

    Deviations: dates are coded on the year circle or on a line (theirs: a learned vector for each of 366 days);
    padding, clouds and missing dates are hidden from the attention (theirs attends to them, so that the output depends
    on the padding); images of another size than ``size`` get their positions by bilinear interpolation.

    Args:
        sensors: The data's sensors, name -> number of bands.
        sensor: The sensor to read; "auto" takes the only one.
        patch: Side of a patch in pixels; the stride of the map.
        width: Size of a token.
        tokens: Learned tokens; the paper takes the number of classes.
        out: Channels that each token gives; the map has ``tokens * out``.
        temporal_layers: Layers over dates.
        spatial_layers: Layers over patches.
        heads: Attention heads.
        head_width: Size of a head.
        expand: Hidden size of the MLPs as a multiple of ``width``.
        dropout: Inside the layers.
        size: Side in pixels of the images whose positions are learned, a multiple of ``patch``.
        position: What the code of a date reads: "doy" (circle), "days" or "gdd" (lines).
        tau: Longest wavelength / (2 pi) on a line; None is 1,000 for days and 10,000 for gdd.

    Raises:
        LookupError: If the sensor is not among the data's.
        ValueError: If ``size`` is no multiple of ``patch``, or a number is below 1.
    """

    def __init__(
        self,
        sensors: Mapping[str, int],
        sensor: str = "auto",
        patch: int = 2,
        width: int = 128,
        tokens: int = 19,
        out: int = 8,
        temporal_layers: int = 4,
        spatial_layers: int = 4,
        heads: int = 4,
        head_width: int = 32,
        expand: int = 4,
        dropout: float = 0.0,
        size: int = 24,
        position: Position = "doy",
        tau: float | None = None,
    ) -> None:
        super().__init__(sensors, sensor)
        if min(patch, width, tokens, out, heads, head_width, expand) < 1:
            raise ValueError("encoder.patch, width, tokens, out, heads, head_width and expand must be at least 1")
        if size < patch or size % patch:
            raise ValueError(f"encoder.size must be a multiple of encoder.patch, {patch}; got {size}")
        self.channels, self.strides, self.step, self.least = (tokens * out,), (patch,), patch, patch
        self.code = DayEncoding(width, position, tau)
        self.embed = nn.Linear(self.bands * patch**2, width)
        self.tokens = nn.Parameter(torch.randn(tokens, width))
        self.places = nn.Parameter(torch.randn(width, size // patch, size // patch))
        self.temporal = Tokens(temporal_layers, width, heads, head_width, expand, dropout)
        self.spatial = Tokens(spatial_layers, width, heads, head_width, expand, dropout)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))

    def forward(self, inputs: Inputs) -> Features:
        """One map (B, tokens * out, H / patch, W / patch)."""
        observation = self.look(inputs)
        values, patch = observation.values, self.step
        batch, _, _, height, width = values.shape
        height, width = height // patch, width // patch
        x = values.unflatten(4, (width, patch)).unflatten(3, (height, patch)).permute(0, 3, 5, 1, 4, 6, 2)
        code = self.code(dates_only(observation))[:, None, None]
        x = (self.embed(x.flatten(4)) + code).flatten(0, 2)  # (B h w, T, D)
        seen = seen_cells(observation, patch).permute(0, 2, 3, 1).flatten(0, 2)
        x = self._classes(x, seen).unflatten(0, (batch, height * width)).transpose(1, 2)  # (B, K, h w, D)
        x = self.spatial((x + self._places(height, width)).flatten(0, 1))
        x = self.last(x).unflatten(0, (batch, -1)).unflatten(2, (height, width))
        return Features((x.permute(0, 1, 4, 2, 3).flatten(1, 2),))

    def _classes(self, x: Tensor, seen: Tensor) -> Tensor:
        """What the learned tokens made of the dates (P, T, D) that are seen (P, T): (P, K, D)."""
        tokens = self.tokens.to(x.dtype).expand(x.shape[0], -1, -1)
        seen = torch.cat([seen.new_ones(tokens.shape[:2]), seen], 1)
        out: Tensor = self.temporal(torch.cat([tokens, x], 1), seen)[:, : len(self.tokens)]
        return out

    def _places(self, height: int, width: int) -> Tensor:
        """Learned positions of h x w patches, (h w, D)."""
        places: Tensor = self.places
        if exporting() or places.shape[1:] != (height, width):  # to the same size it changes nothing
            places = F.interpolate(places[None], (height, width), mode="bilinear", align_corners=False)[0]
        return places.flatten(1).T
