"""Open a file with PyAV and say plainly what is wrong when that fails. PyAV is imported on first use only."""

import errno
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

from evlgen.errors import VideoError
from evlgen.video import formats
from evlgen.video.clip import VideoInfo
from evlgen.video.orientation import orientation_of

ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC of libavformat


def check_file(path: Path) -> None:
    """Raise the VideoErrors that need no decoder: "missing" and "empty-file"."""
    try:
        size = path.stat().st_size
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            raise VideoError("missing", f"{path}: no such file") from error
        raise VideoError("missing", f"{path}: cannot be read: {error.strerror}") from error
    if not path.is_file():
        raise VideoError("missing", f"{path}: not a file")
    if size == 0:
        raise VideoError("empty-file", f"{path}: the file is empty (0 bytes)")


def open_container(path: Path) -> AbstractContextManager[Any]:
    """Open `path` as a PyAV input container, to be used in a with statement.

    Only the file itself is read: formats that would have other files or addresses read are refused (formats.py).

    Raises:
        VideoError: "missing", "empty-file" or "decode-error".
    """
    import av

    check_file(path)
    try:
        # The "file:" prefix keeps names such as "a:b.mp4" or "-x.mp4" from being read as protocols or options.
        container: AbstractContextManager[Any] = av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": formats.OPENED},
            metadata_errors="replace",
        )
    except av.error.ArgumentError as error:  # what FFmpeg says of a format that is not on the list
        raise VideoError("decode-error", f"{path}: {formats.REFUSED}", formats.HINT) from error
    except (OSError, ValueError, UnicodeError) as error:
        raise VideoError("decode-error", f"{path}: {reason(error)}") from error
    return container


def video_streams(container: Any) -> list[Any]:
    """The video streams, without the cover pictures that audio files carry."""
    return [stream for stream in container.streams.video if not int(stream.disposition) & ATTACHED_PICTURE]


def first_video_stream(container: Any, path: Path, decodable: bool = True) -> Any:
    """The stream to look at: the first one, without `decodable` even one that PyAV has no decoder for.

    Raises:
        VideoError: "no-video-stream".
    """
    streams = [stream for stream in video_streams(container) if stream.codec_context is not None or not decodable]
    if not streams:
        raise VideoError("no-video-stream", f"{path}: there is no video stream that can be decoded")
    return streams[0]


def describe(container: Any, stream: Any, frame: Any) -> VideoInfo:
    """Collect what the header says; the picture's size and rotation come from a decoded `frame`."""
    orientation = orientation_of(frame)
    return describe_header(container, stream, *orientation.size(frame.width, frame.height), orientation.degrees)


def describe_header(container: Any, stream: Any, width: int, height: int, rotation: int = 0) -> VideoInfo:
    """The same for a picture of known upright size, decoded elsewhere; the codec is "unknown" if PyAV lacks it."""
    context = stream.codec_context
    duration = None
    if stream.duration and stream.duration > 0:
        duration = stream.duration * Fraction(stream.time_base)
    elif container.duration and container.duration > 0:
        duration = Fraction(container.duration, 1_000_000)
    rate = stream.average_rate
    return VideoInfo(
        container_format=container.format.name,
        codec="unknown" if context is None else context.codec.canonical_name,
        width=width,
        height=height,
        rotation=rotation,
        duration_seconds=duration,
        declared_frame_count=stream.frames or None,
        average_frame_rate=Fraction(rate) if rate else None,
        video_stream_count=len(video_streams(container)),
        has_audio=len(container.streams.audio) > 0,
    )


def reason(error: BaseException) -> str:
    """The readable part of an FFmpeg error."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
