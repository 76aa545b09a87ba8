"""Standard input, output and error as commands may rely on them: open, and never the reason for a traceback."""

import io
import os
import sys
from contextlib import suppress
from typing import Any

from evlgen.errors import EvlgenError


def prepare() -> None:
    """Make the three streams safe to use, whatever the caller has closed or filled up.

    A stream that is closed leads to the null device; otherwise the next file that is opened would take its number, and
    get what is printed. Letters that the terminal's encoding lacks are written as escapes.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            _to_null(number, flags)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - a descriptor, for as long as we run
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stdout, _Output):
        sys.stdout, sys.stderr = _Output(sys.stdout), _Talk(sys.stderr)


class _Stream:
    """A stream whose refusals are seen to."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: Any) -> int:
        """Write text, or bytes to a stream of bytes; says that all was written."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._refused(error)
        return len(text)

    def flush(self) -> None:
        """Write through."""
        try:
            self._stream.flush()
        except OSError as error:
            self._refused(error)

    def _refused(self, error: OSError) -> None:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Output(_Stream):
    """Standard output: data that cannot be written is an error, once.

    From then on it leads to the null device, so that the flush at exit does not complain.
    """

    @property
    def buffer(self) -> "_Output":
        """The stream of bytes behind standard output, whose refusals are seen to as well."""
        return _Output(self._stream.buffer)

    def _refused(self, error: OSError) -> None:
        _to_null(self._stream.fileno(), os.O_WRONLY)
        if isinstance(error, BrokenPipeError):  # the reader (head, less) has left: there is nobody to tell
            raise error
        raise EvlgenError(f"standard output cannot be written: {error.strerror}") from error


class _Talk(_Stream):
    """Standard error: what cannot be written is dropped, since talk that nobody hears must not stop the work."""

    def _refused(self, error: OSError) -> None:
        with suppress(OSError):
            _to_null(self._stream.fileno(), os.O_WRONLY)


def _to_null(number: int, flags: int) -> None:
    null = os.open(os.devnull, flags)
    if null != number:
        os.dup2(null, number)
        os.close(null)
