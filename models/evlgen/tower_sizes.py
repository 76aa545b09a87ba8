"""Width and tokens of a timm tower, found out by building it on the meta device: no weights, no memory, no files.

torch and timm are imported only when a configuration leaves one of the two out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

from evlgen.errors import first_line


def with_sizes(values: Mapping[str, Any], name: str, arguments: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The vision section of a configuration with the width and the tokens that it leaves out.

    Args:
        values: the section.
        name: timm's name of the architecture.
        arguments: of `timm.create_model`.
        size: side of the input in pixels.

    Raises:
        ValueError: timm does not know the architecture, it cannot be built so, or one of the two is given wrong.
    """
    tokens, width = _measured(name, json.dumps(arguments, sort_keys=True), size)
    found = {"width": width, "tokens": tokens}
    for key, value in found.items():
        if values.get(key, value) != value:
            raise ValueError(f"{key} {values[key]} is not that of {name} at {size} px, which is {value}")
    return {**values, **found}


def as_tokens(trunk: Any, features: Any) -> Any:
    """Tokens (B, N, D) of what a timm model's `forward_features` gives: tokens, or a map (channels first or last)."""
    if features.dim() != 4:
        return features
    if getattr(trunk, "output_fmt", "NCHW") == "NHWC":
        return features.flatten(1, 2)
    return features.flatten(2).transpose(1, 2)


@cache
def _measured(name: str, arguments: str, size: int) -> tuple[int, int]:
    """Tokens and width of what the tower makes of one picture of `size` x `size` pixels; `arguments` are JSON."""
    import timm
    import torch

    try:
        with torch.device("meta"), torch.no_grad():
            trunk = timm.create_model(name, pretrained=False, num_classes=0, **json.loads(arguments)).eval()
            tokens = as_tokens(trunk, trunk.forward_features(torch.zeros(1, 3, size, size)))
    except Exception as error:  # arguments are the user's, and timm takes many
        raise ValueError(
            f"width and tokens of {name} at {size} px cannot be found out ({first_line(error)[:200]}): give them, or "
            "correct name, arguments and image_size"
        ) from None
    return int(tokens.shape[1]), int(tokens.shape[2])
