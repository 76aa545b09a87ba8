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

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from evlgen.recipes.schema import ScstConfig

WINDOW = 51  # steps in the median
LOSS_LEARN = 20  # steps before it is trusted
PATIENCE = 8  # exploded steps in a row
LEAST_MEDIAN = 1.0  # nats per token
SKIPS = 20  # float16 steps in a row without a finite gradient, while its scale is being found


class SavedState(BaseModel):
    """What a checkpoint keeps: strict in types, so that a text is no number; keys that are not known are left out."""

    model_config = ConfigDict(strict=True, extra="ignore")


class LossGuardState(SavedState):
    """Losses in the running median, exploded steps in a row, and skipped ones in a row."""

    losses: list[float] = []
    high: NonNegativeInt = 0
    skipped: NonNegativeInt = 0


class LossGuard:
    """Watches one kind of loss; `state` is what it remembers.

    Args:
        factor: of the running median; 0 never calls a loss exploded.
        scaled: float16 with a gradient scaler, which skips steps with gradients that are not finite.
    """

    def __init__(self, factor: float, *, scaled: bool = False) -> None:
        self.factor, self.scaled = factor, scaled
        self.state = LossGuardState()

    @property
    def calm(self) -> bool:
        """Whether nothing is suspicious: a checkpoint of now is a good one."""
        return self.state.high == 0 and self.state.skipped == 0

    def check(self, loss: float, gradient_norm: float) -> str:
        """Take in a step before it changes the parameters; returns what is wrong, or nothing."""
        state = self.state
        if not math.isfinite(loss) or not (math.isfinite(gradient_norm) or self.scaled):
            return f"loss is {loss} and gradient norm {gradient_norm}"
        state.skipped = 0 if math.isfinite(gradient_norm) else state.skipped + 1
        if state.skipped > SKIPS:
            return f"gradient norm was not finite for {state.skipped} steps"
        median = max(LEAST_MEDIAN, statistics.median(state.losses)) if len(state.losses) >= LOSS_LEARN else math.inf
        if self.factor and loss > self.factor * median:
            state.high += 1
            if state.high >= PATIENCE:
                return f"loss has been above {self.factor:g} times its median of {median:.2f} for {state.high} steps"
            return ""
        state.high = 0
        state.losses = [*state.losses, loss][-WINDOW:]
        return ""


ZERO_SHARE = 0.5
"""Share of advantages that are 0: above, a warning."""
LEAST_VARIETY = 0.25
"""How much the samples of an item differ, 0 for all equal and 1 for all different: below, a warning."""
MEMORY, SAMPLES_LEARN = 0.9, 5  # of running means: what stays at a step at most, and steps before they are trusted


class CaptionGuardState(SavedState):
    """Validations that failed in a row until now, the best CIDEr, and the share of bad endings at the start."""

    failed: NonNegativeInt = 0
    best_cider: float = -1.0
    start_endings: float = -1.0


class CaptionGuard:
    """Watches validation captions; `state` is what it remembers.

    Args:
        config: what counts as failed, and how often in a row.
    """

    def __init__(self, config: ScstConfig) -> None:
        self.config, self.state = config, CaptionGuardState()

    def check(self, report: dict[str, Any]) -> str:
        """Take in a validation report (the first is the start); returns why the run must end, or nothing."""
        state = self.state
        cider, endings = (fmean(f[name] for f in report.values()) for name in ("cider", "bad_endings"))
        if state.start_endings < 0:
            state.start_endings = endings
        state.best_cider = max(state.best_cider, cider)
        wrong = []
        if cider < state.best_cider - self.config.cider_drop:
            wrong.append(f"validation CIDEr {cider:.1f} has fallen from {state.best_cider:.1f}")
        if endings > state.start_endings + self.config.bad_endings_rise:
            wrong.append(f"{endings:.0%} of captions end badly, {state.start_endings:.0%} at the start")
        state.failed = state.failed + 1 if wrong else 0
        if state.failed < self.config.patience:
            return ""
        return f"{' and '.join(wrong)} ({state.failed} failed validations in a row)"


class SampleWatchState(SavedState):
    """Steps seen, running means of the share of advantages 0 and of variety, and which warnings hold since."""

    steps: NonNegativeInt = 0
    zero: float = 0.0
    variety: float = 1.0
    told: list[bool] = Field(default=[False, False], min_length=2, max_length=2)


class SampleWatch:
    """Watches samples, and remembers in `state`; each warning is given once, and again after it had passed.

    Args:
        samples: of an item.
    """

    def __init__(self, samples: int) -> None:
        self.samples, self.state = samples, SampleWatchState()

    def check(self, figures: dict[str, float]) -> list[str]:
        """Take in `SampleReport.means` of a step; returns warnings."""
        state = self.state
        different = figures["distinct_share"] * self.samples
        variety = (different - 1) / (self.samples - 1) if self.samples > 1 else 1.0
        keep = min(MEMORY, state.steps / (state.steps + 1))
        state.zero = keep * state.zero + (1 - keep) * figures["zero_advantages"]
        state.variety = keep * state.variety + (1 - keep) * variety
        state.steps += 1
        now = (
            [state.zero > ZERO_SHARE, state.variety < LEAST_VARIETY] if state.steps >= SAMPLES_LEARN else [False, False]
        )
        texts = [
            f"{state.zero:.0%} of sampled captions have advantage 0 and teach nothing; raise scst.samples or "
            "scst.temperature",
            f"only {1 + state.variety * (self.samples - 1):.1f} of {self.samples} samples of an item differ: the model "
            "says one thing only; lower optimizer.learning_rate, or raise scst.temperature or scst.kl_weight",
        ]
        warnings = [text for text, is_so, told in zip(texts, now, state.told, strict=True) if is_so and not told]
        state.told = now
        return warnings
