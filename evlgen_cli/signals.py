"""Ctrl-C and SIGTERM as a request to stop in good order; the second one kills."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signals(stop: threading.Event, on_stop: Callable[[], None]) -> Iterator[None]:
    """While this is open, the first SIGINT or SIGTERM sets `stop`.

    After the first the system's own handling is in force: a second signal ends the process at once, even in the middle
    of a long call into C. Outside of the main thread, where Python takes no signals, the event is never set.

    Args:
        stop: what is set.
        on_stop: called once, from the signal handler: say that the run is stopping.
    """

    def request_stop(number: int, frame: FrameType | None) -> None:
        for one in before:
            signal.signal(one, signal.SIG_DFL)
        stop.set()
        on_stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # a signal that is ignored from outside (nohup, a job in the background) stays ignored
    before = {one: signal.getsignal(one) for one in SIGNALS if signal.getsignal(one) is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, request_stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
