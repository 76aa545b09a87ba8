"""FLOPs of vision towers in closed form: ViTs, with or without temporal modules inside, and plain EfficientNets.

What is counted is said in evlgen/bench/flops.py. Letters: F frames, N tokens of a frame, D width, W width of temporal
queries and keys.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from evlgen.configuration import TemporalConfig
from evlgen.modeling.vision import PRE_NORM_BLOCKS, VisionTower


def tower_flops(tower: VisionTower, temporal: TemporalConfig, *, training: bool) -> int | None:
    """FLOPs of all frames of one item; None for towers of another kind.

    Args:
        tower: with temporal modules if the model has them.
        temporal: how many frames there are, and how wide the modules are.
        training: with the backward pass, which a tower without temporal modules has none of.
    """
    if tower.has_head and not any(type(m).__name__ == "SqueezeExcite" for m in tower.modules()):
        return _efficientnet(tower, temporal, training)
    blocks = [getattr(block, "block", block) for block in getattr(tower.trunk, "blocks", [])]
    if blocks and {type(block).__name__ for block in blocks} <= PRE_NORM_BLOCKS:
        return _vit(tower, blocks, temporal, training)
    return None


def _vit(tower: VisionTower, blocks: list[Any], temporal: TemporalConfig, training: bool) -> int:
    """Every token passes each matrix of a block, and attends to all tokens of its frame.

    Trained temporal modules pass gradients down to the first of them: all that lies above it runs backward, frozen
    parts for their inputs alone. The attention of block 0 lies below.
    """
    F, N, D = temporal.frames, tower.config.tokens, tower.config.width
    patch = tower.trunk.patch_embed.proj
    side = tower.config.image_size // patch.stride[0]
    total: int = 2 * F * side * side * patch.weight.numel()
    for i, block in enumerate(blocks):
        attention = 2 * F * N * _weights(block.attn)
        products = 4 * F * N * N * D
        feed_forward = 2 * F * N * _weights(block.mlp)
        total += attention + products + feed_forward
        if tower.blocks:
            total += _temporal(F, N, D, temporal.width, training=training, inputs=i > 0)
        if training and tower.blocks:
            total += feed_forward + (attention + 2 * products if i > 0 else 0)
    return total


def _efficientnet(tower: VisionTower, temporal: TemporalConfig, training: bool) -> int:
    """Convolutions one after the other; each strided one halves the side. Frames meet in front of the head."""
    trunk, F = tower.trunk, temporal.frames
    side, total = tower.config.image_size, 0
    body = [trunk.conv_stem, *(m for m in trunk.blocks.modules() if isinstance(m, nn.Conv2d))]
    for convolution in body:
        side = -(-side // convolution.stride[0])
        total += 2 * F * side * side * convolution.weight.numel()
    head: int = 2 * F * side * side * trunk.conv_head.weight.numel()
    total += head
    if tower.after is not None:
        width = tower.feature_width
        total += _temporal(F, side * side, width, temporal.width, training=training, inputs=False)
        total += head if training else 0
    return total


def _temporal(F: int, N: int, D: int, W: int, *, training: bool, inputs: bool) -> int:
    """FLOPs of one temporal module: two maps to W, and attention over frames whose values are the tokens themselves.

    Args:
        F, N, D, W: as above.
        training: with its backward pass.
        inputs: whether that also goes on to what came in.
    """
    maps, scores, mixing = 2 * (2 * F * N * D * W), 2 * F * F * N * W, 2 * F * F * N * D
    total = maps + scores + mixing
    if training:
        total += maps + 2 * scores + mixing
        total += maps + mixing if inputs else 0
    return total


def _weights(module: nn.Module) -> int:
    """Entries of all its matrices."""
    return sum(part.weight.numel() for part in module.modules() if isinstance(part, nn.Linear))
