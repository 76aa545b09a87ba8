"""Decoded clips in, outcomes out: the loop in which decoding and the model overlap.

Decoding runs in child processes, ahead of the model, as far as the decoder's look-ahead goes; the model runs here. The
loop looks for a stop request between batches, so that a batch once begun is finished and written down. A batch holds
clips of one frame count, since frames are stacked. A file is decoded once, however many items are about it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evlgen.captioners.protocol import Caption, PromptedClip
from evlgen.captioning.backoff import CarefulCaptioner, RunStoppedError
from evlgen.captioning.items import Item, Span, Video, root_of, source_of
from evlgen.errors import Failure

if TYPE_CHECKING:
    from evlgen.video import ClipFrames, DecodeFailure, Parts

FIRST_BATCH = 4
"""A batch is written down when all of it is done. The first is small, so that captions are seen early; those behind it
are as large as is fast."""
LINGER_SECONDS = 1.0
"""When decoding delivers nothing for so long, the idle model takes the batch as it is."""


class Decoder(Protocol):
    """What a run needs of `evlgen.video.DecodePool`."""

    def map(self, files: Iterable[Path | Parts], idle_seconds: float) -> Iterator[ClipFrames | DecodeFailure | None]:
        """Clips and failures as they are finished, None whenever none came for so long."""


@dataclass(frozen=True)
class Delivered:
    """An item with its clip, ready for the model, or without.

    Attributes:
        item: which one.
        fingerprint: of the file, taken just before it was decoded; None when it could not be read.
        clip: its frames, or why there are none.
        seconds: from the moment the decoder was given the file, or from the first look at what it delivers if that is
            later; a wait for a free decoding process is included.
    """

    item: Item
    fingerprint: str | None
    clip: ClipFrames | Failure
    seconds: float


PARTS_AT_ONCE = 16
"""Parts of a video that are decoded together: one look at the file for all of them, and memory for so many clips."""

_Job = tuple[Path, tuple[Span, ...]]

POLL_SECONDS = 0.1
"""How long a stop request can go unnoticed while nothing else happens."""


def deliver(items: Iterable[Item], decoder: Decoder, stop: threading.Event) -> Iterator[Delivered | None]:
    """Decode the files of items, each once, however many items (questions) are about it; these follow each other.

    Decoding begins at once, before anybody looks at the result. None comes whenever nothing else has come for
    POLL_SECONDS.

    Args:
        items: what to decode.
        decoder: decodes.
        stop: once it is set, no new files are decoded.
    """
    from evlgen.video import DecodeFailure, Parts

    about = _by_decoding(items)
    sources = {item.path: source_of(item) for asked in about.values() for item in asked}
    begun: dict[_Job, float] = {}

    def feed() -> Iterator[Path | Parts]:
        for path, spans in about:
            if stop.is_set():
                return
            begun[path, spans] = time.monotonic()
            yield Parts(path, spans, sources[path]) if spans or sources[path] else path

    results = decoder.map(feed(), POLL_SECONDS)

    def delivered() -> Iterator[Delivered | None]:
        looked = time.monotonic()
        for result in results:
            if result is None:
                yield None
                continue
            job = Path(result.path), result.spans
            asked = about[job]
            seconds = (time.monotonic() - max(begun[job], looked)) / len(asked)
            clips = [result] if isinstance(result, DecodeFailure) else list(result.parts())
            for number, item in enumerate(asked):
                clip = clips[number % len(clips)]  # one for each part, or one for all questions
                if isinstance(clip, DecodeFailure):
                    error = Failure.of(clip.kind, _relative(clip, item))
                    yield Delivered(item, clip.fingerprint, error, seconds)
                else:
                    yield Delivered(item, clip.fingerprint, clip, seconds)

    return delivered()


def _by_decoding(items: Iterable[Item]) -> dict[_Job, list[Item]]:
    """What is decoded at once, and the items that it is for: a file, or some parts of one."""
    whole: dict[Path, list[Item]] = {}
    parts: dict[Path, list[Video]] = {}
    for item in items:
        if isinstance(item, Video) and item.span is not None:
            parts.setdefault(item.path, []).append(item)
        else:
            whole.setdefault(item.path, []).append(item)
    found: dict[_Job, list[Item]] = {(path, ()): own for path, own in whole.items()}
    for path, own in parts.items():
        for start in range(0, len(own), PARTS_AT_ONCE):
            some = own[start : start + PARTS_AT_ONCE]
            found[path, tuple(one.span for one in some if one.span is not None)] = list(some)
    return found


def _relative(failure: DecodeFailure, item: Item) -> str:
    """The message with paths as the row has them: they mean something on other machines too.

    The row names the video already, so that it need not begin with it.
    """
    root = root_of(item)
    reason = failure.named(item.name if root or source_of(item) else failure.path.name).message
    return reason if root is None else reason.replace(f"{root}{os.sep}", "")


@dataclass(frozen=True)
class Outcome:
    """What became of one item.

    Attributes:
        source: the item, with its frames or why there are none.
        result: its caption, or why there is none.
        seconds: decoding, and its share of its batch in the model.
    """

    source: Delivered
    result: Caption | Failure
    seconds: float


def _nothing() -> None:
    """Nobody is called."""


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
    on_count: Callable[[], None] = field(default=_nothing, repr=False, compare=False)

    def __getstate__(self) -> dict[str, object]:
        """Without whom it calls, who cannot go from process to process."""
        return {**vars(self), "on_count": _nothing}

    def count(self, frames: int = 0, tokens: int = 0) -> None:
        """Add to what is done."""
        self.frames += frames
        self.tokens += tokens
        self.on_count()


def run_pipeline(
    delivered: Iterable[Delivered | None],
    prompt: Callable[[Delivered], str],
    captioner: CarefulCaptioner,
    stop: threading.Event,
    clock: Clock,
    *,
    first_batch: int = FIRST_BATCH,
) -> Generator[Outcome, None, None]:
    """Outcomes in the order in which they are known; ends early after `stop` is set, with no batch half done.

    Args:
        delivered: clips and failures as they come, None while nothing comes.
        prompt: what the caption of a clip goes on from.
        captioner: the model; its batch size may shrink on the way.
        stop: set to take no new work.
        clock: filled in on the way.
        first_batch: clips of the first batch, where the captioner takes more.

    Raises:
        RunStoppedError: the captioner can do no more; outcomes that were known by then came first.
        Exception: whatever `delivered` raises.
    """
    batcher = _Batcher(min(first_batch, captioner.batch_size))
    waiting_since = idle_since = time.monotonic()
    for item in delivered:
        now = time.monotonic()
        clock.decode_wait_seconds += now - waiting_since
        batch: list[_Ready] | None = None
        if item is None:
            if now - idle_since >= LINGER_SECONDS:
                batch = batcher.pop_largest()
        elif isinstance(item.clip, Failure):
            yield Outcome(item, item.clip, item.seconds)
        else:
            clock.count(frames=len(item.clip.frames))
            times, length = tuple(map(float, item.clip.timestamps)), item.clip.info.duration_seconds
            seconds = None if length is None else float(length)
            batch = batcher.add((item, PromptedClip(item.clip.frames, times, prompt(item), seconds)))
        if stop.is_set():
            return
        if batch:
            yield from _caption(batch, captioner, clock)
            batcher.batch_size = captioner.batch_size
        waiting_since = time.monotonic()
        if batch or item is not None:
            idle_since = waiting_since
    while not stop.is_set() and (batch := batcher.pop_largest()):
        yield from _caption(batch, captioner, clock)


def _caption(batch: list[_Ready], captioner: CarefulCaptioner, clock: Clock) -> Iterator[Outcome]:
    started = time.monotonic()
    stopped: RunStoppedError | None = None
    try:
        results: Sequence[Caption | Failure | None] = captioner.caption([clip for _, clip in batch])
    except RunStoppedError as error:
        results, stopped = error.results, error
    seconds = time.monotonic() - started
    clock.model_seconds += seconds
    for (item, _), result in zip(batch, results, strict=stopped is None):
        if result is not None:
            yield Outcome(item, result, item.seconds + seconds / len(batch))
    if stopped is not None:
        raise stopped


_Ready = tuple[Delivered, PromptedClip]


class _Batcher:
    """Collects clips by frame count.

    Args:
        batch_size: clips that make a batch full; it may be changed between batches.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self._groups: dict[int, list[_Ready]] = {}

    def add(self, ready: _Ready) -> list[_Ready] | None:
        """Take a clip in; a batch that is now due, if any.

        Due is a full batch, and the largest one when odd frame counts have piled up to two batches: that bounds memory.
        """
        frames = len(ready[1].frames)
        group = self._groups.setdefault(frames, [])
        group.append(ready)
        if len(group) >= self.batch_size:
            return self._groups.pop(frames)
        if sum(map(len, self._groups.values())) >= 2 * self.batch_size:
            return self.pop_largest()
        return None

    def pop_largest(self) -> list[_Ready]:
        """The largest batch there is, full or not; empty when nothing is held."""
        if not self._groups:
            return []
        return self._groups.pop(max(self._groups, key=lambda frames: len(self._groups[frames])))
