"""What the decoder delivers, with the time it took and the fingerprint of the content that was decoded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evlgen.captioning.items import Item, Span, Video, root_of, source_of
from evlgen.errors import Failure

if TYPE_CHECKING:
    from evlgen.video import ClipFrames, DecodeFailure, Parts


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
