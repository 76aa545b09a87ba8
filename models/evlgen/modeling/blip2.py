"""The vision tower of BLIP-2 (arXiv 2301.12597) under timm's names: public BLIP-2 checkpoints bring EVA-CLIP ViT-g/14.

transformers keeps the biases of query, key and value in one vector. timm's has none for the key, which changes nothing:
it would add the same number to all logits of a query.
"""

from __future__ import annotations

from torch import Tensor

PREFIX = "vision_model."
"""Where the tower stands in a whole BLIP-2 checkpoint."""

WHOLE = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.weight": "patch_embed.proj.weight",
    "embeddings.patch_embedding.bias": "patch_embed.proj.bias",
}
PARTS = (
    ("encoder.layers.", "blocks."),
    (".layer_norm1.", ".norm1."),
    (".layer_norm2.", ".norm2."),
    (".self_attn.projection.", ".attn.proj."),
    (".self_attn.", ".attn."),
)


def from_blip2(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tower's tensors under timm's names.

    Args:
        tensors: of transformers' Blip2VisionModel, or of a whole BLIP-2 checkpoint (a file with its first tensors is
            enough). `post_layernorm`, which follows the tower, is left out, and so is all that is not the tower.
    """
    whole = any(name.startswith(PREFIX) for name in tensors)
    out: dict[str, Tensor] = {}
    for full_name, tensor in tensors.items():
        if whole and not full_name.startswith(PREFIX):
            continue
        name = full_name.removeprefix(PREFIX)
        if name in WHOLE:
            out[WHOLE[name]] = tensor
        elif name.startswith("encoder.layers."):
            for theirs, timms in PARTS:
                name = name.replace(theirs, timms, 1)
            if name.endswith(".qkv.bias"):
                stem = name.removesuffix("qkv.bias")
                out[f"{stem}q_bias"], _, out[f"{stem}v_bias"] = tensor.chunk(3)
            else:
                out[name] = tensor
    return out
