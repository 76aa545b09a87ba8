"""Vision towers of transformers under timm's names: pure renaming and concatenation, and resampled positions.

People have the weights as transformers writes them: openai/clip-vit-*, google/siglip-* (and siglip2 of fixed size),
facebook/dinov2-* with and without registers, BLIP-2 (blip2.py). timm keeps query, key and value in one matrix.
Whole models are accepted, with their text side; what the tower does not need is left out.

Shapes: N positions, P of them of prefix tokens, D width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import torch
from timm.layers import resample_abs_pos_embed
from torch import Tensor

from evlgen.modeling.blip2 import from_blip2

Tensors = dict[str, Tensor]

_CLIP = (
    (r"embeddings\.patch_embedding\.", "patch_embed.proj."),
    (r"pre_layrnorm\.", "norm_pre."),  # transformers' spelling
    (r"post_layernorm\.", "norm."),
    (r"encoder\.layers\.(\d+)\.layer_norm([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layers\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
)
_DINOV2 = (
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"layernorm\.", "norm."),
    (r"encoder\.layer\.(\d+)\.norm([12])\.", r"blocks.\1.norm\2."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(q)uery\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(k)ey\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layer\.(\d+)\.attention\.attention\.(v)alue\.", r"blocks.\1.attn.\2."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"blocks.\1.attn.proj."),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"blocks.\1.ls\2.gamma"),
    (r"encoder\.layer\.(\d+)\.mlp\.weights_in\.", r"blocks.\1.mlp.fc1."),  # SwiGLU of the giant
    (r"encoder\.layer\.(\d+)\.mlp\.weights_out\.", r"blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.mlp\.", r"blocks.\1.mlp."),
)


def from_clip(tensors: Tensors) -> Tensors:
    """Tensors of CLIPVisionModel or SiglipVisionModel, or of a whole CLIP or SigLIP, without the pooling head."""
    inner = _inside(tensors, "vision_model.")
    out = _joined(_renamed(inner, _CLIP))
    if "embeddings.class_embedding" in inner:
        out["cls_token"] = inner["embeddings.class_embedding"].reshape(1, 1, -1)
    if "embeddings.position_embedding.weight" in inner:
        out["pos_embed"] = inner["embeddings.position_embedding.weight"].unsqueeze(0)
    return out


def from_dinov2(tensors: Tensors) -> Tensors:
    """Tensors of Dinov2Model or Dinov2WithRegistersModel without the mask token.

    With registers, timm's model adds positions to patches only: the class token's is added to it here.
    """
    inner = _inside(_inside(tensors, "dinov2."), "dinov2_with_registers.")
    out = _joined(_renamed(inner, _DINOV2))
    cls, positions = inner.get("embeddings.cls_token"), inner.get("embeddings.position_embeddings")
    if cls is None or positions is None:
        return out
    if "embeddings.register_tokens" in inner:
        out["reg_token"] = inner["embeddings.register_tokens"]
        cls, positions = cls + positions[:, :1], positions[:, 1:]
    return out | {"cls_token": cls, "pos_embed": positions}


def from_timm(tensors: Tensors) -> Tensors:
    """timm's own names; or those of an open_clip model whose tower is timm's."""
    return _inside(tensors, "visual.trunk.")


LAYOUTS: dict[str, Callable[[Tensors], Tensors]] = {
    "timm": from_timm,
    "blip2": from_blip2,
    "clip": from_clip,
    "siglip": from_clip,
    "dinov2": from_dinov2,
}
"""By `VisionConfig.layout`; "ordered" has no names to go by."""


def resample_positions(positions_1ND: Tensor, tokens: int, prefix: int, *, antialias: bool) -> Tensor:
    """Learned positions for another number of patches (bicubic); as they are where the number is right.

    Args:
        positions_1ND: of a weight file; patches form a square.
        tokens: N that is wanted.
        prefix: P of the N, which are left alone.
        antialias: whether to smooth first. transformers does so for DINOv2 with registers only, timm always.
    """
    have, want = positions_1ND.shape[1] - prefix, tokens - prefix
    square = all(n > 0 and math.isqrt(n) ** 2 == n for n in (have, want))
    if have == want or not square:
        return positions_1ND
    side = math.isqrt(want)
    out: Tensor = resample_abs_pos_embed(
        positions_1ND, [side, side], num_prefix_tokens=prefix, interpolation="bicubic", antialias=antialias
    )
    return out


def _inside(tensors: Tensors, prefix: str) -> Tensors:
    """What stands under a prefix, without it; everything, if nothing does."""
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return found or tensors


def _renamed(tensors: Tensors, rules: tuple[tuple[str, str], ...]) -> Tensors:
    """By the first rule that fits the beginning of a name; names without one are left out."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            new, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                out[new] = tensor
                break
    return out


def _joined(tensors: Tensors) -> Tensors:
    """Query, key and value in one, in this order."""
    out: Tensors = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"(.*\.attn\.)[qkv]\.(weight|bias)", name)
        if match is None:
            out[name] = tensor
            continue
        stem, kind = match.groups()
        parts = [tensors.get(f"{stem}{which}.{kind}") for which in "qkv"]
        if all(part is not None for part in parts):
            out[f"{stem}qkv.{kind}"] = torch.cat([part for part in parts if part is not None])
    return out
