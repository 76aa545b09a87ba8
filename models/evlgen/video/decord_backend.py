"""Decode the chosen frames with decord, through the same interface as the PyAV backend.

decord has had no release since 2021 and drops edit lists and second video streams, so frame times come from the packets
(packets.py) and decord only delivers pictures. Where its frame count contradicts the packets it is not trusted: the
file fails with a message that names the other backend.
"""

from pathlib import Path

from evlgen.errors import VideoError
from evlgen.video.clip import ClipFrames
from evlgen.video.packets import scan_packets
from evlgen.video.picture import Size, resize, stack
from evlgen.video.probing import probe
from evlgen.video.sampler import Sampler


def decode(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Decode the frames of `path` that `sampler` chooses; arguments and errors as in `pyav_backend.decode`."""
    import decord

    info = probe(path)
    scan = scan_packets(path)
    shown = scan.shown()
    timeline = scan.timeline()
    if info.video_stream_count > 1:
        raise _unfit(path, "decord cannot choose among several video streams")
    if shown is None or timeline is None:
        raise _unfit(path, "decord needs frame times, and the file's packets carry none")
    if strict and scan.damage:
        raise VideoError("decode-error", f"{path}: {scan.damage[0]}")
    indices = sampler.choose(timeline, path.name)
    try:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
        if len(reader) != len(scan.packets):
            raise _unfit(path, f"decord finds {len(reader)} frames where the file has {len(scan.packets)}")
        # decord counts the frames that an edit list cuts away; they come before, between and after the shown ones.
        order = sorted(scan.packets, key=lambda packet: packet.pts or 0)
        position = {packet.pts: at for at, packet in enumerate(order) if packet.is_shown}
        unique = sorted(set(indices))
        batch = reader.get_batch([position[shown[index].pts] for index in unique]).asnumpy()
    except (decord.DECORDError, RuntimeError, OSError, IndexError) as error:
        first_line = next(iter(str(error).splitlines()), type(error).__name__)
        raise VideoError("decode-error", f"{path}: decord: {first_line}") from error
    pictures = {index: resize(picture, size) for index, picture in zip(unique, batch, strict=True)}
    frames, _ = stack([pictures[index] for index in indices])
    times = tuple(timeline.times[index] for index in indices)
    return ClipFrames(path, frames, indices, times, info, bool(scan.damage), scan.damage)


def _unfit(path: Path, what: str) -> VideoError:
    return VideoError("decode-error", f"{path}: {what}", "use backend pyav")
