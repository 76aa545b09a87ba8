"""What a decoding child may use: memory, and for files that strangers send, pixels of a frame.

A picture of a few kilobytes can say that it has a billion pixels. Its header is looked at before it is decoded; what a
file turns into later, in the middle of a stream, meets the limit of memory.
"""

import sys
from contextlib import suppress
from pathlib import Path

from evlgen.errors import VideoError


def goes_first() -> None:
    """Have Linux end this process before others when memory runs out: it costs one file, the run costs the rest."""
    with suppress(OSError):  # another system
        Path("/proc/self/oom_score_adj").write_text("1000")


def limit(most_pixels: int | None, most_memory_bytes: int | None) -> None:
    """Limit this process for good: its address space, where the system can, and what Pillow opens."""
    if most_pixels is not None:
        from PIL import Image

        Image.MAX_IMAGE_PIXELS = most_pixels  # warns above this and refuses twice as much: frames behind the first
    if most_memory_bytes is not None and sys.platform != "win32":
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        most = most_memory_bytes if hard == resource.RLIM_INFINITY else min(most_memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))


def check(path: Path, most_pixels: int | None) -> None:
    """Look at the size that a file states, without decoding it.

    Raises:
        VideoError: "too-large"; what cannot be opened is for the decoder to say.
    """
    if most_pixels is None or not path.is_file():
        return
    for width, height in _sizes(path, most_pixels):
        if width * height > most_pixels:
            raise _too_large(path, most_pixels)


def _too_large(path: Path, most_pixels: int) -> VideoError:
    return VideoError("too-large", f"{path}: more than {most_pixels / 1e6:g} million pixels in a frame")


def _sizes(path: Path, most_pixels: int) -> list[tuple[int, int]]:
    from PIL import Image

    from evlgen.video.container import open_container
    from evlgen.video.stills import open_picture

    try:
        with open_picture(path) as image:
            return [image.size]
    except Image.DecompressionBombError as error:
        raise _too_large(path, most_pixels) from error
    except Exception:  # it is no picture
        pass
    try:
        with open_container(path) as container:
            return [(stream.codec_context.width, stream.codec_context.height) for stream in container.streams.video]
    except VideoError:
        return []
