"""Video in, frames out: probe a file, choose frame times, decode in killable child processes.

Read in this order: timeline (the time rule), sampler (which frames), packets and pyav_backend (how they are reached),
stills (pictures), child and pool (how a decoder that hangs or crashes is survived), content_fingerprint and
many_fingerprints (what files hold), extract (frames to image files).
Importing this package imports neither av, numpy nor PIL; those load in the child processes, or on first use.

    >>> from evlgen.video import DecodePool, Sampler
    >>> with DecodePool(workers=1, sampler=Sampler(frames=4), size=(224, 224)) as pool:
    ...     clip = pool.decode("clips/a.mp4")
    >>> clip.frames.shape, len(clip.timestamps)
    ((4, 224, 224, 3), 4)
"""

from evlgen.video.clip import ClipFrames, DecodeFailure, VideoInfo
from evlgen.video.container import probe
from evlgen.video.extract import ExtractedFrames, extract_frames
from evlgen.video.many_fingerprints import content_fingerprints
from evlgen.video.pool import DecodePool
from evlgen.video.sampler import STRATEGIES, Sampler
from evlgen.video.timeline import Timeline
from evlgen.video.wire import Parts

__all__ = [
    "STRATEGIES",
    "ClipFrames",
    "DecodeFailure",
    "DecodePool",
    "ExtractedFrames",
    "Parts",
    "Sampler",
    "Timeline",
    "VideoInfo",
    "content_fingerprints",
    "extract_frames",
    "probe",
]
