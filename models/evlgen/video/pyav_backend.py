"""Decode the chosen frames with PyAV: exact, fast on long files, and stubborn with broken ones.

Three ways, each falling back to the next: jump between keyframes (packets.py) while every wanted frame comes out
exactly; decode straight through, replacing a frame that cannot be decoded by the one before it; decode everything twice
when the packets carry no usable times. All three give the same frames and timestamps for a sound file.
"""

from collections.abc import Container, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evlgen.errors import VideoError
from evlgen.video.clip import ClipFrames, VideoInfo
from evlgen.video.container import describe, first_video_stream, nothing_decoded, open_container, probe, reason
from evlgen.video.packets import PacketScan, Run, plan_runs, scan_packets, straight_run
from evlgen.video.picture import Size, sampled_clip, to_rgb
from evlgen.video.sampler import Sampler
from evlgen.video.timeline import Timeline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

INTRA_PICTURE = 1  # AV_PICTURE_TYPE_I of libavutil

SKIPPABLE = ("h264", "mpeg4")
"""Codecs in which "not a reference" means that no frame at all depends on it. In HEVC higher temporal layers may."""

COUNTING = "evlgen.video.pyav_backend:count"
"""The backend, by its name for `DecodePool`, that counts only."""

Pictures = dict[int, tuple[int, "npt.NDArray[np.uint8]"]]
"""wanted pts -> (pts of the frame that is there, picture); the two differ where the wanted frame is damaged."""


class _SeekFailedError(Exception):
    """A jump did not lead where the packets said; decode straight through instead."""


