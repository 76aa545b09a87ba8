"""How gradients change the trained parameters: AdamW, learning rates, clipping, float16's gradient scaler, the average.

Parameters are float32 in every precision. The names listed here, and no others, are what a resumable checkpoint holds.
The moving average (Polyak averaging) is smoother than the last weights when batches are small. At the start its decay
rises as (1 + n) / (10 + n) with the steps n, so that it does not stick to random initial weights; this is how most
toolkits do it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from evlgen.errors import EvlgenError
from evlgen.recipes.schema import OptimizerConfig, Recipe
from evlgen.training.checkpoints import CheckpointFacts, load_state, state_tensors
from evlgen.training.processes import like, whole, whole_on_cpu
from evlgen.training.task import CaptionTask


def choose_trained(task: CaptionTask, *, learned_prompt: bool) -> None:
    """Let gradients flow to what is trained and to nothing else."""
    names = set(task.model.trainable_names())
    for name, parameter in task.model.named_parameters():
        parameter.requires_grad_(name in names and (learned_prompt or "prompt_" not in name))


class Update:
    """Optimizer and what belongs to it.

    Args:
        task: spread over the processes already; sharding replaces parameters.
        recipe: rates, decay, clipping, average.

    Attributes:
        named: the trained parameters; the model's under their own names, those of objectives with a prefix.
        average: the moving average, or None.
    """

    def __init__(self, task: CaptionTask, recipe: Recipe) -> None:
        self.recipe = recipe.optimizer
        model = dict(task.model.named_parameters())
        self.saved = {name: model[name] for name in task.model.trainable_names()}
        self.named = {name: p for name, p in model.items() if p.requires_grad}
        decay = recipe.train.ema_decay
        self.average = MovingAverage(dict(self.named), decay) if decay else None
        for prefix, objective in (("vocabulary", task.vocabulary), ("representation", task.representation)):
            if objective is not None:
                self.named |= {f"{prefix}.{name}": p for name, p in objective.named_parameters()}
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.named, recipe.optimizer),
            lr=0.0,
            betas=recipe.optimizer.betas,
            fused=task.model.device.type == "cpu" or None,  # there the default goes through parameters one by one
        )
        self.scaler = torch.amp.GradScaler(task.model.device.type, enabled=task.precision == torch.float16)

    def start(self, rate: float) -> None:
        """Begin a step with this learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["multiplier"]
        self.optimizer.zero_grad(set_to_none=True)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def clip(self) -> float:
        """Scale gradients down to the recipe's norm; returns the norm they had."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(list(self.named.values()), self.recipe.clip_norm)
        return whole(norm).item()

    def finish(self, step: int) -> None:
        """Change the parameters; `step` counts from 0."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(dict(self.named), step)

    def trained(self, *, averaged: bool) -> dict[str, Tensor]:
        """What a model's checkpoint holds, whole and on the CPU; every process must ask for it."""
        tensors: dict[str, Tensor] = dict(self.saved)
        if averaged and self.average is not None:
            tensors |= self.average.values
        return whole_on_cpu(tensors)

    @torch.no_grad()
    def take(self, tensors: dict[str, Tensor]) -> None:
        """Go to the values of a model's checkpoint, the moving average too; every process must do it."""
        for name, parameter in self.saved.items():
            parameter.copy_(like(tensors[name], parameter))
        for name, value in ({} if self.average is None else self.average.values).items():
            value.copy_(like(tensors[name], value))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and small facts to resume from; every process must ask for them."""
        average = None if self.average is None else self.average.values
        return state_tensors(self.named, self.optimizer, average), {"scaler": self.scaler.state_dict()}

    def load(self, folder: Path, total: int) -> CheckpointFacts:
        """Put back what `state` gave; returns the facts of the checkpoint.

        Args:
            folder: of the checkpoint.
            total: optimizer steps of the whole run.

        Raises:
            EvlgenError: it is damaged, of another model, or of a longer run.
        """
        facts = load_state(folder, self.named, self.optimizer, None if self.average is None else self.average.values)
        if facts.step > total:
            raise EvlgenError(
                f"checkpoint {folder} is at step {facts.step}, the run has {total}", "start a new run in another --out"
            )
        if self.scaler.is_enabled() and facts.scaler:
            self.scaler.load_state_dict(facts.scaler)
        return facts


def learning_rate(step: int, total: int, *, warmup_start: float, peak: float, minimum: float, warmup: int) -> float:
    """Linear from `warmup_start` to `peak` over `warmup` optimizer steps, then cosine to `minimum` at `total`.

    Args:
        step: optimizer steps that are done.
        total: of the run.
        warmup_start, peak, minimum: rates.
        warmup: steps.

    >>> [learning_rate(n, 6, warmup_start=0.0, peak=1.0, minimum=0.0, warmup=2) for n in (0, 1, 2, 4, 6)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
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


class MovingAverage:
    """Averages of named parameters; with FSDP2, of this process's shards.

    Args:
        named: the parameters, at the start of the run.
        decay: share of the old average that stays at a step.
    """

    def __init__(self, named: dict[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in named.items()}

    @torch.no_grad()
    def update(self, named: dict[str, Tensor], step: int) -> None:
        """Take in the parameters after optimizer step number `step`, from 0."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, value in self.values.items():
            value.lerp_(named[name].detach(), 1 - decay)

    @contextlib.contextmanager
    def in_place_of(self, named: dict[str, Tensor]) -> Iterator[None]:
        """While this is open the parameters hold their averages."""
        with torch.no_grad():
            before = {name: named[name].detach().clone() for name in self.values}
            for name, value in self.values.items():
                named[name].copy_(value)
            try:
                yield
            finally:
                for name, value in before.items():
                    named[name].copy_(value)
