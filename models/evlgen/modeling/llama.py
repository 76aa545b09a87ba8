"""A Llama decoder for inference: the layers of transformers' `LlamaModel` with little around them.

A step of a search runs a hundred small matrix products, and what stands around them costs as much as they do. Here
queries, keys and values are one product, gate and up another; the query heads that share a key head are rows of one
attention; the cache is written in place. Adapters (LoRA) are added to the matrices when these are read. Outputs equal
transformers' but for the order of additions, until `halve_matrices`. No gradients, no quantized layers: those run
through transformers.

Shapes: B items, T tokens, C columns of the cache, W width, H query heads, G of them to a key head, K key heads,
D width of a head, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.modeling.half_matrices import HalfMatrix, halved, product

FIRST_COLUMNS = 64
MOST_PLAIN_ROWS = 64
"""Rows of one attention in a step of a search: continuations times the query heads that share a key head."""


@dataclass(frozen=True)
class LlamaShape:
    """Sizes of a Llama model, by the names of its config.json.

    Attributes:
        hidden_size: W.
        intermediate_size: width of the MLP.
        num_attention_heads: H.
        num_key_value_heads: K.
        head_dim: D.
        vocab_size: V.
        rms_norm_eps: epsilon of its norms.
        rope_theta: base of its rotary positions (arXiv 2104.09864).
        max_position_embeddings: most tokens.
        layers: the numbers of its layers, in their order.
    """

    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    rms_norm_eps: float
    rope_theta: float
    max_position_embeddings: int
    layers: tuple[int, ...]

    @classmethod
    def read(cls, settings: Mapping[str, Any], kept_layers: list[int] | None) -> LlamaShape | None:
        """The shape that a config.json describes; None where it is no plain Llama model.

        Args:
            settings: the file's content.
            kept_layers: of its layers, or None for all.
        """
        rope = settings.get("rope_parameters") or {}
        plain = {
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "rope_scaling": None,
        }
        if any(settings.get(key, value) != value for key, value in plain.items()) or "model_type" not in settings:
            return None
        if rope.get("rope_type", "default") != "default" or settings.get("quantization_config"):
            return None
        heads, width = settings["num_attention_heads"], settings["hidden_size"]
        return cls(
            hidden_size=width,
            intermediate_size=settings["intermediate_size"],
            num_attention_heads=heads,
            num_key_value_heads=settings.get("num_key_value_heads") or heads,
            head_dim=settings.get("head_dim") or width // heads,
            vocab_size=settings["vocab_size"],
            rms_norm_eps=settings.get("rms_norm_eps", 1e-6),
            rope_theta=rope.get("rope_theta") or settings.get("rope_theta") or 10_000.0,
            max_position_embeddings=settings.get("max_position_embeddings", 2048),
            layers=tuple(kept_layers or range(settings["num_hidden_layers"])),
        )


class KeyValueCache:
    """Keys and values of all layers, (B, K, C, D) each, with room for more columns.

    Args:
        layers: how many.
    """

    def __init__(self, layers: int) -> None:
        self._stored: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._lengths = [0] * layers

    def append(self, layer: int, keys_BKTD: Tensor, values_BKTD: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, the given ones last."""
        start = self._lengths[layer]
        end = self._lengths[layer] = start + keys_BKTD.shape[2]
        stored = self._stored[layer]
        if stored is None or stored[0].shape[2] < end:
            wider = [
                part.new_empty(*part.shape[:2], 2 * end + FIRST_COLUMNS, part.shape[3])
                for part in (keys_BKTD, values_BKTD)
            ]
            if stored is not None:
                for new, old in zip(wider, stored, strict=True):
                    new[:, :, :start] = old[:, :, :start]
            stored = self._stored[layer] = (wider[0], wider[1])
        keys, values = stored
        keys[:, :, start:end] = keys_BKTD
        values[:, :, start:end] = values_BKTD
        return keys[:, :, :end], values[:, :, :end]

    def batch_select_indices(self, items: Tensor) -> None:
        """Go on with these items of the batch only; the name is that of transformers' caches."""
        self._stored = [None if stored is None else (stored[0][items], stored[1][items]) for stored in self._stored]


