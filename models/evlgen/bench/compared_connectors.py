"""What stands between the two frozen towers, by itself: of any kind, at any r, and BLIP-2's Q-Former to compare with.

Shapes: B items, N visual tokens, D vision width, Q soft prompts, W language width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import QFormerConfig, TomeFormerConfig
from evlgen.modeling.connectors import build_parts
from evlgen.modeling.tomeformer import TomeFormer


def with_r(config: EVLGenConfig, r: int) -> EVLGenConfig:
    """The same model with r tokens merged in every layer."""
    return config.model_copy(update={"connector": config.connector.model_copy(update={"r": r})})


def with_qformer(config: EVLGenConfig) -> EVLGenConfig:
    """The same model with BLIP-2's Q-Former (12 layers, 32 queries) of TomeFormer's width in its place."""
    own = config.merging("a Q-Former of the connector's width")
    qformer = QFormerConfig(width=own.width, heads=own.heads, intermediate=own.intermediate)
    return config.model_copy(update={"connector": qformer})


def variants(config: EVLGenConfig, rs: Sequence[int]) -> dict[str, EVLGenConfig]:
    """What is compared, by name: TomeFormer at every r and a Q-Former; a connector of another kind stands alone."""
    if not isinstance(config.connector, TomeFormerConfig):
        return {config.connector.kind: config}
    return {**{f"r={r}": with_r(config, r) for r in rs}, "q-former": with_qformer(config)}


class Bridge(nn.Module):
    """What EVLGen trains on pictures: LayerNorm, projection, connector, projection; names are the model's own."""

    def __init__(self, config: EVLGenConfig) -> None:
        super().__init__()
        self.ln_vision, self.vl_proj, self.connector, self.lm_proj = build_parts(config)

    def merge(self, config: EVLGenConfig) -> None:
        """Where it is a TomeFormer, merge by this configuration's schedule from now on; weights do not depend on it."""
        if isinstance(self.connector, TomeFormer):
            self.connector.merge_as(config.merging("merge"))

    def forward(self, x_BND: Tensor) -> Tensor:
        """Soft prompts (B, Q, W) of visual tokens (B, N, D)."""
        prompts: Tensor = self.lm_proj(self.connector(self.vl_proj(self.ln_vision(x_BND))).tokens)
        return prompts
