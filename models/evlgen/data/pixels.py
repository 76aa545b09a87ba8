"""Frames decoded while a run trains: what a tower needs that is trained inside, or whose features no disk would hold.

Which frames, and how they are cropped, is what the feature cache would have encoded (decoding.py, views.py). Items are
asked for ahead of time and decoded by threads, videos in killable children; how many are asked for, the training
loop bounds (training/ahead.py). Pixels stay bytes until they are on the device.

Shapes: F frames, S image side in pixels.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evlgen.data.broken import Broken, BrokenItemError, check_share
from evlgen.data.decoding import (
    Frames,
    broken_clip,
    broken_picture,
    decode_picture,
    distinct_frames,
    missing,
    unpack,
)
from evlgen.data.index import FrameIndex
from evlgen.data.media import MediaStore, file_path, is_picture
from evlgen.data.views import draw_crops, make_view
from evlgen.errors import EvlgenError
from evlgen.system.cpus import usable_cpus
from evlgen.video import ClipFrames, DecodePool, Sampler

MOST_DECODERS = 16
"""Children of one process of a run."""

Result = TypeVar("Result")


def decoders_here() -> int:
    """Children for one process of a run: the CPUs that it may use, divided among the run's processes on it."""
    share = usable_cpus() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(max(1, share), MOST_DECODERS)


class FrameReader:
    """Decodes for all sources of a run; a context manager. Children are started by the first video.

    Args:
        max_frames: of a video.
        side: S, to which videos are resized where they are decoded if their whole frames are not needed.
        workers: children; as many threads again cut and resize.
        timeout_seconds: a video that takes longer is broken.
        backend: as for `DecodePool`.
    """

    def __init__(
        self, max_frames: int, side: int, *, workers: int = 2, timeout_seconds: float = 60.0, backend: str = "pyav"
    ) -> None:
        self.side, self.max_frames = side, max_frames
        self._pools = {
            whole: DecodePool(workers, timeout_seconds, backend, Sampler(frames=max_frames), size)
            for whole, size in ((True, None), (False, (side, side)))
        }
        self._opened: dict[bool, DecodePool] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(2 * workers, thread_name_prefix="frames")
        self._files = count()
        self._folder = tempfile.TemporaryDirectory(prefix="evlgen-")
        self._closing = False

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Begin work as soon as a thread is free."""
        return self._threads.submit(work)

    def read(self, name: str, media: MediaStore, *, whole: bool) -> Frames:
        """RGB frames (H, W, 3), upright: those that the feature cache is made of.

        Args:
            name: of the item.
            media: where its file is.
            whole: videos at their own size, instead of (S, S).

        Raises:
            BrokenItemError: the file is not there or cannot be decoded.
            EvlgenError: decoding cannot be started, or the disk for temporary files is full.
        """
        real = media.resolve(name)
        if real is None:
            raise BrokenItemError(missing(media, name))
        if not is_picture(real):
            return self._video(name, media, whole)
        try:
            return [decode_picture(media.read(name))]
        except Exception as error:  # Pillow raises whatever it likes on bad input
            raise BrokenItemError(broken_picture(name, error)) from None

    def _video(self, name: str, media: MediaStore, whole: bool) -> Frames:
        path = file_path(media, name)
        unpacked = None
        if not media.is_folder:
            try:
                content = media.read(name)
            except EvlgenError as error:
                raise BrokenItemError(Broken(name, "unreadable", str(error))) from None
            path = unpacked = Path(self._folder.name) / f"{next(self._files)}{path.suffix}"
            unpack(content, path)
        try:
            clip = self._pool(whole).decode(path)
        finally:
            if unpacked is not None:
                unpacked.unlink(missing_ok=True)
        if isinstance(clip, ClipFrames):
            return distinct_frames(clip)
        raise BrokenItemError(broken_clip(name, clip))

    def _pool(self, whole: bool) -> DecodePool:
        with self._lock:
            if self._closing:
                raise EvlgenError("the run is ending: nothing is decoded any more")
            if whole not in self._opened:
                self._opened[whole] = self._pools[whole].__enter__()
            return self._opened[whole]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End children and threads; what was asked for and is not there fails."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closing = True
        for pool in self._opened.values():
            pool.__exit__(None, None, None)  # what is being decoded ends at once
        self._threads.shutdown(wait=True)
        self._folder.cleanup()


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
        self.lost: dict[str, Broken] = {}
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

    def news(self) -> list[Broken]:
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

    def _lose(self, broken: Broken) -> None:
        with self._lock:
            self.lost[broken.name] = broken
            found = [*self._index.broken, *self.lost.values()]
        check_share(self.name, found, self._total, self._share, None)
