"""Open a file with PyAV, say plainly what is wrong when that fails, and tell what the file says about itself.

Formats that are opened are those that are whole in one file, by FFmpeg's names of its demuxers. What is not listed
would read other files or addresses (playlists: concat, hls, dash; image2 takes a name for a pattern; sdp, rtsp), or is
text. FFmpeg recognises a format by its content, whatever the file is called. PyAV is imported on first use only.
"""

import errno
import struct
from contextlib import AbstractContextManager
from fractions import Fraction
from os import PathLike
from pathlib import Path
from typing import Any

from evlgen.errors import VideoError
from evlgen.video.clip import VideoInfo
from evlgen.video.picture import orientation_of

ATTACHED_PICTURE = 0x400  # AV_DISPOSITION_ATTACHED_PIC of libavformat

_VIDEO = """
    3dostr 4xm apng asf asf_o av1 avi bink cavsvideo cdxl cine dhav dirac dnxhd dv dxa ea evc film_cpk flic flv
    gif gxf h261 h263 h264 hevc hnm ifv ingenient ipmovie ipu iv8 ivf kux live_flv lmlm4 lxf m4v matroska mjpeg
    mjpeg_2000 mlv mov mpeg mpegts mpegtsraw mpegvideo mpjpeg mtv mv mvi mxf mxg nsv nut nuv obu ogg pmp pva r3d rl2 rm
    roq rpl sga smjpeg smk swf thp tmv ty vc1 vc1test vmd vvc wc3movie webm wtv xmv yop yuv4mpegpipe
"""
_PICTURES = "bmp_pipe dpx_pipe gif_pipe j2k_pipe jpeg_pipe jpegxl_anim jpegxl_pipe png_pipe tiff_pipe webp_pipe"
_SOUND = "aac ac3 aiff amr ape au caf dsf dts eac3 flac mp3 mpc mpc8 tak tta w64 wav wv"  # "there is no video stream"

OPENED_FORMATS = ",".join(f"{_VIDEO} {_PICTURES} {_SOUND}".split())
"""As FFmpeg's option format_whitelist takes it."""

_REFUSED = "it is a playlist, or of a format that is not opened: only the file itself is read"
_HINT = "name the videos themselves"
_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


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

    Only the file itself is read: formats that would have other files or addresses read are refused.

    Raises:
        VideoError: "missing", "empty-file" or "decode-error".
    """
    import av

    check_file(path)
    try:
        # The "file:" prefix keeps names such as "a:b.mp4" or "-x.mp4" from being read as protocols or options.
        container: AbstractContextManager[Any] = av.open(
            f"file:{path}",
            options={"protocol_whitelist": "file", "format_whitelist": OPENED_FORMATS},
            metadata_errors="replace",
        )
    except av.error.ArgumentError as error:  # what FFmpeg says of a format that is not on the list
        raise VideoError("decode-error", f"{path}: {_REFUSED}", _HINT) from error
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
    """Collect what the header says about a stream whose pictures were decoded elsewhere.

    Args:
        container: an opened PyAV container.
        stream: of it; its codec is "unknown" if PyAV lacks it.
        width: pixels across of the upright picture.
        height: pixels down.
        rotation: see `VideoInfo`.
    """
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


def probe(path: str | PathLike[str]) -> VideoInfo:
    """What `path` says about itself.

    This runs in the calling process and has no deadline; for files that nobody vouches for use `DecodePool`, whose
    results carry the same facts.

    Raises:
        VideoError: "missing", "empty-file", "no-video-stream", "no-frames" or "decode-error".
    """
    import av

    path = Path(path)
    with open_container(path) as container:
        stream = first_video_stream(container, path)
        failure = ""
        try:
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        return describe(container, stream, frame)
                except av.error.FFmpegError as error:
                    failure = reason(error)
        except av.error.FFmpegError as error:
            failure = reason(error)
    raise nothing_decoded(path, failure)


def nothing_decoded(path: Path, failure: str) -> VideoError:
    """The error for a stream without a single picture: "decode-error" when the decoder complained, else "no-frames"."""
    if failure:
        return VideoError("decode-error", f"{path}: no frame could be decoded: {failure}")
    return VideoError("no-frames", f"{path}: the video stream has no frames")


def missing_bytes(path: Path) -> int:
    """How many bytes a file that was cut short lacks by its own account; 0 when nothing is missing or nothing is said.

    Matroska, WebM and AVI state their own length, and their demuxers do not look. MP4-like files need none of this:
    their index lists every frame (packets.py). Streams made to be cut have no length.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    stated = 0
    if head[:4] == b"RIFF" and len(head) >= 8:
        stated = 8 + int(struct.unpack("<I", head[4:8])[0])
    elif head[:4] == _EBML:
        stated = _matroska_length(head)
    return max(stated - path.stat().st_size, 0)


def _matroska_length(head: bytes) -> int:
    """End of the first segment (RFC 8794 and 9559); 0 when it is of unknown length, as in live recordings."""
    header = _size(head, 4)
    if header is None:
        return 0
    at = header[0] + header[1]
    segment = _size(head, at + 4)
    if head[at : at + 4] != _SEGMENT or segment is None:
        return 0
    return segment[0] + segment[1]


def _size(head: bytes, at: int) -> tuple[int, int] | None:
    """(position after the size field, size), or None when unknown; section 4 of RFC 8794."""
    if at >= len(head) or head[at] == 0:
        return None
    width = 9 - head[at].bit_length()
    value = int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else (at + width, value)
