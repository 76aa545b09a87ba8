"""From the contents of files to the frames that a model takes, in decoding children that can be killed.

The contents go to files of our own naming in a private folder; a request names no file.
"""

from __future__ import annotations

import itertools
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from evlgen.captioners.protocol import ModelIdentity
from evlgen.serving.limits import Limits, RefusedError
from evlgen.video import ClipFrames, DecodeFailure, DecodePool, Sampler

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STATUS = {"too-large": 413, "timeout": 504, "crashed": 422}


class MediaDecoder:
    """A context manager around a `DecodePool` and a folder.

    Args:
        identity: of the model: how many frames, and of what size.
        limits: pixels, memory and seconds.
        workers: decoding children.
        frames: of a clip.
    """

    def __init__(self, identity: ModelIdentity, limits: Limits, workers: int, frames: int) -> None:
        self.frames = frames
        self._numbers = itertools.count()
        self._pool = DecodePool(
            workers=workers,
            timeout_seconds=limits.request_seconds,
            sampler=Sampler(frames=frames),
            size=identity.decoded_size,
            most_pixels=limits.pixels,
            most_memory_bytes=limits.child_bytes,
        )

    def __enter__(self) -> MediaDecoder:
        with ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="evlgen-serve-")))
            stack.enter_context(self._pool)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def decode(self, media: tuple[bytes, ...]) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
        """The frames of a clip, uint8 (F, H, W, 3), and their times in seconds; several pictures are frames of one.

        Pictures of which there are more, or fewer, than the model takes are picked evenly, or repeated; they have no
        times, and count as if one came a second. May be called from several threads.

        Raises:
            RefusedError: a file cannot be decoded, is too large, or takes too long.
        """
        if len(media) == 1:
            clip = self._one(media[0])
            return clip.frames, tuple(map(float, clip.timestamps))
        import numpy as np

        from evlgen.video.picture import resize

        chosen = [(2 * span + 1) * len(media) // (2 * self.frames) for span in range(self.frames)]
        pictures = {place: self._one(media[place]).frames[0] for place in dict.fromkeys(chosen)}
        height, width, _ = pictures[chosen[0]].shape
        frames = np.stack([resize(pictures[place], (width, height)) for place in chosen])
        return frames, tuple(float(place) for place in chosen)

    def _one(self, content: bytes) -> ClipFrames:
        path = self._folder / f"{next(self._numbers)}"
        try:
            path.write_bytes(content)
            found = self._pool.decode(path)
        finally:
            path.unlink(missing_ok=True)
        if isinstance(found, DecodeFailure):
            raise RefusedError(_STATUS.get(found.kind, 400), f"a picture or video: {found.named('it').message}")
        return found
