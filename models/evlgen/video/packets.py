"""Read the packets of a video stream without decoding them: they already carry the true time of every frame.

This costs one pass over the file's bytes and no decoding, and it holds for a variable frame rate, reordered frames and
edit lists. Where packets do not carry usable times (AVI, raw streams) there is no scan, and everything is decoded.

They also tell how to reach wanted frames: decode straight through, or jump to the keyframe before each. A frame can be
reached from a keyframe K when it comes after K both on the screen and in decoding order. A jump costs about `JUMP_COST`
frames of decoding, so near targets share a run. Whether the file keeps its promise is checked while decoding
(pyav_backend.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from evlgen.video.container import first_video_stream, missing_bytes, open_container, reason
from evlgen.video.timeline import Timeline

JUMP_COST = 3  # frames; opening position, flushing the decoder and refilling its delay


@dataclass(frozen=True)
class Packet:
    """One compressed frame, in decoding order. Times in units of the stream's time base.

    Args:
        pts: when the frame is shown; None if the file does not say.
        dts: when it is decoded; None if the file does not say.
        is_keyframe: decoding can start here, the file says.
        is_shown: False for frames that an edit list cuts away but that others need.
        duration: how long the frame is shown; 0 if the file does not say.
    """

    pts: int | None
    dts: int | None
    is_keyframe: bool
    is_shown: bool = True
    duration: int = 0


@dataclass(frozen=True)
class PacketScan:
    """All packets of one stream, in decoding order.

    Args:
        packets: in decoding order.
        time_base: seconds in one unit of pts and dts.
        damage: why the file could not be read to its end, one sentence each; empty for a sound file.
        stream_index: the stream's place among all streams of the file.
    """

    packets: tuple[Packet, ...]
    time_base: Fraction
    damage: tuple[str, ...] = ()
    stream_index: int = 0

    def shown(self) -> list[Packet] | None:
        """Packets in presentation order; None when their times cannot be relied on."""
        shown = [packet for packet in self.packets if packet.is_shown]
        times = [packet.pts for packet in shown if packet.pts is not None]
        if not shown or len(times) != len(shown) or len(set(times)) != len(times) or not self.packets[0].is_keyframe:
            return None
        return sorted(shown, key=lambda packet: packet.pts or 0)

    def timeline(self) -> Timeline | None:
        """The timeline; None when the packets' times cannot be relied on."""
        shown = self.shown()
        if shown is None:
            return None
        keyframes = [index for index, packet in enumerate(shown) if packet.is_keyframe]
        pts = [packet.pts for packet in shown if packet.pts is not None]
        return Timeline.from_pts(pts, self.time_base, shown[-1].duration, keyframes)


def scan_packets(path: Path, decodable: bool = True) -> PacketScan:
    """Read all packets of the first video stream of `path`; see `first_video_stream` for `decodable`.

    Raises:
        VideoError: "missing", "empty-file", "no-video-stream" or "decode-error" (the file cannot be opened).
    """
    import av

    packets: list[Packet] = []
    damage: list[str] = []
    with open_container(path) as container:
        stream = first_video_stream(container, path, decodable)
        try:
            for packet in container.demux(stream):
                if packet.size == 0:  # the flush packet at the end
                    continue
                if packet.is_corrupt:  # cut in half by the end of the file: what it decodes to is not a frame
                    damage.append(f"the file is damaged after frame {len(packets)} in decoding order")
                else:
                    packets.append(_fact(packet))
        except av.error.FFmpegError as error:
            damage.append(f"the file cannot be read to its end: {reason(error)}")
        expected = _indexed_packets(stream)
        if expected > len(packets):
            damage.append(f"the file is cut short: {len(packets)} of {expected} frames are there")
        elif missing := missing_bytes(path):
            damage.append(f"the file is cut short: its last {missing} bytes are missing")
        return PacketScan(tuple(packets), Fraction(stream.time_base), tuple(damage[:4]), stream.index)


def _fact(packet: Any) -> Packet:
    return Packet(packet.pts, packet.dts, packet.is_keyframe, not packet.is_discard, packet.duration or 0)


def _indexed_packets(stream: Any) -> int:
    """Packets that an MP4-like file's own index lists; it is an exact table there, and sparse or absent elsewhere."""
    if "mp4" not in stream.container.format.name.split(","):
        return 0
    entries = getattr(stream, "index_entries", None)
    return 0 if entries is None else len(entries)


@dataclass(frozen=True)
class Run:
    """Decode from one packet until every target of this run has come out.

    Args:
        start: position in decoding order of the packet to start from; 0 is the start of the file.
        targets: pts of the wanted frames, ascending.
    """

    start: int
    targets: tuple[int, ...]


def plan_runs(scan: PacketScan, targets: Sequence[int]) -> tuple[Run, ...]:
    """The cheapest set of runs that reaches `targets`.

    Args:
        scan: with reliable times (`scan.timeline()` is not None).
        targets: pts of shown frames, in any order.
    """
    position = {packet.pts: at for at, packet in enumerate(scan.packets) if packet.is_shown}
    starts = _entry_points(scan)
    runs: list[Run] = []
    reached = -1  # position in decoding order up to which the current run decodes
    for target in sorted(set(targets)):
        at = position[target]
        start = max((s for s, pts in starts if s <= at and pts <= target), default=0)
        if runs and start <= reached + 1 + JUMP_COST:
            runs[-1] = Run(runs[-1].start, (*runs[-1].targets, target))
        elif not runs and start <= JUMP_COST:
            runs.append(Run(0, (target,)))
        else:
            runs.append(Run(start, (target,)))
        reached = max(reached, at)
    return tuple(runs)


def straight_run(targets: Sequence[int]) -> tuple[Run, ...]:
    """One run from the start of the file."""
    return (Run(0, tuple(sorted(set(targets)))),)


def _entry_points(scan: PacketScan) -> list[tuple[int, int]]:
    """(position, pts) of the shown keyframes."""
    return [
        (at, packet.pts)
        for at, packet in enumerate(scan.packets)
        if packet.is_keyframe and packet.is_shown and packet.pts is not None
    ]
