"""Where the parts of a video begin and end: its scenes, or its whole length to cut evenly; functions for `DecodePool`.

They are backends: called in a child with a deadline, they give what `decode` gives, but times in the place of pictures:
frames (P + 1, 1, 1, 3) that show nothing, whose timestamps are the starts of P parts and the end of the last.

Scenes are those of PySceneDetect's ContentDetector (hue, saturation and brightness of following frames differ), on
frames of our own decoder with their true times, so that a variable frame rate does not skew them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError
from evlgen.video.clip import ClipFrames
from evlgen.video.container import probe
from evlgen.video.packets import scan_packets
from evlgen.video.picture import Size
from evlgen.video.pyav_backend import frame_times, frames_in_order
from evlgen.video.sampler import Sampler
from evlgen.video.timeline import Timeline

WHOLE, SCENES = "evlgen.video.segments:whole", "evlgen.video.segments:scenes"
"""The backends, by their names for `DecodePool`."""

LEAST_SECONDS = 1
"""No scene is shorter: flashes and fast cuts make one scene with what follows."""

_SIDE = 256  # pixels of the longer side that scenes are looked for at
_UNITS = 1000.0  # the detector counts frames: here it counts milliseconds


def whole(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Start and end of the video; arguments are those of `decode`, of which only path and threads count.

    Raises:
        VideoError: of any kind but "timeout" and "crashed".
    """
    scan = scan_packets(path)
    _, timeline = frame_times(path, scan, threads)
    return _bounds(path, [], timeline)


def scenes(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """Starts of the scenes, and the end of the video; arguments are those of `decode`, as of `whole`.

    Raises:
        VideoError: of any kind but "timeout" and "crashed".
        EvlgenError: PySceneDetect is not there.
    """
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import ContentDetector
    except ImportError as error:
        raise EvlgenError(f"scenes are found by PySceneDetect, which is missing: {error}") from error

    scan = scan_packets(path)
    pts, timeline = frame_times(path, scan, threads)
    first = pts[0]
    detector = ContentDetector(min_scene_len=int(LEAST_SECONDS * _UNITS))
    cuts: list[FrameTimecode] = []
    at = None
    for value, frame in frames_in_order(path, threads):
        milliseconds = round((value - first) * scan.time_base * int(_UNITS))
        if milliseconds < 0 or (at is not None and milliseconds <= at.frame_num):
            continue
        at = FrameTimecode(milliseconds, fps=_UNITS)
        cuts += detector.process_frame(at, _small(frame))
    if at is not None:
        cuts += detector.post_process(at)
    inside = sorted({_exactly(cut.frame_num, timeline.times) for cut in cuts} - {Fraction(0), timeline.duration})
    return _bounds(path, inside, timeline)


def _small(frame: Any) -> Any:
    """A small picture (H, W, 3) of a frame, with the colours in the order of OpenCV."""
    scale = min(1.0, _SIDE / max(frame.width, frame.height))
    width, height = (max(1, round(side * scale)) for side in (frame.width, frame.height))
    return frame.reformat(width=width, height=height, format="bgr24", interpolation="BILINEAR").to_ndarray()


def _exactly(milliseconds: int, times: tuple[Fraction, ...]) -> Fraction:
    """The time of the frame whose time was rounded."""
    return min(times, key=lambda time: abs(time * int(_UNITS) - milliseconds))


def _bounds(path: Path, cuts: list[Fraction], timeline: Timeline) -> ClipFrames:
    """Times in the place of pictures; start and end are the same where one frame is all there is."""
    import numpy as np

    end = timeline.duration if len(timeline.times) > 1 else Fraction(0)
    times = (Fraction(0), *cuts, end)
    return ClipFrames(path, np.zeros((len(times), 1, 1, 3), np.uint8), tuple(range(len(times))), times, probe(path))
