"""Learning rates and parameter groups."""

from __future__ import annotations

import math

from torch import nn

from evlgen.recipes.schema import OptimizerConfig


def learning_rate(step: int, total: int, *, start: float, peak: float, floor: float, warmup: int) -> float:
    """Linear from `start` to `peak` over `warmup` optimizer steps, then cosine to `floor` at `total`."""
    if step < warmup:
        return start + (peak - start) * step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(named: dict[str, nn.Parameter], config: OptimizerConfig) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, embeddings and gates do not; learned prompts have their own rate."""
    prompts = [p for n, p in named.items() if n.startswith("prompt_")]
    plain = {n: p for n, p in named.items() if not n.startswith("prompt_")}
    decayed = [p for n, p in plain.items() if p.dim() > 1 and "embeddings" not in n]
    others = [p for n, p in plain.items() if p.dim() <= 1 or "embeddings" in n]
    return [
        {"params": decayed, "weight_decay": config.weight_decay, "multiplier": 1.0},
        {"params": others, "weight_decay": 0.0, "multiplier": 1.0},
        {"params": prompts, "weight_decay": 0.0, "multiplier": config.prompt_multiplier},
    ]
