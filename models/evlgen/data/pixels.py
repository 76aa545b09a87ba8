"""Frames decoded while a run trains: what a tower needs that is trained inside, or whose features no disk would hold.

Which frames, and how they are cropped, is what the feature cache would have encoded (decoding.py, views.py). Items are
asked for ahead of time and decoded by threads, videos in killable children; how many are asked for, the training
loop bounds (training/ahead.py). Pixels stay bytes until they are on the device.

Shapes: F frames, S image side in pixels.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from evlgen.data.broken_items import BrokenItemError, check_share
from evlgen.data.decoding import FrameReader
from evlgen.data.frame_index import FrameIndex
from evlgen.data.media import MediaStore
from evlgen.data.views import draw_crops, make_view
from evlgen.errors import FileFailure
from evlgen.system.cpus import usable_cpus

MOST_DECODERS = 16
"""Children of one process of a run."""


def decoders_here() -> int:
    """Children for one process of a run: the CPUs that it may use, divided among the run's processes on it."""
    share = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, share), MOST_DECODERS)


class PixelSource:
    """Frames of the usable items of one source, decoded when asked for; a `VisualSource` of uint8 (F, 3, S, S).

    Args:
        name: of the source, for errors.
        names: of all items that the index was asked about.
        media: where the files are.
        index: which of them are usable, and their frames.
        reader: decodes; open as long as the source is used.
        views: variants of every frame: 0 is the plain picture, the others are crops.
        total: items of the source, those without captions included.
        max_broken_share: so many of them (0 to 1) may turn out to be of no use.

    Attributes:
        frames: item -> number of frames, as the index has it.
        lost: items that turned out to be broken, in the order in which they did.
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        media: MediaStore,
        index: FrameIndex,
        reader: FrameReader,
        *,
        views: int,
        total: int,
        max_broken_share: float,
    ) -> None:
        self.name, self.media, self.reader, self.views = name, media, reader, views
        self.names = [names[n] for n in index.usable]
        self.frames = index.frames
        self.lost: dict[str, FileFailure] = {}
        self._index, self._total, self._share = index, total, max_broken_share
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

    def news(self) -> list[FileFailure]:
        """Items that turned out to be broken since this was last asked."""
        found = list(self.lost.values())[self._told :]
        self._told += len(found)
        return found

    def _make(self, name: str, frames: list[int], view: int) -> NDArray[np.uint8]:
        if name in self.lost:
            raise BrokenItemError(self.lost[name])
        try:
            # as the cache does it: crops are cut from the whole frame
            shown = self.reader.read(name, self.media, whole=self.views > 1)
        except BrokenItemError as error:
            self._lose(error.broken)
            raise
        crop = draw_crops(name, self.views)[view]
        chosen = [min(f, len(shown) - 1) for f in frames]  # damage can leave fewer than were counted
        made = {f: make_view(shown[f], crop, self.reader.side) for f in set(chosen)}
        return np.ascontiguousarray(np.stack([made[f] for f in chosen]).transpose(0, 3, 1, 2))

    def _lose(self, broken: FileFailure) -> None:
        with self._lock:
            self.lost[broken.name] = broken
            found = [*self._index.broken, *self.lost.values()]
        check_share(self.name, found, self._total, self._share)
