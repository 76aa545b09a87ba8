"""TomeFormer, the connector (arXiv 2310.03291, section 3.2): BERT layers that merge similar tokens.

In each layer: self-attention with its residual, then r tokens merge (similarity of the keys), then the feed-forward
network. With r = 0 a layer is a BERT layer; parameters carry BERT's names, so its checkpoints load as they are.
`norm="pre"` moves each LayerNorm in front of its branch, for training from scratch on little data.

Shapes: B batch, N tokens, D width, H heads, M tokens that remain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.connector_config import TomeFormerConfig
from evlgen.modeling.merging import match_tokens, merge_limit, merge_tokens


@dataclass
class ConnectorOutput:
    """Tokens (B, M, D)."""

    tokens: Tensor


class Connector(nn.Module):
    """What any kind of connector is (`evlgen.modeling.connectors`): visual tokens in, a `ConnectorOutput` out."""

    @property
    def layers(self) -> list[nn.Module]:
        """Large parts that run one after the other, if it has any: fsdp gathers one at a time."""
        return []


@dataclass
class TomeFormerOutput(ConnectorOutput):
    """Tokens (B, M, D), their sizes (B, M), and for each layer the destination (B, N) of every token that came in.

    The destination is None where nothing merged.
    """

    sizes: Tensor
    destinations: list[Tensor | None] = field(default_factory=list)

    def groups(self) -> list[Tensor]:
        """For every layer, which of its outputs each of the connector's first tokens is part of by then: (B, N)."""
        first = next((one for one in self.destinations if one is not None), None)
        tokens = self.tokens.shape[1] if first is None else first.shape[1]
        place = torch.arange(tokens, device=self.tokens.device).expand(len(self.tokens), -1)
        found = []
        for destination in self.destinations:
            place = place if destination is None else destination.gather(1, place)
            found.append(place)
        return found


