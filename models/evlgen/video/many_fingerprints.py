"""Fingerprints of many files, by children that can be killed: a file that does not answer costs itself only.

A run looks at everything that is captioned before it begins, so a file must cost little beside reading it: children are
told many at a time, and answer file by file.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.child_processes import kill_group
from evlgen.video import content_fingerprint

_MOST_CHILDREN = 8  # three small reads a file: network drives answer in parallel
_FILES_AT_ONCE = 64  # so few are read sooner than another process starts
_START_SECONDS = 120.0
_ATTEMPTS = 3
_POLL_SECONDS = 0.05


def content_fingerprints(paths: Sequence[Path], timeout_seconds: float) -> dict[Path, str | None]:
    """The fingerprint of every file, read in children; None for one that cannot be read or does not answer in time.

    Raises:
        EvlgenError: the children cannot be started.
    """
    left: queue.SimpleQueue[Sequence[Path]] = queue.SimpleQueue()
    for start in range(0, len(paths), _FILES_AT_ONCE):
        left.put(paths[start : start + _FILES_AT_ONCE])
    readers = [_Reader(left, timeout_seconds) for _ in range(min(_MOST_CHILDREN, left.qsize()))]
    for reader in readers:
        reader.start()
    try:
        while any(reader.is_alive() for reader in readers):
            for reader in readers:
                reader.join(_POLL_SECONDS)
                reader.strike_late()
    finally:  # Ctrl-C too
        for reader in readers:
            reader.kill()
    for reader in readers:
        if reader.error is not None:
            raise reader.error
    return {path: one for reader in readers for path, one in reader.found.items()}


class _Reader(threading.Thread):
    """Looks after one child, which reads file after file.

    Attributes:
        found: what it has read.
        error: why it could not go on.
    """

    def __init__(self, left: queue.SimpleQueue[Sequence[Path]], timeout_seconds: float) -> None:
        super().__init__(daemon=True)
        self.found: dict[Path, str | None] = {}
        self.error: Exception | None = None
        self._left, self._timeout_seconds = left, timeout_seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._due: float | None = None
        self._late = False

    def strike_late(self) -> None:
        """End the child if its deadline is over."""
        due = self._due
        if due is not None and time.monotonic() > due:
            self._late = True
            self.kill()

    def kill(self) -> None:
        """End the child."""
        if child := self._child:
            kill_group(child)

    def run(self) -> None:
        """Read until nothing is left."""
        try:
            with suppress(queue.Empty):
                while True:
                    self._read(deque(self._left.get_nowait()))
        except Exception as error:  # told by the thread that waits
            self.error = error
        finally:
            self._end()

    def _read(self, paths: deque[Path]) -> None:
        deaths = 0
        while paths:
            child = self._child or self._start()
            assert child.stdin is not None
            with suppress(OSError):  # it has died, which is noticed below
                child.stdin.write(b"".join(os.fsencode(path).hex().encode() + b"\n" for path in paths))
                child.stdin.flush()
            while paths and (answer := self._answer(child, self._timeout_seconds)) is not None:
                self.found[paths.popleft()] = answer.decode() or None
                deaths = 0
            if paths:
                deaths += 1
                self._end()
                if self._late or deaths == _ATTEMPTS:
                    self.found[paths.popleft()] = None
                    deaths = 0

    def _answer(self, child: "subprocess.Popen[bytes]", within_seconds: float) -> bytes | None:
        """The next line that a child says; None: it is dead."""
        assert child.stdout is not None
        self._late, self._due = False, time.monotonic() + within_seconds
        line = child.stdout.readline()
        self._due = None
        return line.strip() if line.endswith(b"\n") else None

    def _start(self) -> "subprocess.Popen[bytes]":
        for _ in range(_ATTEMPTS):
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", content_fingerprint.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C in the terminal reaches the parent only
            )
            if self._answer(self._child, _START_SECONDS) is not None:
                return self._child
            self._end()
        raise EvlgenError(f"a process that reads files did not start in {_ATTEMPTS} attempts")

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            kill_group(child)
            for pipe in (child.stdin, child.stdout):
                assert pipe is not None
                with suppress(OSError):  # what was still to be sent
                    pipe.close()
            with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel
                child.wait(timeout=5)
