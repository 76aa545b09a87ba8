"""What the decoder delivers, with the time it took and the fingerprint of the content that was decoded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from evlgen.captioning.caption_rows import RowError
from evlgen.captioning.items import Item, root_of

if TYPE_CHECKING:
    from evlgen.video import ClipFrames, DecodeFailure


class Decoder(Protocol):
    """What a run needs of `evlgen.video.DecodePool`."""

    def map(self, paths: Iterable[Path], idle_seconds: float) -> Iterator[ClipFrames | DecodeFailure | None]:
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
    clip: ClipFrames | RowError
    seconds: float


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
    from evlgen.video import DecodeFailure

    about: dict[Path, list[Item]] = {}
    for item in items:
        about.setdefault(item.path, []).append(item)
    begun: dict[Path, float] = {}

    def feed() -> Iterator[Path]:
        for path in about:
            if stop.is_set():
                return
            begun[path] = time.monotonic()
            yield path

    results = decoder.map(feed(), POLL_SECONDS)

    def delivered() -> Iterator[Delivered | None]:
        looked = time.monotonic()
        for result in results:
            if result is None:
                yield None
                continue
            asked = about[Path(result.path)]
            seconds = (time.monotonic() - max(begun[Path(result.path)], looked)) / len(asked)
            for item in asked:
                if isinstance(result, DecodeFailure):
                    error = RowError.of(result.kind, _relative(result, item))
                    yield Delivered(item, result.fingerprint, error, seconds)
                else:
                    yield Delivered(item, result.fingerprint, result, seconds)

    return delivered()


def _relative(failure: DecodeFailure, item: Item) -> str:
    """The message with paths as the row has them: they mean something on other machines too.

    The row names the video already, so that it need not begin with it.
    """
    root = root_of(item)
    reason = failure.named(item.name if root else failure.path.name).reason
    return reason if root is None else reason.replace(f"{root}{os.sep}", "")
