"""Ctrl-C and SIGTERM as a request to stop in good order; the second one kills, and so does taking too long."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
SAVING = "saving; once more to stop at once"


def tell(line: str) -> None:
    """Write a line of talk from a signal handler: straight to the descriptor, which may be closed or full.

    A signal can arrive in the middle of a write by the progress bar, which also hides the cursor: on a terminal it is
    shown again, since after a second signal nobody would be left to do it.
    """
    with suppress(OSError):
        os.write(2, (b"\x1b[?25h" if os.isatty(2) else b"") + f"\n{line}\n".encode())


@contextmanager
def stop_on_signals(stop: threading.Event, said: str = "", within_seconds: float | None = None) -> Iterator[None]:
    """While this is open, the first SIGINT or SIGTERM sets `stop`.

    After the first the system's own handling is in force: a second signal ends the process at once, even in the middle
    of a long call into C. Outside of the main thread, where Python takes no signals, the event is never set.

    Args:
        stop: what is set.
        said: a line that tells what happens now; empty for none.
        within_seconds: when the block has not ended so long after the signal it is left by a KeyboardInterrupt, where
            the system has alarms; None: it may take what it takes.
    """

    def request_stop(number: int, frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        stop.set()
        if said:
            tell(said)
        if within_seconds is not None and alarm is not None:
            armed.append((signal.signal(alarm, give_up), signal.setitimer(signal.ITIMER_REAL, within_seconds)))

    def give_up(number: int, frame: FrameType | None) -> None:
        tell("what is in the works takes too long and is given up; what is written is kept")
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    alarm = getattr(signal, "SIGALRM", None)
    armed: list[tuple[Any, tuple[float, float]]] = []  # the handler and the timer that were there before
    # a signal that is ignored from outside (nohup, a job in the background) stays ignored
    before = {one: signal.getsignal(one) for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, request_stop)
    try:
        yield
    finally:
        for handler, timer in armed:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)
        for one, handler in before.items():
            signal.signal(one, handler)
