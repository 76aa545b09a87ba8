"""Decode the chosen frames with decord, through the same interface as the PyAV backend.

decord has had no release since 2021, ignores edit lists and picks its own video stream, so frame times come from the
packets (packets.py) and decord only delivers pictures. Where it cannot be exact the file fails with a message that
names the other backend; it never answers with a wrong frame knowingly. decord keeps damage to itself; what its FFmpeg
prints about it is the only sign, and makes a clip partial.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evlgen.errors import VideoError
from evlgen.video.clip import ClipFrames
from evlgen.video.container import probe
from evlgen.video.packets import scan_packets
from evlgen.video.picture import Size, resize, sampled_clip
from evlgen.video.sampler import Sampler

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def decode(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Decode the frames of `path` that `sampler` chooses; arguments and errors as in `pyav_backend.decode`."""
    import decord

    info = probe(path)
    scan = scan_packets(path)
    shown = scan.shown()
    timeline = scan.timeline()
    if shown is not None and len(shown) != len(scan.packets):
        raise _unfit(path, "decord does not know edit lists")
    if info.video_stream_count > 1:
        raise _unfit(path, "decord cannot choose among several video streams")
    if info.container_format == "mpegts":
        raise _unfit(path, "decord loses the beginning of transport streams")
    if shown is None or timeline is None:
        raise _unfit(path, "decord needs frame times, and the file's packets carry none")
    indices = sampler.choose(timeline, path.name)
    wanted = {shown[index].pts for index in indices}
    found: dict[int | None, npt.NDArray[np.uint8]] = {}
    complaints: list[str] = []
    decord.logging.set_level(decord.logging.ERROR)
    try:
        with _printed(complaints):
            # an absolute path, so that no name is read as a protocol
            reader = decord.VideoReader(str(path.absolute()), ctx=decord.cpu(0), num_threads=threads)
            if len(reader) != len(scan.packets):
                raise _unfit(path, f"decord finds {len(reader)} frames where the file has {len(scan.packets)}")
            # One pass without seeking: decord's own seeking misses by several frames in open groups of pictures,
            # gradual refresh, transport streams and AVI with reordered frames.
            for packet in shown:
                picture = reader.next().asnumpy()
                if packet.pts in wanted:
                    found[packet.pts] = resize(picture, size)
                    if len(found) == len(wanted):
                        break
    except StopIteration:
        raise _unfit(path, "decord stops before the last chosen frame") from None
    except (decord.DECORDError, RuntimeError, OSError, IndexError) as error:
        raise VideoError("decode-error", f"{path}: decord: {_first_line(error)}") from error
    warnings = (*scan.damage, *(f"a part of the video could not be decoded: decord: {text}" for text in complaints))
    if strict and warnings:
        raise VideoError("decode-error", f"{path}: {warnings[0]}")
    return sampled_clip(path, timeline, [(i, found[shown[i].pts]) for i in indices], info, damage=warnings)


@contextmanager
def _printed(first: list[str]) -> Iterator[None]:
    """Put the first line that libraries print as an error while the block runs into `first`, without its addresses."""
    standard_error = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            log.seek(0)
            lines = (
                re.sub(r"\[[^]]*\] ", "", line).strip() for line in log.read().decode(errors="replace").split("\n")
            )
            first += [line for line in lines if line][:1]


def _first_line(error: Exception) -> str:
    """decord's message without its stack trace."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def _unfit(path: Path, what: str) -> VideoError:
    return VideoError("decode-error", f"{path}: {what}", "use backend pyav")
