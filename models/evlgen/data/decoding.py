"""Names in, frames out: pictures through Pillow in threads, videos through the video room's killable children.

Which frames: the ones on display in the middles of `max_frames` equal spans of time, each once, so that a short clip
gives all of its frames. For a constant frame rate these are the indices floor((i + 1/2) n / max_frames).
"""

from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from evlgen.data.findings import BrokenItemError
from evlgen.data.media import MediaStore, file_path, is_picture
from evlgen.errors import EvlgenError, Failure
from evlgen.system.cpus import usable_cpus
from evlgen.system.files import os_errors
from evlgen.video import ClipFrames, DecodePool, Sampler
from evlgen.video.stills import open_picture, to_rgb8

Frames = list[NDArray[np.uint8]]
Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_CHILDREN = 8
"""How many children one look through many files starts at most."""

WAITING = 16
"""Items that may be decoded and not yet taken."""


class FrameReader:
    """Decodes files from several threads at once; a context manager. Children are started by the first video.

    Args:
        max_frames: of a video.
        side: S, to which videos are resized where they are decoded if their whole frames are not needed.
        workers: children; as many threads again cut and resize.
        timeout_seconds: a video that takes longer is broken.
        backend: as for `DecodePool`.

    Attributes:
        threads: in which files are decoded.
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
        self.threads = ThreadPoolExecutor(2 * workers, thread_name_prefix="frames")
        self._numbers = count()
        self._folder = tempfile.TemporaryDirectory(prefix="evlgen-")
        self._closing = False

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        """Begin work as soon as a thread is free."""
        return self.threads.submit(work)

    def read(self, name: str, media: MediaStore, *, whole: bool) -> Frames:
        """RGB frames (H, W, 3), upright, of a picture or video: those that the feature cache is made of.

        Args:
            name: of the item.
            media: where its file is.
            whole: videos at their own size, instead of (S, S), aspect not kept.

        Raises:
            BrokenItemError: the file is not there or cannot be decoded.
            EvlgenError: decoding cannot be started, or the disk for temporary files is full.
        """
        real = media.resolve(name)
        if real is None:
            raise BrokenItemError(missing(media, name))
        if media.stamp(name)[:1] == (0,):
            raise BrokenItemError(Failure("empty-file", "the file is empty", name))
        path = file_path(media, name)
        if media.is_folder and not is_picture(real):
            return self._video(name, path, whole)
        try:
            content = media.read(name)
        except EvlgenError as error:
            raise BrokenItemError(Failure("unreadable", str(error), name)) from None
        if is_picture(real):
            try:
                return [decode_picture(content)]
            except Exception as error:  # Pillow raises whatever it likes on bad input
                raise BrokenItemError(broken_picture(name, error)) from None
        # the decoding processes want a file, under a name that leads nowhere else
        unpacked = Path(self._folder.name) / f"{next(self._numbers)}{path.suffix}"
        with os_errors(unpacked, hint="free space there, or set TMPDIR to a folder elsewhere"):
            unpacked.write_bytes(content)
        try:
            return self._video(name, unpacked, whole)
        finally:
            unpacked.unlink(missing_ok=True)

    def _video(self, name: str, path: Path, whole: bool) -> Frames:
        clip = self._pool(whole).decode(path)
        if isinstance(clip, ClipFrames):
            return distinct_frames(clip)
        raise BrokenItemError(clip.named(name))

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
        self.threads.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            self._closing = True
        for pool in self._opened.values():
            pool.__exit__(None, None, None)  # what is being decoded ends at once
        self.threads.shutdown(wait=True)
        self._folder.cleanup()


def decode_items(
    names: Sequence[str],
    media: MediaStore,
    work: Callable[[str, Frames], Result],
    *,
    max_frames: int,
    side: int | None = None,
    timeout_seconds: float = 60.0,
    backend: str = "pyav",
) -> Iterator[tuple[int, Result | Failure]]:
    """Decode files and do some work on the frames of each; they come as they get done.

    Args:
        names: what to decode.
        media: where it is.
        work: gets a name and its RGB frames (H, W, 3), upright; called in threads.
        max_frames: of a video.
        side: videos may come resized to a square of this many pixels, aspect not kept; None: as they are.
        timeout_seconds: a video that takes longer is broken.
        backend: as for `DecodePool`.

    Yields:
        position in `names`, and the work's result or why there is none.

    Raises:
        EvlgenError: decoding cannot be started, or the disk for temporary files is full.
    """
    workers = max(1, min(len(names), usable_cpus(), MOST_CHILDREN))
    with FrameReader(
        max_frames, side or 1, workers=workers, timeout_seconds=timeout_seconds, backend=backend
    ) as reader:

        def decode(number: int) -> Result | Failure:
            try:
                return work(names[number], reader.read(names[number], media, whole=side is None))
            except BrokenItemError as error:
                return error.broken

        yield from as_they_get_done(reader.threads, decode, range(len(names)))


def as_they_get_done(
    threads: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Result]]:
    """Do some work on every item in threads; at most `WAITING` are under way or not yet taken.

    Yields:
        the item, and the work's result; its error is raised here.
    """
    under_way: dict[Future[Result], Item] = {}
    left = iter(items)
    try:
        while True:
            while len(under_way) < WAITING and (item := next(left, None)) is not None:
                under_way[threads.submit(work, item)] = item
            if not under_way:
                return
            ready = wait(under_way, return_when=FIRST_COMPLETED).done
            for future in [one for one in under_way if one in ready]:
                yield under_way.pop(future), future.result()
    finally:
        for future in under_way:
            future.cancel()


def missing(media: MediaStore, name: str) -> Failure:
    """A file that is not there."""
    return Failure("missing", f"{media.path} holds no such file", name)


def broken_picture(name: str, error: Exception) -> Failure:
    """A picture that cannot be decoded, as `decode_picture` said it."""
    text = " ".join(str(error).split())
    return Failure("decode-error", f"it cannot be decoded: {type(error).__name__}: {text}", name)


def decode_picture(content: bytes) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) of a still picture, as `to_rgb8` has them; of an animation the first frame.

    Raises:
        Exception: whatever Pillow raises on bad input.
    """
    with open_picture(io.BytesIO(content)) as image:
        return to_rgb8(image)


def distinct_frames(clip: ClipFrames) -> Frames:
    """Its frames, each once: a clip with fewer frames than asked for has some of them repeated."""
    places = {index: at for at, index in reversed(list(enumerate(clip.indices)))}
    return [clip.frames[at] for at in sorted(places.values())]
