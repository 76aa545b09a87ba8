"""Temporal contextualization (arXiv 2310.03291, section 3.3): frames exchange information at each spatial position.

Queries and keys are linear maps; the value is the token itself, split over the heads; there is no output map. The
result times one gate, 0 at the start, is ADDED to the input, so an untrained video model is the image model.

Shapes: B batch, F frames, N tokens of a frame, D width of a token, H heads.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class TemporalContextualization(nn.Module):
    """Attention over the frames of a video, separately for every spatial position.

    Args:
        token_width: D; must be divisible by `heads`.
        width: width of queries and keys over all heads. Attention is scaled by width ** -0.5.
        heads: H.
    """

    def __init__(self, token_width: int, width: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.scale = width**-0.5
        self.query = nn.Linear(token_width, width)
        self.key = nn.Linear(token_width, width)
        self.alpha = nn.Parameter(torch.zeros(1))

    def _split(self, x_BFND: Tensor) -> Tensor:
        batch, frames, tokens, width = x_BFND.shape
        return x_BFND.view(batch, frames, tokens, self.heads, width // self.heads).permute(0, 2, 3, 1, 4)  # B N H F d

    def forward(self, x_BFND: Tensor) -> Tensor:
        """Return tokens of the same shape; equal to the input while the gate is 0."""
        q, k, v = self._split(self.query(x_BFND)), self._split(self.key(x_BFND)), self._split(x_BFND)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        y: Tensor = x_BFND + self.alpha * mixed.permute(0, 3, 1, 2, 4).flatten(-2)
        return y

    @torch.no_grad()
    def attention(self, x_BFND: Tensor) -> Tensor:
        """What each frame listens to: probabilities (B, N, H, F, F), rows sum to 1."""
        q, k = self._split(self.query(x_BFND)), self._split(self.key(x_BFND))
        p: Tensor = (q @ k.transpose(-1, -2) * self.scale).softmax(-1)
        return p
