"""A plain file that does not answer: whoever opens it waits, as for a network drive that has stalled."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def stalled(path: Path) -> Iterator[Path]:
    """Let `path` hold others up while the block runs: a write lease that its owner, this process, never gives back."""
    if not hasattr(fcntl, "F_SETLEASE"):
        pytest.skip("needs Linux's file leases")
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # "somebody wants to open your file"
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        yield path
    except OSError as error:
        pytest.skip(f"this file system has no leases: {error}")
    finally:
        os.close(descriptor)
        signal.signal(signal.SIGIO, before)
