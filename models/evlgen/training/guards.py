"""When a run must stop by itself: a loss or gradient that is not finite, or a loss that has exploded.

Exploded: above `factor` times the running median for several steps in a row. The median is taken as at least one nat
per token, so that a model that has learned its data by heart may have a bad batch; a loss above 3 nats for many steps
is then still noticed. Losses that count as exploded do not enter the median.
"""

from __future__ import annotations

import math
import statistics
from typing import Any

WINDOW = 51  # steps in the median
LEARN = 20  # steps before it is trusted
PATIENCE = 8  # exploded steps in a row
LEAST_MEDIAN = 1.0  # nats per token
SKIPS = 20  # float16 steps in a row without a finite gradient, while its scale is being found


class LossGuard:
    """Watches one kind of loss.

    Args:
        factor: of the running median; 0 never calls a loss exploded.
        scaled: float16 with a gradient scaler, which skips steps with gradients that are not finite.
    """

    def __init__(self, factor: float, *, scaled: bool = False) -> None:
        self.factor, self.scaled = factor, scaled
        self.losses: list[float] = []
        self.high = self.skipped = 0

    @property
    def calm(self) -> bool:
        """Whether nothing is suspicious: a checkpoint of now is a good one."""
        return self.high == 0 and self.skipped == 0

    def check(self, loss: float, gradient_norm: float) -> str:
        """Take in a step before it changes the parameters; returns what is wrong, or nothing."""
        if not math.isfinite(loss) or not (math.isfinite(gradient_norm) or self.scaled):
            return f"loss is {loss} and gradient norm {gradient_norm}"
        self.skipped = 0 if math.isfinite(gradient_norm) else self.skipped + 1
        if self.skipped > SKIPS:
            return f"gradient norm was not finite for {self.skipped} steps"
        median = max(LEAST_MEDIAN, statistics.median(self.losses)) if len(self.losses) >= LEARN else math.inf
        if self.factor and loss > self.factor * median:
            self.high += 1
            if self.high >= PATIENCE:
                return f"loss has been above {self.factor:g} times its median of {median:.2f} for {self.high} steps"
            return ""
        self.high = 0
        self.losses = [*self.losses, loss][-WINDOW:]
        return ""

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"losses": self.losses, "high": self.high, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.losses, self.high, self.skipped = list(state["losses"]), state["high"], state["skipped"]
