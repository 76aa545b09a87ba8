"""Look at a video without sampling it: what the header says, and one decoded frame for size and rotation."""

from os import PathLike
from pathlib import Path

from evlgen.errors import VideoError
from evlgen.video.clip import VideoInfo
from evlgen.video.container import describe, first_video_stream, open_container, reason


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
