"""No process may outlive the one that started it, however that one ends; and programs die with whatever they started.

On Linux the kernel sees to the first; elsewhere a decoding child watches its pipe, and programs that it runs are killed
together with it (video/process.py) or fail when they next write.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

if sys.platform == "linux":
    import ctypes

    _LIBC = ctypes.CDLL(None)  # loaded here, since little is safe between fork and exec
    _SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with_parent() -> None:
    """Have this process killed when its parent goes; does nothing but on Linux. Fit for Popen's `preexec_fn`."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def kill_group(process: subprocess.Popen[Any]) -> None:
    """Kill a process that leads a group of its own, and all that is left of its group; does not wait for them."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # macOS: the latter if only zombies are left
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
