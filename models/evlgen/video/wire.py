"""Messages between the pool and its children: a length, a pickled object, and the pixels behind it as plain bytes.

Pixels travel outside the pickle so that they are written and read without a second copy.
"""

import pickle
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from evlgen.errors import EvlgenError
from evlgen.system.remote_files import RemoteFile
from evlgen.video.clip import ClipFrames, DecodeFailure
from evlgen.video.sampler import Sampler, Span

_LENGTHS = struct.Struct("=QQ")


@dataclass(frozen=True)
class Settings:
    """What a child is told once.

    Args:
        backend: "module:function".
        sampler: which frames.
        size: see `evlgen.video.picture.Size`.
        strict: a damaged file is a failure.
        threads: decoding threads in this child.
        most_pixels: larger pictures and videos are refused, see `evlgen.video.bounds`; None: none are.
        most_memory_bytes: of this child; None: what the machine has.
        most_fetched_bytes: of a file that is elsewhere.
    """

    backend: str
    sampler: Sampler
    size: tuple[int, int] | int | None
    strict: bool
    threads: int
    most_pixels: int | None = None
    most_memory_bytes: int | None = None
    most_fetched_bytes: int = 0


@dataclass(frozen=True)
class Parts:
    """A file, or parts of it.

    Attributes:
        path: the file.
        spans: see `Sampler.spans`; none: the whole file.
        source: where the file is, if it is not here; then `path` only stands for it.
        local: where such a file is put while it is decoded; set by the child's parent.
    """

    path: Path
    spans: tuple[Span, ...] = ()
    source: RemoteFile | None = None
    local: Path | None = None


Reply = ClipFrames | DecodeFailure | EvlgenError
"""What a child answers to a path, after the file's fingerprint; an EvlgenError concerns the set-up, not the file."""


def send(stream: IO[bytes], message: Any) -> None:
    """Write one message.

    Raises:
        OSError: the other side is gone.
    """
    pixels: Any = b""
    if isinstance(message, ClipFrames):
        frames = message.frames
        pixels = frames.reshape(-1).data
        message = (replace(message, frames=None), frames.shape)  # type: ignore[arg-type]  # restored by receive()
    data = pickle.dumps(message)
    stream.write(_LENGTHS.pack(len(data), len(pixels)) + data)
    stream.write(pixels)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Read one message.

    Raises:
        EOFError: the other side is gone.
    """
    data_bytes, pixel_bytes = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    message = pickle.loads(_exactly(stream, data_bytes))
    if isinstance(message, tuple) and isinstance(message[0], ClipFrames):
        import numpy as np

        clip, shape = message
        return replace(clip, frames=np.frombuffer(_exactly(stream, pixel_bytes), np.uint8).reshape(shape))
    return message


def _exactly(stream: IO[bytes], count: int) -> bytearray:
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        step = stream.readinto(view[done:])  # type: ignore[attr-defined]  # pipes opened in binary mode have it
        if not step:
            raise EOFError("the pipe was closed")
        done += step
    return buffer