def decode(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Decode the frames of `path` that `sampler` chooses.

    Args:
        path: the file.
        sampler: which frames.
        size: (width, height) in pixels to resize to, or None to keep each picture's own size.
        strict: treat a damaged file as a failure instead of keeping the frames that can be decoded.
        threads: decoding threads.

    Raises:
        VideoError: of any kind but "timeout" and "crashed".
    """
    scan = scan_packets(path)
    pts, timeline = frame_times(path, scan, threads)
    indices = sampler.choose(timeline, path.name)
    reader = _Reader(path, size, threads)
    exact = scan if scan.shown() is not None else None
    pictures = reader.read([pts[index] for index in indices], frozenset(pts), exact)
    warnings = list(dict.fromkeys((*scan.damage, *reader.warnings)))
    if strict and warnings:
        raise VideoError("decode-error", f"{path}: {warnings[0]}")
    rank = {value: index for index, value in enumerate(pts)}
    found = [(rank[value], picture) for value, picture in (pictures[pts[index]] for index in indices)]
    assert reader.info is not None
    return sampled_clip(path, timeline, found, reader.info, damage=warnings)


def count(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """What `decode` says of a sound file, with frames (F, 1, 1, 3) that show nothing: it counts instead of decoding.

    Arguments are those of `decode`; size and strict mean nothing here.
    It costs one pass over a file's bytes and the decoding of one frame, which shows that there is something to decode.
    So damage further in is not seen; `decode` replaces such frames by their neighbours.

    Raises:
        VideoError: of any kind but "timeout" and "crashed".
    """
    import numpy as np

    scan = scan_packets(path)
    info = probe(path)
    _, timeline = frame_times(path, scan, threads)
    indices = sampler.choose(timeline, path.name)
    nothing = np.zeros((1, 1, 3), np.uint8)
    return sampled_clip(path, timeline, [(index, nothing) for index in indices], info, damage=scan.damage)


def frame_times(path: Path, scan: PacketScan, threads: int) -> tuple[list[int], Timeline]:
    """The pts of all shown frames, ascending, and their timeline; decodes everything if the packets do not tell."""
    shown, timeline = scan.shown(), scan.timeline()
    if shown is not None and timeline is not None:
        return [packet.pts for packet in shown if packet.pts is not None], timeline
    pts, keyframes, last_duration = _Reader(path, None, threads).all_times(scan.time_base)
    return pts, Timeline.from_pts(pts, scan.time_base, last_duration, keyframes)


def frames_in_order(path: Path, threads: int) -> Iterator[tuple[int, Any]]:
    """Every frame that can be decoded, with its pts."""
    for number, frame in enumerate(_Reader(path, None, threads)._frames(0, None, [])):
        yield _pts(frame, number), frame


class _Reader:
    """Decodes one file; keeps what it learns on the way (info, warnings)."""

    def __init__(self, path: Path, size: Size, threads: int) -> None:
        self.path = path
        self.size = size
        self.threads = threads
        self.info: VideoInfo | None = None
        self.warnings: list[str] = []

    def read(self, targets: list[int], known: frozenset[int], scan: PacketScan | None) -> Pictures:
        """Pictures for all wanted pts, out of the `known` ones; with a scan, by jumping where that is cheaper."""
        if scan is not None:
            runs = plan_runs(scan, targets)
            with suppress(_SeekFailedError):
                pictures: Pictures = {}
                for run in runs:
                    pictures.update(self._jump(run, scan))
                return pictures
        return self._straight(targets, known)

    def all_times(self, time_base: Fraction) -> tuple[list[int], list[int], int]:
        """Decode everything, keep nothing: pts ascending, indices of keyframes, pts duration of the last frame."""
        seen: dict[int, tuple[bool, int]] = {}
        problems: list[str] = []
        for frame in self._frames(0, None, problems):
            seen.setdefault(_pts(frame, len(seen)), (bool(frame.key_frame), getattr(frame, "duration", 0) or 0))
        if not seen:
            raise nothing_decoded(self.path, problems[0] if problems else "")
        pts = sorted(seen)
        return pts, [index for index, value in enumerate(pts) if seen[value][0]], seen[pts[-1]][1]

    def _jump(self, run: Run, scan: PacketScan) -> Pictures:
        """All targets of one run, exactly, or _SeekFailedError."""
        pictures: Pictures = {}
        wanted = set(run.targets)
        start = scan.packets[run.start]
        problems: list[str] = []
        is_first = run.start > 0
        for frame in self._frames(run.start, scan, problems, wanted):
            if problems or frame.pts is None:
                break
            if is_first and frame.pts >= (start.pts or 0):
                # Gradual refresh has "keyframes" that are not pictures of their own: what follows would be smeared.
                if frame.pts != start.pts or int(frame.pict_type) != INTRA_PICTURE:
                    break
                is_first = False
            if frame.pts in wanted and not frame.is_corrupt:
                pictures[frame.pts] = (frame.pts, to_rgb(frame, self.size))
                if len(pictures) == len(wanted):
                    return pictures
        raise _SeekFailedError

    def _straight(self, targets: list[int], known: frozenset[int]) -> Pictures:
        """All targets from one pass over the file; a damaged frame is replaced by the one before (or after) it."""
        pictures: Pictures = {}
        waiting = list(straight_run(targets)[0].targets)
        last: Any = None
        for count, frame in enumerate(self._frames(0, None, self.warnings)):
            frame.pts = _pts(frame, count)
            if frame.pts not in known:
                continue
            while waiting and frame.pts > waiting[0]:  # it should have come by now
                shown = last if last is not None else frame
                pictures[waiting.pop(0)] = (shown.pts, to_rgb(shown, self.size))
            if waiting and frame.pts == waiting[0]:
                pictures[waiting.pop(0)] = (frame.pts, to_rgb(frame, self.size))
                if frame.is_corrupt:
                    self.warnings.append("a chosen frame is damaged")
            last = frame
            if not waiting:
                break
        if last is None:
            raise nothing_decoded(self.path, self.warnings[0] if self.warnings else "")
        pictures.update({target: (last.pts, to_rgb(last, self.size)) for target in waiting})
        missing = sum(wanted != found for wanted, (found, _) in pictures.items())
        if missing:
            self.warnings.append(f"{missing} of the chosen frames could not be decoded and are replaced by a neighbour")
        return pictures

    def _frames(
        self, start: int, scan: PacketScan | None, problems: list[str], wanted: Container[int] = ()
    ) -> Iterator[Any]:
        """Decoded frames from packet `start` on; decoder errors are collected and decoding goes on.

        With `wanted` pts, frames on which no other depends may be left out unless they are wanted.
        """
        import av

        with open_container(self.path) as container:
            stream = first_video_stream(container, self.path)
            # Frame threads lose frames around an error, must be refilled after every jump, and decode ahead of the
            # packet for which skipping is decided; so each file has one thread, and several children fill the cores.
            stream.thread_type = "SLICE"
            stream.codec_context.thread_count = self.threads
            packets = container.demux(stream)
            skips = bool(wanted) and stream.codec_context.codec.canonical_name in SKIPPABLE
            if start > 0:
                assert scan is not None
                packets = _after_seek(container, stream, start, scan)
            try:
                for packet in packets:
                    try:
                        if skips:
                            stream.codec_context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
                        for frame in packet.decode():
                            if self.info is None:
                                self.info = describe(container, stream, frame)
                            yield frame
                    except av.error.FFmpegError as error:
                        problems.append(f"a part of the video could not be decoded: {reason(error)}")
            except av.error.FFmpegError as error:
                problems.append(f"the file cannot be read to its end: {reason(error)}")


def _after_seek(container: Any, stream: Any, start: int, scan: PacketScan) -> Iterator[Any]:
    """Packets from position `start` on, or _SeekFailedError when seeking leads past it or to an unknown place."""
    wanted = scan.packets[start]
    position = {(packet.pts, packet.dts): at for at, packet in enumerate(scan.packets)}
    for moment in (wanted.pts, wanted.dts):
        if moment is None:
            continue
        container.seek(moment, stream=stream, backward=True)
        packets = container.demux(stream)
        for packet in packets:
            at = position.get((packet.pts, packet.dts))
            if at is None or at > start:
                break  # an unknown packet, or too far
            if at == start:
                yield packet
                yield from packets
                return
    raise _SeekFailedError


def _pts(frame: Any, count: int) -> int:
    """A frame's pts; frames without one are taken to follow each other at one unit."""
    return count if frame.pts is None else int(frame.pts)
