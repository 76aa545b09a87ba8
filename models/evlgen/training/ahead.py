"""The data of the next optimizer step, made by a thread while this one computes.

Decoders and memory maps let go of Python's lock, so this hides most of their time. One thread, one step ahead: what is
drawn does not depend on it. Pixels are decoded by the threads of their source; they are asked for one step earlier, so
that no decoder rests while the last item of a step is waited for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from evlgen.training.step import StepPlan, Steps
from evlgen.training.task import MicroBatch

Made = tuple[StepPlan, list[MicroBatch]]
Asked = tuple[StepPlan, list[Callable[[], MicroBatch]]]

ASKED_AHEAD = 2
"""Steps whose pixels may be there, or under way, beside those of the step that computes."""


class StepsAhead:
    """Steps with their micro-batches, in order.

    Args:
        steps: of the run.
        first: the step to begin with.
    """

    def __init__(self, steps: Steps, first: int) -> None:
        self.steps = steps
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="data")
        self._asked: deque[Asked] = deque()
        self._next = self._begin(first)

    def _begin(self, step: int) -> Future[Made]:
        return self._thread.submit(self._make, step)

    def _make(self, step: int) -> Made:
        while len(self._asked) < min(ASKED_AHEAD, self.steps.total - step):
            plan = self.steps.plan(step + len(self._asked))
            self._asked.append((plan, self.steps.ask(plan)))
        plan, asked = self._asked.popleft()
        return plan, [wait() for wait in asked]

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
