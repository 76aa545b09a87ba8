"""One thread with the model, and a queue in front of it: requests that wait together go through it together.

Batches form by themselves: while the model works on one, the next gathers. Only clips of one size and with the same
options share a batch; the seeds of samples are each request's own, so that no answer depends on its neighbours.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from evlgen.captioners.protocol import Caption, Captioner, PromptedClip
from evlgen.captioning.backoff import CarefulCaptioner, RunStoppedError
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import Failure
from evlgen.serving.limits import RefusedError


@dataclass(frozen=True, eq=False)
class _Job:
    clip: PromptedClip
    options: DecodingOptions
    deadline: float
    result: Future[Caption] = field(default_factory=Future)

    @property
    def kind(self) -> tuple[Any, ...]:
        """Jobs of one kind may share a batch."""
        return self.clip.frames.shape, replace(self.options, seed=None)


class _Seeded:
    """A captioner that draws each clip's samples with the seed of its own request, in whatever batch it is."""

    def __init__(self, captioner: Captioner, batch: Sequence[_Job]) -> None:
        self.batch_size, self.on_tokens, self.release_memory, self.facts = (
            captioner.batch_size,
            captioner.on_tokens,
            captioner.release_memory,
            captioner.facts,
        )
        self._captioner = captioner
        self._seeds = {id(job.clip): job.options.seed for job in batch}

    def caption(self, clips: Sequence[PromptedClip], options: DecodingOptions) -> Sequence[Caption | Failure]:
        seeds = [seed for clip in clips if isinstance(seed := self._seeds[id(clip)], int)]
        return self._captioner.caption(clips, replace(options, seed=seeds))


@dataclass
class Counts:
    """What was done since the start: clips and batches that went through the model, and the largest batch."""

    clips: int = 0
    batches: int = 0
    largest_batch: int = 0


class Batcher:
    """Runs a captioner in a thread of its own.

    Args:
        captioner: the model; nobody else may use it.
        batch_size: most clips of a batch; smaller for good when memory runs out.
        most_waiting: most clips in the queue.
        note: told in one line when the batch shrinks.
    """

    def __init__(self, captioner: Captioner, batch_size: int, most_waiting: int, note: Callable[[str], None]) -> None:
        self.counts = Counts()
        self._captioner, self._batch_size, self._note = captioner, batch_size, note
        self._queue: queue.Queue[_Job | None] = queue.Queue(most_waiting)
        self._aside: list[_Job] = []
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="evlgen-model", daemon=True)
        self._thread.start()

    def submit(self, clip: PromptedClip, options: DecodingOptions, deadline: float) -> Future[Caption]:
        """The caption to come.

        Args:
            clip: what to caption.
            options: how; the seed is one number.
            deadline: a moment of `time.monotonic`, after which nobody waits for it.

        Raises:
            RefusedError: too many wait.
        """
        job = _Job(clip, options, deadline)
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise RefusedError(429, "too many requests are waiting", 5) from None
        return job.result

    def close(self, within_seconds: float) -> None:
        """End after the batch in the model; what waits is given up."""
        self._closing = True
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(within_seconds)

    def _work(self) -> None:
        while not self._closing:
            batch = self._next_batch()
            if batch:
                self._caption(batch)

    def _next_batch(self) -> list[_Job]:
        """Jobs of one kind, the oldest first; empty when all that waited is given up."""
        waiting, self._aside = self._aside, []
        if not waiting:
            job = self._queue.get()
            waiting = [] if job is None else [job]
        while True:
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                waiting.append(job)
            if len(waiting) >= 2 * self._batch_size:
                break
        now = time.monotonic()
        wanted = [job for job in waiting if job.deadline > now and not job.result.cancelled()]
        batch = [job for job in wanted if job.kind == wanted[0].kind][: self._batch_size]
        self._aside = [job for job in wanted if job not in batch]
        return [job for job in batch if job.result.set_running_or_notify_cancel()]

    def _caption(self, batch: list[_Job]) -> None:
        options = batch[0].options
        captioner = _Seeded(self._captioner, batch) if options.do_sample else self._captioner
        careful = CarefulCaptioner(captioner, options, self._batch_size, self._note)
        results: Sequence[Caption | Failure | None]
        try:
            results = careful.caption([job.clip for job in batch])
        except RunStoppedError as error:
            results = [Failure("model-error", str(error))] * len(batch)
        except BaseException as error:  # this thread must not die while others wait for it
            results = [Failure("model-error", str(error) or type(error).__name__)] * len(batch)
        self._batch_size = careful.batch_size
        self.counts.clips += len(batch)
        self.counts.batches += 1
        self.counts.largest_batch = max(self.counts.largest_batch, len(batch))
        for job, result in zip(batch, results, strict=True):
            if isinstance(result, Caption):
                job.result.set_result(result)
            else:
                message = result.message if isinstance(result, Failure) else "no answer"
                job.result.set_exception(RefusedError(500, f"the model failed: {message}"))
