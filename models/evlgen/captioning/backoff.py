"""Captions of a batch whatever happens: halve it when memory runs out, go one by one when the model fails.

A failure then costs the one clip that caused it. The smaller batch is kept for the rest of the run. With --rerank
consensus the caption that says what most of a clip's captions say takes the place of the most likely one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from evlgen.captioners.protocol import Caption, Captioner, CaptioningStoppedError, PromptedClip
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import EvlgenError, Failure

MOST_FAILURES_IN_A_ROW = 10
"""After so many the model itself is broken (a device in error state, say), not the clips."""

Answer = Caption | Failure


class RunStoppedError(EvlgenError):
    """No more clips can be captioned.

    Attributes:
        results: what there is all the same for the clips that were asked for, from the first on; None: nothing.
    """

    def __init__(self, what: str, hint: str, results: Sequence[Caption | Failure | None] = ()) -> None:
        super().__init__(what, hint)
        self.results = results


class ModelBrokenError(RunStoppedError):
    """The model fails on every clip."""


class CarefulCaptioner:
    """Wraps a captioner; see the module.

    Args:
        captioner: the model.
        options: how captions are searched for.
        batch_size: most clips at a time.
        note: told in one line when the batch shrinks.
    """

    def __init__(
        self, captioner: Captioner, options: DecodingOptions, batch_size: int, note: Callable[[str], None]
    ) -> None:
        self.batch_size = batch_size
        self._options = options
        self._captioner = captioner
        self._note = note
        self._failures_in_a_row = 0

    def caption(self, clips: Sequence[PromptedClip]) -> list[Caption | Failure]:
        """A caption or a reason for every clip, in order.

        Raises:
            RunStoppedError: the captioner can do no more, or failed on many clips in a row (ModelBrokenError).
        """
        results: list[Caption | Failure] = []
        try:
            while len(results) < len(clips):
                part = clips[len(results) : len(results) + self.batch_size]
                answers, failure = self._try(part)
                if answers is not None:
                    self._take(answers, results)
                elif failure.kind == "out-of-memory" and len(part) > 1:
                    self._shrink(len(part) // 2)
                elif len(part) > 1:
                    self._one_by_one(part, results)
                else:
                    results.append(self._give_up(failure))
        except CaptioningStoppedError as error:
            rest = [None if answer is None else _judged(answer) for answer in error.answers]
            raise RunStoppedError(error.what, error.hint, [*results, *rest]) from error
        except ModelBrokenError as error:
            error.results = results
            raise
        return results

    def _take(self, answers: Sequence[Answer], results: list[Caption | Failure]) -> None:
        """Add the answers of a batch; all of them, since they cost something, before the model is called broken."""
        judged = [_judged(answer) for answer in answers]
        results += judged
        for result in judged:
            self._failures_in_a_row = self._failures_in_a_row + 1 if isinstance(result, Failure) else 0
        if judged and isinstance(failure := judged[-1], Failure):
            self._see_if_broken(failure)

    def _try(self, clips: Sequence[PromptedClip]) -> tuple[Sequence[Answer] | None, Failure]:
        try:
            answers = self._captioner.caption(clips, self._options)
            if len(answers) != len(clips):
                raise ValueError(f"the model gave {len(answers)} captions for {len(clips)} clips")
            if self._options.rerank == "consensus":
                answers = [by_consensus([one])[0] if isinstance(one, Caption) else one for one in answers]
            return answers, Failure("", "")
        except CaptioningStoppedError:
            raise
        except Exception as error:
            out_of_memory = is_out_of_memory(error)
            kind = "out-of-memory" if out_of_memory else "model-error"
            failure = Failure.of(kind, str(error) or type(error).__name__)
        # outside of the handler: the traceback, and with it every tensor of the failed batch, is free by now
        if out_of_memory:
            self._captioner.release_memory()
        return None, failure

    def _one_by_one(self, clips: Sequence[PromptedClip], results: list[Caption | Failure]) -> None:
        for index in range(len(clips)):
            answers, failure = self._try(clips[index : index + 1])
            if answers is not None:
                self._take(answers, results)
            else:
                results.append(self._give_up(failure))

    def _give_up(self, failure: Failure) -> Failure:
        self._failures_in_a_row += 1
        self._see_if_broken(failure)
        return failure

    def _see_if_broken(self, failure: Failure) -> None:
        if self._failures_in_a_row >= MOST_FAILURES_IN_A_ROW:
            raise ModelBrokenError(
                f"the model failed on {self._failures_in_a_row} videos in a row; the last time: {failure.message}",
                "when the cause is gone, run the same command with --retry-failed",
            )

    def _shrink(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._note(f"out of memory: going on with batches of {batch_size}")


def _judged(answer: Answer) -> Caption | Failure:
    """The caption; or why it is none, where the arithmetic behind it broke down (weights that are no numbers)."""
    if isinstance(answer, Failure):
        return Failure.of(answer.kind, answer.message)
    for one in (answer, *answer.alternatives):
        if one.log_probability is not None and not math.isfinite(one.log_probability):
            message = f"the model gave the log-probability {one.log_probability}: its weights or inputs are damaged"
            return Failure("not-finite", f"{message}, or --dtype is too coarse for it")
    return answer


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device; torch need not be there to tell."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in ("out of memory", "can't allocate memory", "not enough memory")
    )


def by_consensus(captions: Sequence[Caption]) -> list[Caption]:
    """The same captions and alternatives, those first that agree most with the others of their clip.

    Agreement is the mean CIDEr-D against the others (`evlgen.metrics.consensus`), every n-gram weighted alike, so that
    a clip's caption does not depend on the clips beside it. Captions that agree alike keep their order.
    """
    from evlgen.metrics.cider import FACTOR
    from evlgen.metrics.consensus import ALL_ALIKE, consensus

    pools = [[replace(best, alternatives=()), *best.alternatives] for best in captions]
    scores = consensus([[one.text for one in pool] for pool in pools], ALL_ALIKE)
    found = []
    for best, pool, own in zip(captions, pools, scores, strict=True):
        order = sorted(range(len(pool)), key=lambda place: -own[place])
        first, *others = (replace(pool[place], agreement=float(own[place]) / FACTOR, tags=()) for place in order)
        found.append(replace(first, alternatives=tuple(others), tags=best.tags))
    return found
