"""Learning rates and parameter groups."""

from __future__ import annotations

import math

from torch import nn

from evlgen.recipes.schema import OptimizerConfig


def learning_rate(step: int, total: int, *, warmup_start: float, peak: float, minimum: float, warmup: int) -> float:
    """Linear from `warmup_start` to `peak` over `warmup` optimizer steps, then cosine to `minimum` at `total`."""
    if step < warmup:
        return warmup_start + (peak - warmup_start) * step / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return minimum + (peak - minimum) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def parameter_groups(named: dict[str, nn.Parameter], config: OptimizerConfig) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, embeddings and gates do not; prompts, gates and LoRA have their own rates."""
    groups: dict[str, list[nn.Parameter]] = {"decayed": [], "others": [], "prompts": [], "gates": [], "lora": []}
    for name, parameter in named.items():
        if name.startswith("prompt_"):
            group = "prompts"
        elif name.endswith(".alpha"):
            group = "gates"
        elif ".lora_" in name:
            group = "lora"
        else:
            group = "decayed" if parameter.dim() > 1 and "embeddings" not in name else "others"
        groups[group].append(parameter)
    return [
        {"params": groups["decayed"], "weight_decay": config.weight_decay, "multiplier": 1.0},
        {"params": groups["others"], "weight_decay": 0.0, "multiplier": 1.0},
        {"params": groups["prompts"], "weight_decay": 0.0, "multiplier": config.prompt_multiplier},
        {"params": groups["gates"], "weight_decay": 0.0, "multiplier": config.gate_multiplier},
        {"params": groups["lora"], "weight_decay": config.weight_decay, "multiplier": config.lora_multiplier},
    ]
