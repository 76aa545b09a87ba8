"""What autograd keeps of a trained connector and both linear maps around it, under autocast, for one pass of one item.

Norms see float32, matrices keep what they see. `evlgen.training.memory` says what is left out.

Letters: n visual tokens, or tokens that enter a layer, and m that leave it, q queries, D vision width, W width inside,
F width inside a feed-forward layer, H heads, b bytes of a number in the run's precision.
"""

from __future__ import annotations

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import MlpConfig, PerceiverConfig, QFormerConfig, TomeFormerConfig


def connector_bytes(model: EVLGenConfig, b: int) -> int:
    """Bytes of a pass of one item through the connector of any kind."""
    config, D, n = model.connector, model.vision.width, model.vision.tokens
    kept = n * (4 + b) * D  # what LayerNorm sees, and what it gives
    if isinstance(config, TomeFormerConfig):
        for m in model.tokens_per_layer():
            kept += _bert_layer(config, n, m, b)
            n = m
        return kept
    if isinstance(config, QFormerConfig):
        crossings = -(-config.layers // config.cross_every)
        layers = config.layers * _bert_layer(config, config.queries, config.queries, b)
        return kept + layers + crossings * _crossing(config, n, b)
    if isinstance(config, PerceiverConfig):
        return kept + n * b * config.width + config.layers * _perceiver_layer(config, n, b)
    inside = config.width_inside(D, model.language.width)
    gelu = 2 * n * b * inside if isinstance(config, MlpConfig) else 0
    return kept + gelu + (config.pool_to or 0) * b * inside


def _bert_layer(config: TomeFormerConfig | QFormerConfig, n: int, m: int, b: int) -> int:
    W, F = config.width, config.intermediate
    norms, dropout = 2 * 4 * W, 2 * W  # masks of one byte
    return n * (norms + dropout + 8 * b * W) + _probabilities(config, n, n, b) + m * 2 * b * F


def _crossing(config: QFormerConfig, n: int, b: int) -> int:
    W, q = config.width, config.queries
    return q * (4 * W + W + 3 * b * W) + 2 * n * b * W + _probabilities(config, q, n, b)


def _perceiver_layer(config: PerceiverConfig, n: int, b: int) -> int:
    """Keys and values keep what they see and what they are; without dropout fused attention keeps no probabilities."""
    W, q = config.width, config.queries
    seen = n + q if config.see_queries else n
    attention = q * (4 * W + W + 4 * b * W) + 3 * seen * b * W
    if config.dropout:
        attention += _probabilities(config, q, seen, b)
    feed_forward = q * (4 * W + W + b * W + 2 * b * config.intermediate) if config.intermediate else 0
    return attention + feed_forward


def _probabilities(config: TomeFormerConfig | QFormerConfig | PerceiverConfig, q: int, n: int, b: int) -> int:
    """Before and after dropout, and its mask."""
    return config.heads * q * n * (2 * b + 1)
