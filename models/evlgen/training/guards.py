"""When a run must stop by itself: a loss that is not finite or has exploded, captions that get worse.

Exploded: above `factor` times the running median for several steps in a row. The median is taken as at least one nat
per token, so that a model that has learned its data by heart may have a bad batch; a loss above 3 nats for many steps
is then still noticed. Losses that count as exploded do not enter the median.

Rewards of self-critical training can be won by generic captions and by bad endings ("a man riding a"). A validation has
failed when CIDEr is far below its best, or when many more captions end badly than at the start. It never becomes the
best checkpoint; several in a row end the run there. When most samples have advantage 0, or hardly differ, a step costs
its full price and teaches little: that is a warning.
"""

from __future__ import annotations

import math
import statistics
from statistics import fmean
from typing import Any

from evlgen.recipes.schema import ScstConfig

WINDOW = 51  # steps in the median
LOSS_LEARN = 20  # steps before it is trusted
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
        median = max(LEAST_MEDIAN, statistics.median(self.losses)) if len(self.losses) >= LOSS_LEARN else math.inf
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


ZERO_SHARE = 0.5
"""Of advantages: above, a warning."""
LEAST_VARIETY = 0.25
"""Of samples of an item, 0 for all equal and 1 for all different: below, a warning."""
MEMORY, SAMPLES_LEARN = 0.9, 5  # of running means: what stays at a step at most, and steps before they are trusted


class CaptionGuard:
    """Watches validation captions.

    Args:
        config: what counts as failed, and how often in a row.

    Attributes:
        failed: validations that failed in a row, until now.
    """

    def __init__(self, config: ScstConfig) -> None:
        self.config, self.failed = config, 0
        self.best_cider = self.start_endings = -1.0

    def check(self, report: dict[str, Any]) -> str:
        """Take in a validation report (the first is the start); returns why the run must end, or nothing."""
        cider, endings = (fmean(f[name] for f in report.values()) for name in ("cider", "bad_endings"))
        if self.start_endings < 0:
            self.start_endings = endings
        self.best_cider = max(self.best_cider, cider)
        wrong = []
        if cider < self.best_cider - self.config.cider_drop:
            wrong.append(f"validation CIDEr {cider:.1f} has fallen from {self.best_cider:.1f}")
        if endings > self.start_endings + self.config.bad_endings_rise:
            wrong.append(f"{endings:.0%} of captions end badly, {self.start_endings:.0%} at the start")
        self.failed = self.failed + 1 if wrong else 0
        if self.failed < self.config.patience:
            return ""
        return f"{' and '.join(wrong)} ({self.failed} failed validations in a row)"

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"failed": self.failed, "best_cider": self.best_cider, "start_endings": self.start_endings}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.failed, self.best_cider = state["failed"], state["best_cider"]
        self.start_endings = state["start_endings"]


class SampleWatch:
    """Watches samples; each warning is given once, and again after it had passed.

    Args:
        samples: of an item.
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.steps, self.zero, self.variety = samples, 0, 0.0, 1.0
        self.told = [False, False]

    def check(self, figures: dict[str, float]) -> list[str]:
        """Take in `SampleReport.means` of a step; returns warnings."""
        different = figures["distinct_share"] * self.samples
        variety = (different - 1) / (self.samples - 1) if self.samples > 1 else 1.0
        keep = min(MEMORY, self.steps / (self.steps + 1))
        self.zero = keep * self.zero + (1 - keep) * figures["zero_advantages"]
        self.variety = keep * self.variety + (1 - keep) * variety
        self.steps += 1
        now = [self.zero > ZERO_SHARE, self.variety < LEAST_VARIETY] if self.steps >= SAMPLES_LEARN else [False, False]
        texts = [
            f"{self.zero:.0%} of sampled captions have advantage 0 and teach nothing; raise scst.samples or "
            "scst.temperature",
            f"only {1 + self.variety * (self.samples - 1):.1f} of {self.samples} samples of an item differ: the model "
            "says one thing only; lower optimizer.learning_rate, or raise scst.temperature or scst.kl_weight",
        ]
        warnings = [text for text, is_so, told in zip(texts, now, self.told, strict=True) if is_so and not told]
        self.told = now
        return warnings

    def state(self) -> dict[str, Any]:
        """What `restore` needs."""
        return {"steps": self.steps, "zero": self.zero, "variety": self.variety, "told": self.told}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.steps, self.zero, self.variety = state["steps"], state["zero"], state["variety"]
        self.told = list(state["told"])
