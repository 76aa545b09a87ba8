"""Names in, frames out: pictures through Pillow in threads, videos through the video room's killable children.

Which frames: the ones on display in the middles of `max_frames` equal spans of time, each once, so that a short clip
gives all of its frames. For a constant frame rate these are the indices floor((i + 1/2) n / max_frames).
"""

from __future__ import annotations

import io
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from evlgen.data.broken import Broken
from evlgen.data.media import MediaStore, file_path, is_picture
from evlgen.errors import EvlgenError
from evlgen.system.cpus import usable_cpus
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler
from evlgen.video.stills import open_picture, to_rgb8

Frames = list[NDArray[np.uint8]]
Result = TypeVar("Result")

THREADS = 2
WAITING = 16
"""Items that may be decoded and not yet taken."""


def decode_items(
    names: Sequence[str],
    store: MediaStore,
    work: Callable[[str, Frames], Result],
    *,
    max_frames: int,
    side: int | None = None,
    timeout_seconds: float = 60.0,
    backend: str = "pyav",
) -> Iterator[tuple[int, Result | Broken]]:
    """Decode files and do some work on the frames of each; pictures first, and videos as they get done.

    Args:
        names: what to decode.
        store: where it is.
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
    pictures: list[int] = []
    videos: list[int] = []
    for number, name in enumerate(names):
        real = store.resolve(name)
        if real is None:
            yield number, missing(store, name)
        elif store.stamp(name)[:1] == (0,):
            yield number, Broken(name, "empty-file", "the file is empty")
        else:
            (pictures if is_picture(real) else videos).append(number)

    def picture(number: int) -> Result | Broken:
        name = names[number]
        try:
            return work(name, [decode_picture(store.read(name))])
        except Exception as error:  # Pillow raises whatever it likes on bad input
            return broken_picture(name, error)

    with ThreadPoolExecutor(THREADS) as threads:
        waiting: deque[tuple[int, Future[Result | Broken]]] = deque()
        try:
            for number in pictures:
                waiting.append((number, threads.submit(picture, number)))
                if len(waiting) == WAITING:
                    at, future = waiting.popleft()
                    yield at, future.result()
            for number, clip in _videos(videos, names, store, max_frames, side, timeout_seconds, backend):
                if isinstance(clip, Broken):
                    yield number, clip
                    continue
                waiting.append((number, threads.submit(work, names[number], clip)))
                if len(waiting) == WAITING or waiting[0][1].done():
                    at, future = waiting.popleft()
                    yield at, future.result()
            while waiting:
                at, future = waiting.popleft()
                yield at, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def missing(store: MediaStore, name: str) -> Broken:
    """A file that is not there."""
    return Broken(name, "missing", f"{store.path} holds no such file")


def broken_picture(name: str, error: Exception) -> Broken:
    """A picture that cannot be read or decoded, as `decode_picture` said it."""
    if isinstance(error, EvlgenError):
        return Broken(name, "unreadable", str(error))
    return Broken(name, "decode-error", f"it cannot be decoded: {type(error).__name__}: {' '.join(str(error).split())}")


def broken_clip(name: str, failure: DecodeFailure) -> Broken:
    """A video that the decoder has given up, under the name of its item."""
    text = failure.message.removeprefix(f"{failure.path}: ").replace(str(failure.path), name)
    return Broken(name, failure.kind, text)


def decode_picture(content: bytes) -> NDArray[np.uint8]:
    """RGB pixels (H, W, 3) of a still picture, as `to_rgb8` has them; of an animation the first frame.

    Raises:
        Exception: whatever Pillow raises on bad input.
    """
    with open_picture(io.BytesIO(content)) as image:
        return to_rgb8(image)


def decode_frames(name: str, content: bytes, max_frames: int) -> Frames:
    """Frames of one picture or video from its bytes; for a few files, as every video starts a process of its own.

    Raises:
        EvlgenError: it cannot be decoded.
    """
    try:
        if is_picture(name):
            return [decode_picture(content)]
    except Exception as error:
        raise EvlgenError(f"{name} cannot be decoded: {type(error).__name__}: {error}") from None
    with tempfile.TemporaryDirectory(prefix="evlgen-") as folder:
        path = Path(folder) / f"clip{PurePosixPath(name).suffix}"
        path.write_bytes(content)
        with DecodePool(workers=1, sampler=Sampler(frames=max_frames)) as pool:
            for clip in pool.map([path]):
                if isinstance(clip, ClipFrames):
                    return distinct_frames(clip)
                raise EvlgenError(f"{name} cannot be decoded: {clip.message.replace(str(path), name)}")
    raise AssertionError("the pool answers for every file")


def distinct_frames(clip: ClipFrames) -> Frames:
    """Its frames, each once: a clip with fewer frames than asked for has some of them repeated."""
    places = {index: at for at, index in reversed(list(enumerate(clip.indices)))}
    return [clip.frames[at] for at in sorted(places.values())]


def _videos(
    numbers: list[int],
    names: Sequence[str],
    store: MediaStore,
    max_frames: int,
    side: int | None,
    timeout_seconds: float,
    backend: str,
) -> Iterator[tuple[int, Frames | Broken]]:
    if not numbers:
        return
    workers = min(len(numbers), usable_cpus(), 8)
    settings: dict[str, Any] = {"workers": workers, "timeout_seconds": timeout_seconds, "backend": backend}
    size = None if side is None else (side, side)
    at: dict[Path, list[int]] = {}  # two names may mean one file
    failed: list[tuple[int, Broken]] = []
    with tempfile.TemporaryDirectory(prefix="evlgen-") as folder:

        def paths() -> Iterator[Path]:
            for number in numbers:
                name = names[number]
                path = file_path(store, name)
                if not store.is_folder:  # the decoding processes want a file, under a name that leads nowhere else
                    try:
                        content = store.read(name)
                    except EvlgenError as error:
                        failed.append((number, Broken(name, "unreadable", str(error))))
                        continue
                    path = Path(folder) / f"{number}{path.suffix}"
                    unpack(content, path)
                at.setdefault(path, []).append(number)
                yield path

        with DecodePool(sampler=Sampler(frames=max_frames), size=size, **settings) as pool:
            for clip in pool.map(paths()):
                number = at[clip.path].pop()
                if not store.is_folder:
                    clip.path.unlink(missing_ok=True)
                while failed:
                    yield failed.pop()
                if isinstance(clip, DecodeFailure):
                    yield number, broken_clip(names[number], clip)
                else:
                    yield number, distinct_frames(clip)
        yield from failed


def unpack(content: bytes, path: Path) -> None:
    """Write a member of an archive to a file of its own, which decoders want.

    Raises:
        EvlgenError: the disk is full or cannot be written.
    """
    try:
        path.write_bytes(content)
    except OSError as error:
        raise EvlgenError(
            f"a video cannot be unpacked to {path.parent}: {error.strerror}",
            "free space there, or set TMPDIR to a folder elsewhere",
        ) from None
