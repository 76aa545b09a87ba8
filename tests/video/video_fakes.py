"""Decoders that misbehave, named to the pool as "tests.video.video_fakes:function"; they run in the child process."""

import os
import signal
import sys
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from evlgen.video import ClipFrames, VideoInfo


def _clip(path: Path, value: int) -> ClipFrames:
    info = VideoInfo("none", "none", 1, 1, 0, None, None, None, 1, False)
    return ClipFrames(path, np.full((1, 1, 1, 3), value, np.uint8), (value,), (Fraction(0),), info)


def by_name(path: Path, *_: Any) -> ClipFrames:
    """Do what the file's name says; other names get one pixel of grey 7."""
    word = path.name.split(".")[0]
    if word == "sleep":
        time.sleep(1000)
    elif word == "stubborn":  # deaf to everything but SIGKILL, as a decoder stuck in C code is
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
        (lambda: sum(range(10**13)))()  # holds the interpreter lock: no other Python thread of the child runs
    elif word == "exit":
        os._exit(9)
    elif word == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif word == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    elif word == "hog":  # asked for and never touched, so that it costs the machine nothing
        eaten = [np.empty(1 << 28, np.uint8) for _ in range(256)]
        return _clip(path, len(eaten))
    elif word == "raise":
        raise RuntimeError("the decoder\nis upset")
    elif word == "noisy":
        sys.stdout.write("printed on standard output\n")
        os.write(1, b"written to file number 1\n")
        sys.stderr.write("printed on standard error\n")
        os._exit(1)
    elif word == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
    return _clip(path, 7)


def pid(path: Path, *_: Any) -> ClipFrames:
    """Tell the child's process id, as the index of the frame."""
    clip = _clip(path, 0)
    return ClipFrames(path, clip.frames, (os.getpid(),), clip.timestamps, clip.info)


def modules(path: Path, *_: Any) -> ClipFrames:
    """Tell whether this process has loaded torch or the test runner's main script."""
    return _clip(path, int("torch" in sys.modules or "typer" in sys.modules or "pytest" in sys.modules))
