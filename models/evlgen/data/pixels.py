"""Frames decoded while a run trains: what a tower needs that is trained inside, or whose features no disk would hold.

Which frames, and how they are cropped, is what the feature cache would have encoded (decoding.py, views.py). Items are
asked for ahead of time and decoded by threads, videos in killable children; how many are asked for, the training
loop bounds (training/steps.py). Pixels stay bytes until they are on the device.

Shapes: F frames, S image side in pixels.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from evlgen.data.caption_sources import CaptionedItem, ReadSource
from evlgen.data.decoding import FrameReader
from evlgen.data.findings import BrokenItemError, check_share
from evlgen.data.frame_index import FrameIndex, build_index
from evlgen.data.views import draw_crops, make_view
from evlgen.errors import Failure
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.cpus import usable_cpus
from evlgen.system.progress import ProgressCallback

MOST_DECODERS = 16
"""Children of one process of a run."""


def decoders_here() -> int:
    """Children for one process of a run: the CPUs that it may use, divided among the run's processes on it."""
    share = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, share), MOST_DECODERS)


class PixelSource:
    """Frames of the usable items of one source, decoded when asked for; a `VisualSource` of uint8 (F, 3, S, S).

    Args:
        source: its items and files.
        index: which of them are usable, and their frames.
        reader: decodes; open as long as the source is used.
        max_broken_share: so many of the items (0 to 1) may turn out to be of no use.

    Attributes:
        names: of the usable items.
        frames: item -> number of frames, as the index has it.
        views: variants of every frame: 0 is the plain picture, the others are crops.
        lost: items that turned out to be broken, in the order in which they did.
    """

    def __init__(self, source: ReadSource, index: FrameIndex, reader: FrameReader, *, max_broken_share: float) -> None:
        self.source, self.reader, self.views = source, reader, source.config.views
        self.names = [source.items[n].name for n in index.usable]
        self.frames = index.frames
        self.lost: dict[str, Failure] = {}
        self._index, self._share = index, max_broken_share
        self._lock = threading.Lock()
        self._told = 0

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.uint8]:
        """Pixels (F, 3, S, S), not normalised, of some frames of an item.

        Raises:
            BrokenItemError: it cannot be decoded.
            EvlgenError: that is so of more items than may be, or decoding cannot be started.
        """
        return self.ask(item, frames, view)()

    def ask(self, item: int, frames: list[int], view: int) -> Callable[[], NDArray[np.uint8]]:
        """Begin to decode; what `get` gives, or raises, comes when the result is called."""
        return self.reader.submit(lambda: self._make(self.names[item], frames, view)).result

    def news(self) -> list[Failure]:
        """Items that turned out to be broken since this was last asked."""
        found = list(self.lost.values())[self._told :]
        self._told += len(found)
        return found

    def _make(self, name: str, frames: list[int], view: int) -> NDArray[np.uint8]:
        if name in self.lost:
            raise BrokenItemError(self.lost[name])
        try:
            # as the cache does it: crops are cut from the whole frame
            shown = self.reader.read(name, self.source.media, whole=self.views > 1)
        except BrokenItemError as error:
            self._lose(error.broken)
            raise
        crop = draw_crops(name, self.views)[view]
        chosen = [min(f, len(shown) - 1) for f in frames]  # damage can leave fewer than were counted
        made = {f: make_view(shown[f], crop, self.reader.side) for f in set(chosen)}
        return np.ascontiguousarray(np.stack([made[f] for f in chosen]).transpose(0, 3, 1, 2))

    def _lose(self, broken: Failure) -> None:
        with self._lock:
            self.lost[broken.name] = broken
            found = [*self._index.broken, *self.lost.values()]
        check_share(self.source.name, found, self.source.total, self._share)


def open_pixels(
    source: ReadSource,
    data: DataConfig,
    reader: FrameReader,
    *,
    retry: bool = False,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[list[CaptionedItem], PixelSource] | None:
    """The usable items of a source with their frames, which are decoded when asked for; None if it was stopped.

    Args:
        source: what to open; items to validate on are decoded once at first, so that none fails later.
        data: max_broken_share.
        reader: decodes; so many frames of a video as it gives are opened.
        retry, report, stop: see `build_index`.

    Raises:
        EvlgenError: see `build_index`.
    """
    share = data.max_broken_share
    index = build_index(
        source, max_frames=reader.max_frames, max_broken_share=share, retry=retry, report=report, stop=stop
    )  # fmt: skip
    if index is None:
        return None
    return [source.items[n] for n in index.usable], PixelSource(source, index, reader, max_broken_share=share)
