"""Parameters of a model by part, and the memory they take."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from torch import nn

from evlgen.modeling import cross_attention
from evlgen.modeling.adapters import MARK

FROZEN_BYTES = 2
"""Bytes of a frozen parameter: bfloat16."""

TRAINED_BYTES, MOMENTS = 4, 2
"""Bytes of a trained parameter, float32, and of its gradient; AdamW keeps two moments like it."""


@dataclass(frozen=True)
class PartParameters:
    """How many parameters a part has; one that two places share counts once."""

    part: str
    trained: int
    frozen: int


@dataclass(frozen=True)
class MemoryBytes:
    """Memory of one GPU that holds the whole model (DDP); activations are not in it."""

    frozen: int
    trained: int
    gradients: int
    optimizer: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.frozen + self.trained + self.gradients + self.optimizer


def part_of(name: str) -> str:
    """The part that a parameter of EVLGen belongs to."""
    if ".temporal." in name or name.startswith("vision.after."):
        return "temporal modules"
    if MARK in name:
        return "LoRA"
    if cross_attention.MARK in name:
        return "cross-attention"
    parts = {
        "connector.": "connector",
        "vision.": "vision tower",
        "language.": "language model",
        "prompt_": "prompt embeddings",
    }
    return next((part for start, part in parts.items() if name.startswith(start)), "LayerNorm and projections")


def parameters_by_part(model: nn.Module) -> list[PartParameters]:
    """Parts in the order in which data walks through them; those without parameters are left out."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for name, parameter in model.named_parameters():
        counts[part_of(name)][0 if parameter.requires_grad else 1] += parameter.numel()
    order = (
        "vision tower", "temporal modules", "LayerNorm and projections", "connector", "prompt embeddings",
        "cross-attention", "LoRA", "language model",
    )  # fmt: skip
    return [PartParameters(part, *counts[part]) for part in order if any(counts[part])]


def memory_bytes(parts: list[PartParameters], saved: int = 0) -> MemoryBytes:
    """What parameters, gradients and optimizer state take.

    Args:
        parts: of the model.
        saved: bytes that quantized weights take less than `FROZEN_BYTES` each.
    """
    frozen, trained = sum(p.frozen for p in parts), sum(p.trained for p in parts)
    size = TRAINED_BYTES * trained
    return MemoryBytes(FROZEN_BYTES * frozen - saved, size, size, MOMENTS * size)
