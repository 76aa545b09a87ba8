"""What stands between the frozen towers, of the kind that `model.connector.kind` names.

All kinds share LayerNorm in front and the linear map to the language model behind; in between they differ:

    tomeformer  linear -> BERT layers that merge similar tokens        (arXiv 2310.03291, section 3.2; tomeformer.py)
    qformer     transformers' Blip2QFormerModel with learned queries   (arXiv 2301.12597, section 3.1)
    perceiver   linear -> learned queries that look at the tokens      (Flamingo, arXiv 2204.14198, section 3.1.1; one
                layer of it is CoCa's attentional pooling, arXiv 2205.01917, section 3.2)
    linear      pooling alone
    mlp         linear -> GELU -> pooling

A kind of one's own is a module like these, a section in `evlgen.connector_config`, and a line in `_inner`.

Shapes: B batch, N visual tokens, D vision width, Q queries or tokens that leave, C channels inside, W language width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import LinearConfig, MlpConfig, PerceiverConfig, QFormerConfig, TomeFormerConfig
from evlgen.modeling.tomeformer import Connector, ConnectorOutput, TomeFormer, bert_tensors, load_bert

_QUERY_STD = 0.02


def build_parts(config: EVLGenConfig) -> tuple[nn.LayerNorm, nn.Module, Connector, nn.Linear]:
    """What a model calls `ln_vision`, `vl_proj`, `connector` and `lm_proj`; applied one after the other."""
    section, width = config.connector, config.vision.width
    inside = section.width_inside(width, config.language.width)
    norm = nn.LayerNorm(width)
    project = nn.Linear(width, inside) if section.projects else nn.Identity()
    return norm, project, _inner(config), nn.Linear(inside, config.language.width)


def _inner(config: EVLGenConfig) -> Connector:
    section = config.connector
    if isinstance(section, TomeFormerConfig):
        return TomeFormer(section, config.vision.tokens)
    if isinstance(section, QFormerConfig):
        return QFormer(section, config.vision.width)
    if isinstance(section, PerceiverConfig):
        return Perceiver(section)
    return Pooling(section)


class QFormer(Connector):
    """BLIP-2's Q-Former without the text branch of its first stage: learned queries, BERT layers on these.

    The visual tokens (B, N, D) are keys and values of the cross-attention in every `cross_every`-th layer.
    """

    def __init__(self, config: QFormerConfig, vision_width: int) -> None:
        super().__init__()
        from transformers import Blip2QFormerConfig, Blip2QFormerModel  # takes a second or two

        sizes: Any = Blip2QFormerConfig(
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate,
            hidden_dropout_prob=config.dropout,
            attention_probs_dropout_prob=config.dropout,
            cross_attention_frequency=config.cross_every,
            encoder_hidden_size=vision_width,
            use_qformer_text_input=False,
        )
        self.query_embeddings = _queries(config.queries, config.width)
        self.qformer: Any = Blip2QFormerModel(sizes)

    @property
    def layers(self) -> list[nn.Module]:
        """Its transformer layers."""
        return list(self.qformer.encoder.layer)

    def forward(self, x_BND: Tensor) -> ConnectorOutput:
        """The queries (B, Q, C) after the last layer."""
        queries = self.query_embeddings.expand(len(x_BND), -1, -1)
        return ConnectorOutput(self.qformer(query_embeds=queries, encoder_hidden_states=x_BND).last_hidden_state)


class _PerceiverLayer(nn.Module):
    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        width, inner, dropout = config.width, config.intermediate, config.dropout
        self.heads, self.see_queries = config.heads, config.see_queries
        self.norm_tokens, self.norm_queries = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width), nn.Dropout(dropout)
        ) if inner else None  # fmt: skip

    def forward(self, query_BQC: Tensor, x_BNC: Tensor) -> Tensor:
        query, seen = self.norm_queries(query_BQC), self.norm_tokens(x_BNC)
        if self.see_queries:
            seen = torch.cat([seen, query], dim=1)
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for y in (self.query(query), self.key(seen), self.value(seen))
        )
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout.p if self.training else 0.0)
        query_BQC = query_BQC + self.dropout(self.output(found.transpose(1, 2).flatten(-2)))
        return query_BQC if self.feed_forward is None else query_BQC + self.feed_forward(query_BQC)


class Perceiver(Connector):
    """Learned queries that look at all visual tokens (B, N, C) in every layer, LayerNorm in front of every branch.

    Flamingo's feed-forward network has squared ReLU, ours GELU like the other kinds; we have no embeddings of time.
    """

    def __init__(self, config: PerceiverConfig) -> None:
        super().__init__()
        self.query_embeddings = _queries(config.queries, config.width)
        self.layer = nn.ModuleList(_PerceiverLayer(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)

    @property
    def layers(self) -> list[nn.Module]:
        """Its layers."""
        return list(self.layer)

    def forward(self, x_BNC: Tensor) -> ConnectorOutput:
        """The queries (B, Q, C) after the last layer."""
        query_BQC = self.query_embeddings.expand(len(x_BNC), -1, -1)
        for layer in self.layer:
            query_BQC = layer(query_BQC, x_BNC)
        return ConnectorOutput(self.final_norm(query_BQC))


class Pooling(Connector):
    """Visual tokens (B, N, C), behind a GELU in an MLP, averaged in Q spans of their order, or as many as they are.

    The linear map behind it may as well come first: a mean of maps is the map of the mean.
    """

    def __init__(self, config: LinearConfig | MlpConfig) -> None:
        super().__init__()
        self.pool_to = config.pool_to
        self.activation = nn.GELU() if isinstance(config, MlpConfig) else nn.Identity()

    def forward(self, x_BNC: Tensor) -> ConnectorOutput:
        """Tokens (B, Q, C)."""
        x_BNC = self.activation(x_BNC)
        if self.pool_to is not None:
            x_BNC = F.adaptive_avg_pool1d(x_BNC.transpose(1, 2), self.pool_to).transpose(1, 2)
        return ConnectorOutput(x_BNC)


def _queries(queries: int, width: int) -> nn.Parameter:
    """Queries that begin apart from each other; alike they would stay alike. Embeddings by name: no weight decay."""
    return nn.Parameter(torch.empty(1, queries, width).normal_(std=_QUERY_STD))


def start_from_bert(connector: Connector, tensors: dict[str, Tensor]) -> list[str]:
    """Start a TomeFormer or a Q-Former from a BERT checkpoint of the same width.

    Returns:
        names of matrices that stayed at random and should not have; a Q-Former's cross-attention has none in BERT.
    """
    if isinstance(connector, QFormer):
        missing = _load_bert_into_qformer(connector, tensors)
    else:
        assert isinstance(connector, TomeFormer), "no other kind has a source"
        missing = load_bert(connector, tensors)
    return [name for name in missing if name.startswith("encoder.") and ".LayerNorm." not in name]


def _load_bert_into_qformer(connector: QFormer, tensors: dict[str, Tensor]) -> list[str]:
    tensors, missing = bert_tensors(tensors), []
    for name, value in connector.qformer.state_dict().items():
        theirs = name.replace(".attention.attention.", ".attention.self.").replace("_query.", ".")
        given = tensors.get(
            "embeddings.LayerNorm." + name.partition(".")[2] if name.startswith("layernorm") else theirs
        )
        if given is not None and given.shape == value.shape:
            value.copy_(given)
        elif ".crossattention." not in name:
            missing.append(name)
    return missing
