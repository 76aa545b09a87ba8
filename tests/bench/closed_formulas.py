"""FLOPs of connectors and language models in closed form, from their sizes alone.

What is counted is said in evlgen/bench/flops.py. A backward pass computes each product's gradients: twice the forward
pass where weights and inputs need them, once where the weights are frozen; attention always twice.

Letters: N tokens, D width, F width inside a feed-forward layer, T tokens of a sequence, P of a prefix, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import LinearConfig, PerceiverConfig, QFormerConfig, TomeFormerConfig


def connector_flops(config: EVLGenConfig, *, training: bool) -> int:
    """FLOPs of a connector of any kind with both linear maps around it, for the visual tokens of one pass."""
    if isinstance(config.connector, TomeFormerConfig):
        return tomeformer_flops(config, training=training)
    forward = (qformer_flops if isinstance(config.connector, QFormerConfig) else other_flops)(config)
    return 3 * forward if training else forward


def tomeformer_flops(config: EVLGenConfig, *, training: bool) -> int:
    """FLOPs of projection, TomeFormer and projection.

    In a layer, projections and attention see N tokens, then M = N - r remain for the feed-forward network. Matching
    compares ceil(N/2) with floor(N/2) keys of one head and needs no gradient; merging adds up rows and multiplies no
    matrices.
    """
    D, F, heads = config.connector.width, config.connector.intermediate, config.connector.heads
    n = config.vision.tokens
    trained, matching = 2 * n * config.vision.width * D, 0
    for m in config.tokens_per_layer():
        trained += 4 * 2 * n * D * D + 2 * 2 * n * n * D + 2 * 2 * m * D * F
        if m < n:
            matching += 2 * ((n + 1) // 2) * (n // 2) * (D // heads)
        n = m
    trained += 2 * n * D * config.language.width
    return (3 * trained if training else trained) + matching


def qformer_flops(config: EVLGenConfig) -> int:
    """FLOPs of a Q-Former and its projection (arXiv 2301.12597, section 3.1).

    All layers work on the queries; every `cross_every`-th also projects all visual tokens to keys and values.
    """
    own = config.connector
    D, F, n, q = own.width, own.intermediate, config.vision.tokens, own.queries
    layer = 4 * 2 * q * D * D + 2 * 2 * q * q * D + 2 * 2 * q * D * F
    cross = 2 * 2 * q * D * D + 2 * 2 * n * config.vision.width * D + 2 * 2 * q * n * D
    crossings = -(-own.layers // own.cross_every)
    return own.layers * layer + crossings * cross + 2 * q * D * config.language.width


def other_flops(config: EVLGenConfig) -> int:
    """FLOPs of a perceiver, whose queries see tokens and queries in every layer; of an MLP; of a linear map."""
    own, n, width = config.connector, config.vision.tokens, config.vision.width
    if isinstance(own, PerceiverConfig):
        D, F, q = own.width, own.intermediate, own.queries
        seen = n + q if own.see_queries else n
        layer = 2 * 2 * q * D * D + 2 * 2 * seen * D * D + 2 * 2 * q * seen * D + 2 * 2 * q * D * F
        return 2 * n * width * D + own.layers * layer + 2 * q * D * config.language.width
    pooled = own.pool_to or n
    if isinstance(own, LinearConfig):
        return 2 * pooled * width * config.language.width
    D = own.width or config.language.width
    return 2 * n * width * D + 2 * pooled * D * config.language.width


@dataclass(frozen=True)
class LanguageSizes:
    """What the FLOPs of a causal language model depend on.

    Attributes:
        weights: entries of all matrices that a token is multiplied with, the head left out.
        layers: how many.
        attention: heads x width of a head, over which queries meet keys.
        width: of the hidden states.
        vocabulary: rows of the head.
        trained: entries of `weights` that are trained (LoRA).
    """

    weights: int
    layers: int
    attention: int
    width: int
    vocabulary: int
    trained: int = 0

    @classmethod
    def of(cls, language: Any) -> LanguageSizes:
        """The sizes of a model."""
        body: Any = language.model.base_model
        shape: Any = language.model.config
        vocabulary, width = language.head_weight.shape
        heads = shape.num_attention_heads
        matrices = [part.weight for part in body.modules() if isinstance(part, nn.Linear)]
        return cls(
            weights=sum(weight.numel() for weight in matrices),
            layers=len(language.layers),
            attention=heads * (getattr(shape, "head_dim", None) or shape.hidden_size // heads),
            width=width,
            vocabulary=vocabulary,
            trained=sum(weight.numel() for weight in matrices if weight.requires_grad),
        )

    def body(self, tokens: int, seen: int) -> int:
        """Forward, of tokens that each look at `seen` tokens."""
        return 2 * tokens * self.weights + 4 * tokens * seen * self.attention * self.layers

    def head(self, tokens: int) -> int:
        """Forward, of predicted tokens."""
        return 2 * tokens * self.width * self.vocabulary


def language_step_flops(sizes: LanguageSizes, prefix: int, text_tokens: int) -> int:
    """FLOPs of a training step with one caption behind a prefix of P tokens: gradients of inputs and trained weights.

    Args:
        sizes: of the language model.
        prefix: P.
        text_tokens: of the caption, its end included; the end is predicted and never read.
    """
    T = prefix + text_tokens - 1
    attention = sizes.body(T, T) - sizes.body(T, 0)
    return 2 * sizes.body(T, 0) + 2 * T * sizes.trained + 3 * attention + 2 * sizes.head(text_tokens)


def language_caption_flops(sizes: LanguageSizes, prefix: int, new_tokens: int) -> int:
    """FLOPs of a greedy caption: the prefix, then one token a step with a key-value cache.

    Args:
        sizes: of the language model.
        prefix: P.
        new_tokens: of the caption; the last one is never read.
    """
    steps = sum(sizes.body(1, prefix + i) for i in range(1, new_tokens))
    return sizes.body(prefix, prefix) + steps + sizes.head(new_tokens)
