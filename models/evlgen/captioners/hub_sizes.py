"""How large models of transformers are, and how many tokens of a clip they read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

_MARKS = ("image_token_id", "image_token_index", "video_token_id", "video_token_index")
_LANGUAGE = ("language_model", "text_decoder")


def parameters_of(*modules: nn.Module) -> int:
    """Parameters of modules; one that two places share counts once, one in 4 bit as what it stands for."""
    found = {id(one): one for module in modules for one in module.parameters()}
    return sum(one.numel() * (2 if type(one).__name__ == "Params4bit" else 1) for one in found.values())


def language_parameters(model: Any) -> int | None:
    """Parameters of the language model, with those that give its words; None where it is no part of its own."""
    found = next((one for name, one in model.named_modules() if name.rpartition(".")[2] in _LANGUAGE), None)
    if found is None:
        return None
    head = model.get_output_embeddings() if hasattr(model, "lm_head") else None
    return parameters_of(found, *([] if head is None else [head]))


def visual_tokens(inputs: Mapping[str, Any], config: Any) -> int | None:
    """Tokens of the last clip's frames in front of a caption; None where nobody knows.

    Args:
        inputs: what `generate` gets; the last row is the last clip.
        config: of the model.
    """
    if (features := inputs.get("features")) is not None:  # CoCa: what its decoder looks at
        return int(features.shape[1])
    marks = {mark for name in _MARKS if (mark := getattr(config, name, None)) is not None}
    if (tokens := inputs.get("input_ids")) is not None and marks:
        counted = sum(token in marks for token in tokens[-1].tolist())
        if counted:
            return counted
    if (queries := getattr(config, "num_query_tokens", None)) is not None:  # BLIP-2 without a prompt
        return int(queries)
    pixels, patch = inputs.get("pixel_values"), getattr(getattr(config, "vision_config", None), "patch_size", None)
    if config.model_type not in ("git", "blip") or pixels is None or patch is None:
        return None
    frames = pixels.shape[1] if pixels.ndim == 5 else 1
    height, width = pixels.shape[-2:]
    return int(frames * ((height // patch) * (width // patch) + 1))  # a class token with every frame
