"""An optimizer step as a function of (seed, step), whatever the number of processes and of accumulation steps.

A step covers a range of the item stream. The range is cut into processes x accumulation micro-batches; each knows its
global index, from which its dropout seed comes, and the tokens of the whole step, which losses are divided by. So two
processes give what one process gives with twice the accumulation.

The data of the next step is made by a thread while this one computes: decoders and memory maps let go of Python's lock,
so this hides most of their time. One thread, one step ahead: what is drawn does not depend on it. Pixels are decoded by
the threads of their source; they are asked for one step earlier, so that no decoder rests while the last item of a step
is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor

from evlgen.data.batches import Batch, BatchMaker, CaptionSource
from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.recipes.schema import Recipe
from evlgen.training.objectives import REPRESENTATION_LOSSES, VocabularyObjective
from evlgen.training.optimizer import learning_rate
from evlgen.training.scst import mixed_loss
from evlgen.training.task import MicroBatch

_DROPOUT, _SAMPLING = 4, 5  # what a seed is for; 1 to 3 are the data's


@dataclass(frozen=True)
class StepPlan:
    """What an optimizer step does.

    Attributes:
        step: its number, from 0.
        start, items: its range of the item stream.
        frames: per item.
        captions, tokens: of the whole step; 0 where the caption loss is not part of it.
        words_weight: of the vocabulary loss; 0 where it is not part of it.
        representation: whether it is one of BLIP-2's first stage.
        rate: learning rate.
        samples: captions that are sampled in the whole step; 0 without self-critical training.
        caption_weight: share of the caption loss beside it.
    """

    step: int
    start: int
    items: int
    frames: int
    captions: int
    tokens: int
    words_weight: float
    rate: float
    samples: int = 0
    caption_weight: float = 1.0
    representation: bool = False

    def loss(self, sums: dict[str, Tensor]) -> Tensor:
        """A micro-batch's part of the step's loss: per token of the whole step, per sampled caption, per item."""
        parts = [sums["captions"] / self.tokens] if self.tokens else []
        if self.samples:
            scst = sums["scst"] / self.samples
            parts = [mixed_loss(scst, parts[0], self.caption_weight) if parts else scst]
        if self.words_weight:
            parts.append(self.words_weight * sums["words"] / self.items)
        if self.representation:
            parts += [sums[name] / self.items for name in REPRESENTATION_LOSSES]
        return torch.stack(parts).sum()


def micro_batches_of_a_step(recipe: Recipe, processes: int) -> int:
    """Return how many micro-batches all processes together make of an optimizer step.

    Raises:
        UsageError: a step has fewer items.
    """
    parts = processes * recipe.train.accumulation_steps
    sizes = {"data.items_per_step": recipe.data.items_per_step}
    if recipe.vocabulary.steps:
        sizes["vocabulary.items_per_step"] = recipe.vocabulary.items_per_step
    if recipe.representation.steps:  # every pair needs another one
        sizes["representation.items_per_step"] = recipe.representation.items_per_step // 2
    for name, size in sizes.items():
        if size < parts:
            raise UsageError(
                f"{name} {size} cannot be cut into {parts} micro-batches ({processes} processes x "
                f"train.accumulation_steps {recipe.train.accumulation_steps})",
                f"raise {name}, or use fewer processes",
            )
    return parts


class Steps:
    """The steps of a run.

    Args:
        recipe: lengths, batch sizes, learning rates.
        batches: draws the data.
        vocabulary: the objective on words, or None.
        rank: of this process, from 0.
        processes: how many there are.

    Raises:
        UsageError: a step has fewer items than micro-batches.
    """

    def __init__(
        self, recipe: Recipe, batches: BatchMaker, vocabulary: VocabularyObjective | None, rank: int, processes: int
    ) -> None:
        self.recipe, self.batches, self.vocabulary = recipe, batches, vocabulary
        self.rank, self.parts = rank, micro_batches_of_a_step(recipe, processes)
        self.total = recipe.first_phase.steps + recipe.train.steps

    def captioning(self, step: int) -> bool:
        """Whether the caption loss is part of a step."""
        return step >= self.recipe.first_phase.steps

    def plan(self, step: int) -> StepPlan:
        """What step number `step` does."""
        recipe, phase, data, scst = self.recipe, self.recipe.first_phase, self.recipe.data, self.recipe.scst
        captioning = self.captioning(step)
        teaching = captioning and (not scst.samples or scst.caption_weight > 0)  # people's captions are learned from
        items = data.items_per_step if captioning else phase.items_per_step
        start = min(step, phase.steps) * phase.items_per_step + max(0, step - phase.steps) * data.items_per_step
        counts = [len(c) for each in self._captions(start, items) for c in each] if teaching else []
        words = 0.0 if self.vocabulary is None else (recipe.vocabulary.weight if captioning else 1.0)
        return StepPlan(
            step, start, items, self.batches.frames_at(start), len(counts), sum(counts), words, rate(recipe, step),
            samples=items * scst.samples if captioning else 0, caption_weight=scst.caption_weight,
            representation=recipe.representation.steps > step,
        )  # fmt: skip

    def _captions(self, start: int, items: int) -> list[list[list[int]]]:
        return self.batches.captions_at(start, items, self.recipe.data.captions_per_item)

    def prepare(self, plan: StepPlan) -> list[Callable[[], MicroBatch]]:
        """Begin with this process's share of a step; each micro-batch, in order, is there when it is called for."""
        own = self.recipe.train.accumulation_steps
        begun: list[Callable[[], MicroBatch]] = []
        for part in range(self.rank * own, (self.rank + 1) * own):
            first, end = (plan.items * k // self.parts for k in (part, part + 1))
            batch = self.batches.ask(
                plan.start + first, end - first, self.recipe.data.captions_per_item, frames=plan.frames
            )
            begun.append(partial(self._micro_batch, plan, part, range(first, end), batch))
        return begun

    def _micro_batch(self, plan: StepPlan, part: int, positions: range, wait: Callable[[], Batch]) -> MicroBatch:
        batch = wait()
        words = None
        if plan.words_weight:
            assert self.vocabulary is not None
            words = self.vocabulary.targets([self._item(*at) for at in batch.items])
        captions = batch.captions if plan.tokens or plan.representation else None
        sampling = [self._seed(_SAMPLING, plan.start + k) for k in positions] if plan.samples else None
        dropout = self._seed(_DROPOUT, plan.step, part)
        return MicroBatch(batch.features, captions, words, dropout, batch.items, sampling, plan.representation)

    def _item(self, source: int, item: int) -> CaptionedItem:
        drawn = self.batches.sources[source]
        assert isinstance(drawn, CaptionSource), "recipes have no vocabulary loss with shards"
        return drawn.items[item]

    def _seed(self, *what: int) -> int:
        return int(np.random.SeedSequence([self.recipe.train.seed, *what]).generate_state(1)[0])


def rate(recipe: Recipe, step: int) -> float:
    """Learning rate of a step: a short warm-up and decay of its own for the first phase, then the recipe's."""
    phase, optimizer = recipe.first_phase, recipe.optimizer
    if step < phase.steps:
        return learning_rate(
            step, phase.steps, warmup_start=0.0, peak=phase.learning_rate,
            minimum=phase.learning_rate / 10, warmup=phase.warmup,
        )  # fmt: skip
    return learning_rate(
        step - phase.steps, recipe.train.steps, warmup_start=optimizer.warmup_start_lr, peak=optimizer.learning_rate,
        minimum=optimizer.min_lr, warmup=optimizer.warmup_steps,
    )  # fmt: skip


Made = tuple[StepPlan, list[MicroBatch]]

PREFETCHED_STEPS = 2
"""Steps whose pixels may be there, or under way, beside those of the step that computes."""


class PrefetchedSteps:
    """Steps with their micro-batches, in order.

    Args:
        steps: of the run.
        first: the step to begin with.
    """

    def __init__(self, steps: Steps, first: int) -> None:
        self.steps = steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._begun: deque[tuple[StepPlan, list[Callable[[], MicroBatch]]]] = deque()
        self._next = self._begin(first)

    def _begin(self, step: int) -> Future[Made]:
        return self._thread.submit(self._make, step)

    def _make(self, step: int) -> Made:
        while len(self._begun) < min(PREFETCHED_STEPS, self.steps.total - step):
            plan = self.steps.plan(step + len(self._begun))
            self._begun.append((plan, self.steps.prepare(plan)))
        plan, batches = self._begun.popleft()
        return plan, [wait() for wait in batches]

    def take(self, step: int) -> Made:
        """Step number `step`, which must be the one after the last.

        Raises:
            EvlgenError: an item cannot be read or decoded.
        """
        plan, batches = self._next.result()
        assert plan.step == step, "steps are taken in order"
        if step + 1 < self.steps.total:
            self._next = self._begin(step + 1)
        return plan, batches

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
