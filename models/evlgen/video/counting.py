"""A backend that counts instead of decoding: which frames a sampler would choose, by the packets' times alone.

It costs one pass over a file's bytes and the decoding of one frame, which shows that there is something to decode. So
damage further in is not seen; the real backend replaces such frames by their neighbours.
"""

from pathlib import Path

from evlgen.video.clip import ClipFrames
from evlgen.video.packets import scan_packets
from evlgen.video.picture import Size
from evlgen.video.probing import probe
from evlgen.video.pyav_backend import frame_times
from evlgen.video.sampler import Sampler

COUNTING = "evlgen.video.counting:count"
"""Its name for `DecodePool`."""


def count(path: Path, sampler: Sampler, size: Size = None, strict: bool = False, threads: int = 1) -> ClipFrames:
    """What `pyav_backend.decode` says of a sound file, with frames (F, 1, 1, 3) that show nothing.

    Raises:
        VideoError: of any kind but "timeout" and "crashed".
    """
    import numpy as np

    scan = scan_packets(path)
    info = probe(path)
    _, timeline = frame_times(path, scan, threads)
    indices = sampler.choose(timeline, path.name)
    return ClipFrames(
        path=path,
        frames=np.zeros((len(indices), 1, 1, 3), np.uint8),
        indices=indices,
        timestamps=tuple(timeline.times[index] for index in indices),
        info=info,
        partial=bool(scan.damage),
        warnings=scan.damage,
    )
