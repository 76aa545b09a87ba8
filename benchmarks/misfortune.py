"""PyAV's decoder with misfortunes: as often as EVLGEN_MISFORTUNES says ("HANGS HOGS", shares of the files).

A hang never returns and is deaf to all but SIGKILL, as one in C code is. A hog takes memory until there is none for it;
it does not touch what it takes, so that the machine has no part in it. Its name for evlgen is misfortune:decode.
"""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np

from evlgen.video import ClipFrames
from evlgen.video.pyav_backend import decode as decode_well


def decode(path: Path, *arguments: Any) -> ClipFrames:
    """Frames of a file, or a misfortune."""
    hangs, hogs = map(float, os.environ.get("EVLGEN_MISFORTUNES", "0 0").split())
    dice = random.SystemRandom().random()
    if dice < hangs:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        sum(range(10**13))  # holds the interpreter lock
    eaten = []
    while dice > 1 - hogs:
        eaten.append(np.empty(1 << 28, np.uint8))
    return decode_well(path, *arguments)
