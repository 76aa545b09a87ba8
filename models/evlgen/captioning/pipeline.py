"""Decoded clips in, outcomes out: the loop in which decoding and the model overlap.

Decoding runs in child processes, read through a bounded queue; the model runs here. The loop looks for a stop request
between batches, so that a batch once begun is finished and written down.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field

from evlgen.captioning.backoff import CarefulCaptioner
from evlgen.captioning.batching import Batcher
from evlgen.captioning.captioner import Caption
from evlgen.captioning.delivery import Decoded, NotDecoded
from evlgen.captioning.prefetch import Exhausted, Prefetch
from evlgen.captioning.rows import RowError

POLL_SECONDS = 0.1
"""How long a stop request can go unnoticed while nothing else happens."""

LINGER_SECONDS = 1.0
"""When decoding delivers nothing for so long, the idle model takes the batch as it is."""


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        source: the video, with its frames or why there are none.
        result: its caption, or why there is none.
        seconds: decoding, and its share of its batch in the model.
    """

    source: Decoded | NotDecoded
    result: Caption | RowError
    seconds: float


@dataclass
class Clock:
    """Where the time of the loop went, in seconds, and how far it is, in what moves before a batch is done.

    Attributes:
        decode_wait_seconds: the model stood idle because no clip was ready.
        model_seconds: the model worked.
        frames: that were read from videos.
        tokens: that the model has written.
        on_count: called when frames or tokens have grown.
    """

    decode_wait_seconds: float = 0.0
    model_seconds: float = 0.0
    frames: int = 0
    tokens: int = 0
    on_count: Callable[[], None] = field(default=lambda: None, repr=False, compare=False)

    def count(self, frames: int = 0, tokens: int = 0) -> None:
        """Add to what is done."""
        self.frames += frames
        self.tokens += tokens
        self.on_count()


def run_pipeline(
    delivered: Iterable[Decoded | NotDecoded],
    captioner: CarefulCaptioner,
    stop: threading.Event,
    clock: Clock,
) -> Generator[Outcome, None, None]:
    """Outcomes in the order in which they are known; ends early after `stop` is set, with no batch half done.

    Args:
        delivered: clips and failures as they come; iterated in a thread.
        captioner: the model; its batch size may shrink on the way.
        stop: set to take no new work.
        clock: filled in on the way.

    Raises:
        ModelBrokenError: the model fails on everything.
        Exception: whatever `delivered` raises.
    """
    batcher = Batcher(captioner.batch_size)
    idle_seconds = 0.0
    with Prefetch(delivered, depth=2 * captioner.batch_size) as ready:
        while not stop.is_set():
            started = time.monotonic()
            batch: list[Decoded] | None = None
            failed: NotDecoded | None = None
            ended = False
            try:
                item = ready.get(POLL_SECONDS)
                idle_seconds = 0.0
                if isinstance(item, NotDecoded):
                    failed = item
                else:
                    clock.count(frames=len(item.clip.frames))
                    batch = batcher.add(item)
            except queue.Empty:
                idle_seconds += POLL_SECONDS
                if idle_seconds >= LINGER_SECONDS:
                    batch = batcher.pop_largest()
                    idle_seconds = 0.0
            except Exhausted:
                batch = batcher.pop_largest()
                ended = not batch
            clock.decode_wait_seconds += time.monotonic() - started
            if failed is not None:
                yield Outcome(failed, failed.error, failed.seconds)
            if batch:
                yield from _caption(batch, captioner, clock)
            if ended:
                return


def _caption(batch: list[Decoded], captioner: CarefulCaptioner, clock: Clock) -> Iterator[Outcome]:
    started = time.monotonic()
    results = captioner.caption([item.model_input for item in batch])
    seconds = time.monotonic() - started
    clock.model_seconds += seconds
    for item, result in zip(batch, results, strict=True):
        yield Outcome(item, result, item.seconds + seconds / len(batch))