class _Projections(nn.Module):
    """Query, key and value of one attention (BERT's `attention.self`)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))


class _Residual(nn.Module):
    """The dense map at the end of a branch, and the LayerNorm that belongs to it (BERT's `output`)."""

    def __init__(self, inner: int, width: int, eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(inner, width)
        self.LayerNorm = nn.LayerNorm(width, eps=eps)


class _Attention(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.self = _Projections(width)
        self.output = _Residual(width, width, eps)


class _Intermediate(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, inner)


class TomeFormerLayer(nn.Module):
    """One layer; `r` tokens fewer come out than went in."""

    def __init__(self, config: TomeFormerConfig, r: int) -> None:
        super().__init__()
        self.config, self.r = config, r
        width, eps = config.width, config.layer_norm_eps
        self.attention = _Attention(width, eps)
        self.intermediate = _Intermediate(width, config.intermediate)
        self.output = _Residual(config.intermediate, width, eps)
        self.dropout = nn.Dropout(config.dropout)

    def _heads(self, x_BND: Tensor) -> Tensor:
        batch, tokens, width = x_BND.shape
        return x_BND.view(batch, tokens, self.config.heads, width // self.config.heads).transpose(1, 2)

    def _attend(self, x_BND: Tensor, size_BN: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.attention.self
        q, k, v = (self._heads(linear(x_BND)) for linear in (maps.query, maps.key, maps.value))
        bias = size_BN.log().to(q.dtype)[:, None, None, :] if self.config.proportional_attention else None
        drop = self.config.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=drop).transpose(1, 2).flatten(-2)
        attended: Tensor = self.dropout(self.attention.output.dense(y))
        return attended, k.mean(dim=1)

    def _feed_forward(self, x_BND: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.output.dense(F.gelu(self.intermediate.dense(x_BND))))
        return y

    def reduce(
        self, x_BND: Tensor, size_BN: Tensor, metric_BND: Tensor, r: int
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Make r tokens fewer; what `forward` returns, in front of the feed-forward network.

        Args:
            x_BND: tokens, behind attention.
            size_BN: of how many first tokens each is the mean.
            metric_BND: what their similarity is taken of, the keys of the attention.
            r: how many fewer tokens come out, at most `merge_limit` of them.
        """
        destination = match_tokens(metric_BND, r, protect_first=self.config.protect_first)
        weighted = self.config.size_weighted
        return *merge_tokens(x_BND, size_BN, destination, x_BND.shape[1] - r, size_weighted=weighted), destination

    def forward(self, x_BND: Tensor, size_BN: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return tokens (B, M, D), sizes (B, M) and the destinations (B, N), or None where nothing merged."""
        norm1, norm2 = self.attention.output.LayerNorm, self.output.LayerNorm
        pre = self.config.norm == "pre"
        attended, metric_BND = self._attend(norm1(x_BND) if pre else x_BND, size_BN)
        x_BND = x_BND + attended if pre else norm1(x_BND + attended)
        r, destination = min(self.r, merge_limit(x_BND.shape[1])), None
        if r > 0:
            x_BND, size_BN, destination = self.reduce(x_BND, size_BN, metric_BND, r)
        x_BND = x_BND + self._feed_forward(norm2(x_BND)) if pre else norm2(x_BND + self._feed_forward(x_BND))
        return x_BND, size_BN, destination


class _Embeddings(nn.Module):
    def __init__(self, config: TomeFormerConfig, tokens: int) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(tokens, config.width)
        self.token_type_embeddings = nn.Embedding(2, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)

    def forward(self, x_BND: Tensor) -> Tensor:
        x_BND = x_BND + self.position_embeddings.weight[: x_BND.shape[1]] + self.token_type_embeddings.weight[0]
        y: Tensor = self.LayerNorm(x_BND)
        return y


class _Encoder(nn.Module):
    def __init__(self, config: TomeFormerConfig) -> None:
        super().__init__()
        self.layers = [TomeFormerLayer(config, r) for r in config.schedule()]
        self.layer = nn.ModuleList(self.layers)


class TomeFormer(Connector):
    """Position embeddings, then merging layers; no word embeddings and no pooler.

    Args:
        config: sizes and the r schedule.
        tokens: how many tokens come in (the number of learned positions).
    """

    def __init__(self, config: TomeFormerConfig, tokens: int) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config, tokens)
        self.dropout = nn.Dropout(config.dropout)
        self.encoder = _Encoder(config)
        if config.norm == "pre":
            self.final_norm = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.apply(_initialise)

    @property
    def layers(self) -> list[nn.Module]:
        """Its layers."""
        return list(self.encoder.layers)

    def merge_as(self, config: TomeFormerConfig) -> None:
        """Merge by the schedule of another configuration from now on; weights do not depend on it."""
        self.config = config
        for layer, r in zip(self.encoder.layers, config.schedule(), strict=True):
            layer.config, layer.r = config, r

    def forward(self, x_BND: Tensor) -> TomeFormerOutput:
        """Contextualize and merge projected visual tokens (B, N, D)."""
        x_BND = self.dropout(self.embeddings(x_BND))
        sizes = torch.ones(x_BND.shape[:2], dtype=torch.promote_types(x_BND.dtype, torch.float32), device=x_BND.device)
        out = TomeFormerOutput(x_BND, sizes)
        for layer in self.encoder.layers:
            out.tokens, out.sizes, destination = layer(out.tokens, out.sizes)
            out.destinations.append(destination)
        if self.config.norm == "pre":
            out.tokens = self.final_norm(out.tokens)
        return out


def _initialise(module: nn.Module) -> None:
    """BERT's initialisation: normal weights of standard deviation 0.02, zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def load_bert(connector: TomeFormer, tensors: dict[str, Tensor]) -> list[str]:
    """Start a connector from a BERT checkpoint of the same width; returns the names that stayed at random.

    Position embeddings are cut to the connector's length; word embeddings and pooler are left out. LayerNorms of a
    pre-norm connector sit elsewhere than BERT's, so they keep their identity start. LayerNorms have either spelling:
    the files of bert-base-uncased still say gamma and beta.
    """
    tensors = bert_tensors(tensors)
    own = connector.state_dict()
    missing: list[str] = []
    for name, value in own.items():
        given = tensors.get(name)
        if given is None or (connector.config.norm == "pre" and ".LayerNorm" in name):
            missing.append(name)
        elif "position_embeddings" in name and given.shape[1] == value.shape[1]:
            value[: min(len(value), len(given))] = given[: len(value)].to(value.dtype)
        elif given.shape == value.shape:
            value.copy_(given)
        else:
            missing.append(name)
    return missing


def bert_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a BERT checkpoint under the names of transformers' BertModel, whatever its LayerNorms are called."""
    found = {}
    for name, tensor in tensors.items():
        name = re.sub(r"(?<=\.LayerNorm\.)gamma$", "weight", name.removeprefix("bert."))
        found[re.sub(r"(?<=\.LayerNorm\.)beta$", "bias", name)] = tensor
    return found