@dataclass(frozen=True)
class _Step:
    """What all layers of one pass have in common: rotation, mask and cache."""

    cos: Tensor
    sin: Tensor
    bias: Tensor | None
    cache: KeyValueCache | None


class LlamaLayer(nn.Module):
    """One pre-norm layer: attention with rotary positions and shared key heads, then a gated MLP."""

    def __init__(self, shape: LlamaShape, number: int) -> None:
        super().__init__()
        width, dim = shape.hidden_size, shape.head_dim
        self.shape, self.number = shape, number
        self.heads, self.key_heads = shape.num_attention_heads, shape.num_key_value_heads
        self.attention_norm = nn.Parameter(torch.empty(width))
        self.qkv: Tensor | HalfMatrix = nn.Parameter(torch.empty((self.heads + 2 * self.key_heads) * dim, width))
        self.out: Tensor | HalfMatrix = nn.Parameter(torch.empty(width, self.heads * dim))
        self.mlp_norm = nn.Parameter(torch.empty(width))
        self.gate_up: Tensor | HalfMatrix = nn.Parameter(torch.empty(2 * shape.intermediate_size, width))
        self.down: Tensor | HalfMatrix = nn.Parameter(torch.empty(width, shape.intermediate_size))

    def forward(self, x_BTW: Tensor, step: _Step) -> Tensor:
        """Hidden states behind the layer (B, T, W)."""
        batch, tokens, width = x_BTW.shape
        both, groups = self.heads + self.key_heads, self.heads // self.key_heads
        normed = F.rms_norm(x_BTW, (width,), self.attention_norm, self.shape.rms_norm_eps)
        qkv = product(normed, self.qkv).view(batch, tokens, both + self.key_heads, -1)
        turned = qkv[:, :, :both]
        turned = torch.addcmul(turned * step.cos, turned.roll(self.shape.head_dim // 2, -1), step.sin)
        keys, values = turned[:, :, self.heads :].transpose(1, 2), qkv[:, :, both:].transpose(1, 2)
        if step.cache is not None:
            keys, values = step.cache.append(self.number, keys, values)
        query = turned[:, :, : self.heads].view(batch, tokens, self.key_heads, groups, -1)
        query = query.permute(0, 2, 3, 1, 4).reshape(batch, self.key_heads, groups * tokens, -1)
        found = _attention(query, keys, values, step.bias)
        found = found.view(batch, self.key_heads, groups, tokens, -1).permute(0, 3, 1, 2, 4)
        x_BTW = x_BTW + product(found.reshape(batch, tokens, -1), self.out)
        normed = F.rms_norm(x_BTW, (width,), self.mlp_norm, self.shape.rms_norm_eps)
        gate, up = product(normed, self.gate_up).chunk(2, dim=-1)
        return x_BTW + product(F.silu(gate).mul_(up), self.down)


def _attention(query_BKRD: Tensor, keys_BKCD: Tensor, values_BKCD: Tensor, bias_B1RC: Tensor | None) -> Tensor:
    """Attention (B, K, R, D) of R rows; few rows in plain products, where torch's kernel costs three times as much."""
    if query_BKRD.shape[2] > MOST_PLAIN_ROWS:
        return F.scaled_dot_product_attention(query_BKRD, keys_BKCD, values_BKCD, attn_mask=bias_B1RC)
    scores = torch.matmul(query_BKRD.float(), keys_BKCD.float().transpose(2, 3)).mul_(query_BKRD.shape[3] ** -0.5)
    if bias_B1RC is not None:
        scores += bias_B1RC
    return torch.matmul(scores.softmax(-1), values_BKCD.float()).to(query_BKRD.dtype)


class LlamaDecoder(nn.Module):
    """Embeddings, layers, last norm and head.

    Args:
        shape: its sizes.
    """

    def __init__(self, shape: LlamaShape) -> None:
        super().__init__()
        self.shape = shape
        self.embeddings = nn.Parameter(torch.empty(shape.vocab_size, shape.hidden_size))
        self.layers = nn.ModuleList(LlamaLayer(shape, number) for number in range(len(shape.layers)))
        self.norm = nn.Parameter(torch.empty(shape.hidden_size))
        self.head: Tensor = self.embeddings
        self._head_matrix: Tensor | HalfMatrix | None = None
        half = torch.arange(0, shape.head_dim, 2, device="cpu").float() / shape.head_dim
        self.register_buffer("inv_freq", 1.0 / shape.rope_theta**half, persistent=False)
        self.inv_freq: Tensor

    @classmethod
    def read(cls, shape: LlamaShape, tensor: Callable[[str], Tensor | None], dtype: torch.dtype) -> LlamaDecoder:
        """A decoder with weights.

        Args:
            shape: its sizes.
            tensor: gives a matrix by the name that transformers' `LlamaForCausalLM` has for it, or None.
            dtype: of the weights.

        Raises:
            KeyError: a matrix is missing or of another shape; its name is the argument.
        """
        with torch.device("meta"):
            decoder = cls(shape)

        def read(size: torch.Size, *names: str) -> nn.Parameter:
            parts = []
            for name in names:
                if (part := tensor(f"{name}.weight")) is None:
                    raise KeyError(f"{name}.weight")
                parts.append(part.to(dtype))
            whole = parts[0] if len(parts) == 1 else torch.cat(parts)
            if whole.shape != size:
                raise KeyError(f"{names[0]}.weight")
            return nn.Parameter(whole, requires_grad=False)

        body = "model"
        decoder.embeddings = read(decoder.embeddings.shape, f"{body}.embed_tokens")
        decoder.norm = read(decoder.norm.shape, f"{body}.norm")
        untied = tensor("lm_head.weight") is not None
        decoder.head = read(decoder.embeddings.shape, "lm_head") if untied else decoder.embeddings
        for layer, number in zip(decoder.layers, shape.layers, strict=True):
            for own, names in _NAMES.items():
                setattr(layer, own, read(getattr(layer, own).shape, *(f"{body}.layers.{number}.{n}" for n in names)))
        half = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        decoder.inv_freq = 1.0 / shape.rope_theta**half
        return decoder.eval()

    def halve_matrices(self) -> None:
        """Keep the matrices that rows are multiplied with in float16; embeddings and norms stay."""
        places = [(layer, name) for layer in self.layers for name in ("qkv", "out", "gate_up", "down")]

        def halve(place: tuple[Any, str]) -> None:
            layer, name = place
            matrix = halved(getattr(layer, name))
            delattr(layer, name)
            setattr(layer, name, matrix)

        with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # each is packed in one thread, in a second or two
            head = threads.submit(halved, self.head)
            list(threads.map(halve, places))
            self._head_matrix = head.result()

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V) of last hidden states (..., W)."""
        return product(hidden, self.head if self._head_matrix is None else self._head_matrix)

    def forward(
        self, x_BTW: Tensor, bias_B1TC: Tensor | None, positions_BT: Tensor, cache: KeyValueCache | None = None
    ) -> Tensor:
        """Last hidden states (B, T, W).

        Args:
            x_BTW: input embeddings.
            bias_B1TC: added to attention scores; None: every token sees the cache, those before it and itself.
            positions_BT: position of every token.
            cache: keys and values of tokens before these; theirs are appended.
        """
        tokens, dtype = x_BTW.shape[1], x_BTW.dtype
        angle = positions_BT[..., None].float() * self.inv_freq
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        if bias_B1TC is None and tokens > 1:
            bias_B1TC = torch.full(
                (1, 1, tokens, tokens), torch.finfo(dtype).min, dtype=dtype, device=x_BTW.device
            ).triu_(1)
        if bias_B1TC is not None:  # query heads that share a key head are rows of one attention
            groups = self.shape.num_attention_heads // self.shape.num_key_value_heads
            bias_B1TC = bias_B1TC.to(dtype).repeat(1, 1, groups, 1)
        step = _Step(torch.cat([cos, cos], -1).unsqueeze(2), torch.cat([-sin, sin], -1).unsqueeze(2), bias_B1TC, cache)
        for layer in self.layers:
            x_BTW = layer(x_BTW, step)
        return F.rms_norm(x_BTW, (x_BTW.shape[-1],), self.norm, self.shape.rms_norm_eps)


_NAMES = {
    "attention_norm": ("input_layernorm",),
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "out": ("self_attn.o_proj",),
    "mlp_norm": ("post_attention_layernorm",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}
"""Our parameters of a layer, and the matrices of transformers' that they are made of."""
