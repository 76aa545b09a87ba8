"""What the temporal modules do (arXiv 2310.03291, section 3.3): their gates, and which frames listen to each other.

A gate near 0 means that a module has no say; attention near 1 / F everywhere means that it only averages.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from evlgen.modeling.temporal import TemporalContextualization


def gates(model: nn.Module) -> list[Tensor]:
    """The gate of every temporal module, in order of depth."""
    return [m.alpha for m in model.modules() if isinstance(m, TemporalContextualization)]


@contextlib.contextmanager
def recorded_attention(model: nn.Module) -> Iterator[list[Tensor]]:
    """While this is open, every call of a temporal module on several frames adds its attention (F, F) to the list.

    Averages over items, positions and heads; row i says how much frame i takes from each frame.
    """
    heard: list[Tensor] = []

    def note(module: Any, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[1] > 1:
            heard.append(module.attention(inputs[0]).float().mean(dim=(0, 1, 2)).cpu())

    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, TemporalContextualization):
                stack.enter_context(module.register_forward_pre_hook(note))
        yield heard
