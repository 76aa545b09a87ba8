"""Decide how to reach the wanted frames: decode straight through, or jump to the keyframe before each.

A frame can be reached from a keyframe K when it comes after K both on the screen and in decoding order. A jump costs
about `JUMP_COST` frames of decoding, so near targets share a run. Pure arithmetic on a packet scan; whether the file
keeps its promise is checked while decoding (pyav_backend.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evlgen.video.packets import PacketScan

JUMP_COST = 3  # frames; opening position, flushing the decoder and refilling its delay


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
