"""What the decoder delivers, with the time it took and the fingerprint of the content that was decoded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evlgen.captioning.captioner import Asked
from evlgen.captioning.discover import Video
from evlgen.captioning.rows import RowError

if TYPE_CHECKING:
    from evlgen.video import ClipFrames, DecodeFailure


class Decoder(Protocol):
    """What a run needs of `evlgen.video.DecodePool`."""

    def map(self, paths: Iterable[Path]) -> Iterator[ClipFrames | DecodeFailure]:
        """Clips and failures in the order in which they are finished; reads `paths` only as far as it must."""


@dataclass(frozen=True)
class Decoded:
    """A clip, ready for the model.

    Attributes:
        video: which one.
        fingerprint: of the file, taken just before it was decoded.
        clip: its frames.
        seconds: from the moment the decoder was given the file; a wait for a free decoding process is included.
    """

    video: Video
    fingerprint: str | None
    clip: ClipFrames
    seconds: float

    @property
    def model_input(self) -> Any:
        """What a captioner takes: the frames (F, H, W, 3), with the question if one is asked."""
        frames = self.clip.frames
        return frames if self.video.question is None else Asked(frames, self.video.question)


@dataclass(frozen=True)
class NotDecoded:
    """A video without frames; attributes as of `Decoded`, and why."""

    video: Video
    fingerprint: str | None
    error: RowError
    seconds: float


def deliver(videos: Iterable[Video], decoder: Decoder, stop: threading.Event) -> Iterator[Decoded | NotDecoded]:
    """Decode videos; hands out no new ones after `stop` is set."""
    from evlgen.video import DecodeFailure

    given: dict[Path, tuple[Video, float]] = {}

    def feed() -> Iterator[Path]:
        for video in videos:
            if stop.is_set():
                return
            given[video.path] = (video, time.monotonic())
            yield video.path

    for result in decoder.map(feed()):
        video, started = given.pop(Path(result.path))
        seconds = time.monotonic() - started
        if isinstance(result, DecodeFailure):
            yield NotDecoded(video, result.fingerprint, RowError.of(result.kind, _relative(result, video)), seconds)
        else:
            yield Decoded(video, result.fingerprint, result, seconds)


def _relative(failure: DecodeFailure, video: Video) -> str:
    """The message with paths as the row has them: they mean something on other machines too.

    The row names the video already, so that it need not begin with it.
    """
    message = failure.message.removeprefix(f"{failure.path}: ")
    message = message.replace(str(failure.path), video.name if video.root else failure.path.name)
    return message if video.root is None else message.replace(f"{video.root}{os.sep}", "")
