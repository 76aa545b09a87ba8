"""An exponential moving average of the trained parameters (Polyak averaging).

Averages are smoother than the last weights when batches are small. At the start the decay rises as (1 + n) / (10 + n)
with the steps n, so that the average does not stick to random initial weights; this is how most toolkits do it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor


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
