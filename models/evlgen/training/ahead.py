"""The data of the next optimizer step, made by a thread while this one computes.

Decoders and memory maps let go of Python's lock, so this hides most of their time. One thread, one step ahead: what is
drawn does not depend on it.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from evlgen.training.step import StepPlan, Steps
from evlgen.training.task import MicroBatch

Made = tuple[StepPlan, list[MicroBatch]]


class StepsAhead:
    """Steps with their micro-batches, in order.

    Args:
        steps: of the run.
        first: the step to begin with.
    """

    def __init__(self, steps: Steps, first: int) -> None:
        self.steps = steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._next = self._begin(first)

    def _begin(self, step: int) -> Future[Made]:
        return self._thread.submit(self._make, step)

    def _make(self, step: int) -> Made:
        plan = self.steps.plan(step)
        return plan, list(self.steps.micro_batches(plan))

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
