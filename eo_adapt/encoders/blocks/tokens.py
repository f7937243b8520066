"""Transformer layers over sets of tokens, some of which may be hidden."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Block(nn.Module):
    """Norm before attention and before the MLP, each with a shortcut (Vaswani et al. 2017, in ViT's order).

    Args:
        width: Size D of a token.
        heads: Number of heads.
        head_width: Size of a head's queries, keys and values.
        expand: Hidden size of the MLP as a multiple of D.
        dropout: After the attention's projection and after each layer of the MLP.
    """

    def __init__(self, width: int, heads: int, head_width: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.project = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, expand * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(expand * width, width),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(P, L, D) and the keys that may be looked at, (P, L) bool, at least one a row -> (P, L, D)."""
        query, key, value = self.qkv(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if seen is None else seen[:, None, None]
        found = F.scaled_dot_product_attention(query, key, value, mask)
        x = x + self.project(found.transpose(1, 2).flatten(2))
        out: Tensor = x + self.mlp(x)
        return out


class Tokens(nn.Module):
    """Blocks and a last norm."""

    def __init__(self, layers: int, width: int, heads: int, head_width: int, expand: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, head_width, expand, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, seen: Tensor | None = None) -> Tensor:
        """(P, L, D) and the keys that may be looked at -> (P, L, D)."""
        for block in self.blocks:
            x = block(x, seen)
        out: Tensor = self.norm(x)
        return out
