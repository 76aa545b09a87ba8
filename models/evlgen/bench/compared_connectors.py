"""What stands between the two frozen towers, by itself: of any kind, at any r, and BLIP-2's Q-Former to compare with.

Shapes: B items, N visual tokens, D vision width, Q soft prompts, W language width.
"""

from __future__ import annotations

from torch import Tensor, nn

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import QFormerConfig
from evlgen.modeling.connectors import build_parts


def with_qformer(config: EVLGenConfig) -> EVLGenConfig:
    """The same model with BLIP-2's Q-Former (12 layers, 32 queries) of TomeFormer's width in its place."""
    own = config.merging("a Q-Former of the connector's width")
    qformer = QFormerConfig(width=own.width, heads=own.heads, intermediate=own.intermediate)
    return config.model_copy(update={"connector": qformer})


class Bridge(nn.Module):
    """What EVLGen trains on pictures: LayerNorm, projection, connector, projection; names are the model's own."""

    def __init__(self, config: EVLGenConfig) -> None:
        super().__init__()
        self.ln_vision, self.vl_proj, self.connector, self.lm_proj = build_parts(config)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Soft prompts (B, Q, W) of visual tokens (B, N, D)."""
        prompts: Tensor = self.lm_proj(self.connector(self.vl_proj(self.ln_vision(x_BND))).tokens)
        return prompts
