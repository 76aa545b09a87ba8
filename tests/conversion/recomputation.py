"""What an authors' checkpoint computes, from the formulas of the papers: loops and matrix products in float64.

Nothing of evlgen is used. Images are videos of one frame. Sources: arXiv 2310.03291, sections 3.2 and 3.3; merging:
arXiv 2210.09461, section 3, with the plain mean of EVLGen.
"""

import math

import torch
from torch import Tensor

from tests.conversion import authors as mini

Weights = dict[str, Tensor]


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def layer_norm(x: Tensor, w: Weights, name: str, eps: float) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / (variance + eps).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def softmax(x: Tensor) -> Tensor:
    e = (x - x.max(dim=-1, keepdim=True).values).exp()
    return e / e.sum(dim=-1, keepdim=True)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, scale: float) -> Tensor:
    """(N, D) each: one head after the other."""
    d, dv = q.shape[1] // heads, v.shape[1] // heads
    out = torch.empty_like(v)
    for h in range(heads):
        qh, kh = q[:, h * d : (h + 1) * d], k[:, h * d : (h + 1) * d]
        out[:, h * dv : (h + 1) * dv] = softmax(qh @ kh.T * scale) @ v[:, h * dv : (h + 1) * dv]
    return out


def patches(frame: Tensor, w: Weights) -> Tensor:
    """Tokens (N, D) of a frame (3, S, S): class token, then patches row by row, plus positions."""
    rows = [w["visual_encoder.cls_token"][0, 0]]
    kernel, bias = w["visual_encoder.patch_embed.proj.weight"], w["visual_encoder.patch_embed.proj.bias"]
    p = mini.PATCH
    for y in range(0, frame.shape[1], p):
        for x in range(0, frame.shape[2], p):
            rows.append(kernel.flatten(1) @ frame[:, y : y + p, x : x + p].flatten() + bias)
    return torch.stack(rows) + w["visual_encoder.pos_embed"][0]


def block_attention(x: Tensor, w: Weights, name: str) -> Tensor:
    y = layer_norm(x, w, f"{name}.norm1", 1e-6)
    bias = torch.cat([w[f"{name}.attn.q_bias"], torch.zeros(mini.WIDTH).double(), w[f"{name}.attn.v_bias"]])
    q, k, v = (y @ w[f"{name}.attn.qkv.weight"].T + bias).split(mini.WIDTH, dim=1)
    scale = (mini.WIDTH / mini.VISION_HEADS) ** -0.5
    return x + linear(attention(q, k, v, mini.VISION_HEADS, scale), w, f"{name}.attn.proj")


def temporal_merge(frames: list[Tensor], w: Weights, name: str) -> list[Tensor]:
    """Each spatial position by itself: its tokens of all frames attend to each other; added through the gate."""
    out = [frame.clone() for frame in frames]
    for n in range(len(frames[0])):
        x = torch.stack([frame[n] for frame in frames])
        q, k = linear(x, w, f"{name}.query"), linear(x, w, f"{name}.key")
        mixed = attention(q, k, x, mini.TEMPORAL_HEADS, mini.TEMPORAL_WIDTH**-0.5)
        for f in range(len(frames)):
            out[f][n] = x[f] + w[f"{name}.alpha"].item() * mixed[f]
    return out


def tower(frames: Tensor, w: Weights) -> list[Tensor]:
    """Tokens (N, D) of every frame of (F, 3, S, S); no norm at the end."""
    tokens = [patches(frame, w) for frame in frames]
    for n in range(mini.BLOCKS):
        name = f"visual_encoder.blocks.{n}"
        tokens = [block_attention(x, w, name) for x in tokens]
        if f"{name}.temporal_merge.alpha" in w:
            tokens = temporal_merge(tokens, w, f"{name}.temporal_merge")
        for f, x in enumerate(tokens):
            hidden = gelu(linear(layer_norm(x, w, f"{name}.norm2", 1e-6), w, f"{name}.mlp.fc1"))
            tokens[f] = x + linear(hidden, w, f"{name}.mlp.fc2")
    return tokens


def merge(x: Tensor, metric: Tensor, r: int) -> Tensor:
    """Even tokens propose to their most similar odd token; the r best proposals are taken, token 0 never is."""
    even, odd = list(range(0, len(x), 2)), list(range(1, len(x), 2))
    proposals: list[tuple[float, int, int]] = []
    for a in even[1:]:
        cosines = [(metric[a] @ metric[b] / (metric[a].norm() * metric[b].norm())).item() for b in odd]
        proposals.append((max(cosines), a, odd[cosines.index(max(cosines))]))
    proposals.sort(reverse=True)
    taken = {a: b for _, a, b in proposals[: min(r, (len(x) - 1) // 2)]}
    rows = [x[a] for a in even if a not in taken]
    for b in odd:
        group = [x[b], *(x[a] for a in even if taken.get(a) == b)]
        rows.append(sum(group) / len(group))
    return torch.stack(rows)


def connector(x: Tensor, w: Weights, r: int) -> Tensor:
    name = "VLconnector.embeddings"
    x = x + w[f"{name}.position_embeddings.weight"][: len(x)] + w[f"{name}.token_type_embeddings.weight"][0]
    x = layer_norm(x, w, f"{name}.LayerNorm", 1e-12)
    d = mini.INNER // mini.HEADS
    for n in range(mini.LAYERS):
        name = f"VLconnector.encoder.layer.{n}"
        q, k, v = (linear(x, w, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        y = linear(attention(q, k, v, mini.HEADS, d**-0.5), w, f"{name}.attention.output.dense")
        x = layer_norm(x + y, w, f"{name}.attention.output.LayerNorm", 1e-12)
        x = merge(x, sum(k[:, h * d : (h + 1) * d] for h in range(mini.HEADS)) / mini.HEADS, r)
        y = linear(gelu(linear(x, w, f"{name}.intermediate.dense")), w, f"{name}.output.dense")
        x = layer_norm(x + y, w, f"{name}.output.LayerNorm", 1e-12)
    return x


def soft_prompts(frames: Tensor, tensors: Weights, family: str, r: int) -> Tensor:
    """(Q, W) of one item's frames (F, 3, S, S)."""
    w = {name: tensor.double() for name, tensor in tensors.items()}
    tokens = tower(frames.double(), w)
    fused = sum(tokens) / len(tokens)
    x = linear(layer_norm(fused, w, "ln_vision", 1e-5), w, "VL_proj")
    return linear(connector(x, w, r), w, f"{family}_proj")
