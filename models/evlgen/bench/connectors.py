"""What stands between the two frozen towers: EVLGen's connector by itself, and BLIP-2's in its place.

Shapes: B items, N visual tokens, D vision width, Q soft prompts, W language width.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn

from evlgen.configuration import EVLGenConfig
from evlgen.modeling.tomeformer import TomeFormer

QUERIES, QFORMER_LAYERS, CROSS_EVERY = 32, 12, 2
"""BLIP-2 (arXiv 2301.12597, section 3.1)."""


def with_r(config: EVLGenConfig, r: int) -> EVLGenConfig:
    """The same model with r tokens merged in every layer."""
    return config.model_copy(update={"connector": config.connector.model_copy(update={"r": r})})


class Connector(nn.Module):
    """What EVLGen trains on pictures: LayerNorm, projection, TomeFormer, projection; names are the model's own."""

    def __init__(self, config: EVLGenConfig) -> None:
        super().__init__()
        self.ln_vision = nn.LayerNorm(config.vision.width)
        self.vl_proj = nn.Linear(config.vision.width, config.connector.width)
        self.connector = TomeFormer(config.connector, config.vision.tokens)
        self.lm_proj = nn.Linear(config.connector.width, config.language.width)

    def merge(self, config: EVLGenConfig) -> None:
        """Merge by the schedule of another configuration from now on; weights do not depend on it."""
        self.connector.merge_as(config.connector)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Soft prompts (B, Q, W) of visual tokens (B, N, D)."""
        prompts: Tensor = self.lm_proj(self.connector(self.vl_proj(self.ln_vision(x_BND))).tokens)
        return prompts


class QFormer(nn.Module):
    """What BLIP-2's second stage has in the same place: LayerNorm, Q-Former of the same width, projection.

    32 queries, 12 layers, cross attention in every second one; the text branch of its first stage is not there.
    """

    def __init__(self, config: EVLGenConfig) -> None:
        super().__init__()
        sizes: Any = transformers.Blip2QFormerConfig(
            hidden_size=config.connector.width,
            num_hidden_layers=QFORMER_LAYERS,
            num_attention_heads=config.connector.heads,
            intermediate_size=config.connector.intermediate,
            cross_attention_frequency=CROSS_EVERY,
            encoder_hidden_size=config.vision.width,
            use_qformer_text_input=False,
        )
        self.ln_vision = nn.LayerNorm(config.vision.width)
        self.query_tokens = nn.Parameter(torch.zeros(1, QUERIES, config.connector.width))
        self.qformer: Any = transformers.Blip2QFormerModel(sizes)
        self.lm_proj = nn.Linear(config.connector.width, config.language.width)

    def forward(self, x_BND: Tensor) -> Tensor:
        """Soft prompts (B, 32, W) of visual tokens (B, N, D)."""
        found = self.qformer(
            query_embeds=self.query_tokens.expand(len(x_BND), -1, -1), encoder_hidden_states=self.ln_vision(x_BND)
        )
        prompts: Tensor = self.lm_proj(found.last_hidden_state)
        return prompts
