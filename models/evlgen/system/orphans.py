"""No process may outlive the one that started it, however that one ends.

On Linux the kernel sees to it; elsewhere a decoding child watches its pipe, and programs that it runs are killed
together with it (process.py) or fail when they next write.
"""

import signal
import sys

if sys.platform == "linux":
    import ctypes

    _LIBC = ctypes.CDLL(None)  # loaded here, since little is safe between fork and exec
    _SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


def die_with_parent() -> None:
    """Have this process killed when its parent goes; does nothing but on Linux. Fit for Popen's `preexec_fn`."""
    if sys.platform == "linux":
        _LIBC.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
