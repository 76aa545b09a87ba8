"""LoRA on the language model (arXiv 2106.09685), with peft: low-rank matrices beside frozen ones, trained in float32.

They are put into the model in place, so that whatever runs it goes through them: packed losses, generation, sampling,
caches, FLOP counts. Their second matrix starts at 0: at first the model is the frozen one. Head and embeddings get
none, since the caption loss reads the head's matrix itself. Captioning adds them to the matrices, without peft.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from evlgen.configuration import LoraConfig
from evlgen.errors import UsageError

MARK = ".lora_"
"""In the names of their parameters, and in no other's."""


def add_lora(model: Any, layers: nn.ModuleList, config: LoraConfig) -> None:
    """Put adapters beside the targets in all layers; they alone are left to train.

    Args:
        model: of transformers; changed in place.
        layers: its transformer layers.
        config: rank, scale, dropout and targets.

    Raises:
        UsageError: a target is no linear map of the layers.
    """
    import peft

    inside = {id(part) for part in layers.modules() if isinstance(part, nn.Linear)}
    names = [name for name, part in model.named_modules() if id(part) in inside]
    there = {name.rpartition(".")[2] for name in names}
    if unknown := [target for target in config.targets if target not in there]:
        raise UsageError(
            f"model.language.lora.targets: the layers of this language model have no {', '.join(unknown)}",
            f"they have {', '.join(sorted(there))}",
        )
    wanted = [name for name in names if name.rpartition(".")[2] in config.targets]
    settings = peft.LoraConfig(
        r=config.rank, lora_alpha=config.alpha, lora_dropout=config.dropout, target_modules=wanted
    )
    peft.inject_adapter_in_model(settings, model)
    for name, parameter in model.named_parameters():
        if MARK in name:
            parameter.data = parameter.data.float()  # peft gives them the precision of the frozen matrices
        parameter.requires_grad_(MARK in name)


def set_dropout(model: nn.Module, training: bool) -> None:
    """Dropout of adapters on or off; the model around them never has any."""
    for name, part in model.named_modules():
        if "lora_dropout" in name:
            part.training = training
