"""Exclusive locks on files, held until the file is closed or the process dies (kill -9 included)."""

import errno
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evlgen.errors import EvlgenError
from evlgen.system.files import os_errors
from evlgen.system.names import printable

_FAR = 2**62  # Windows locks bytes, and forbids others to read them: take one far beyond any content
_MOST_BYTES = 4096


class AlreadyLockedError(Exception):
    """Another process holds the lock."""


def lock_exclusively(descriptor: int) -> bool:
    """Lock without waiting; False where the file system knows no locks (some network mounts).

    Raises:
        AlreadyLockedError: another process, or another open file of this one, holds the lock.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(descriptor, _FAR, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise AlreadyLockedError from error
        return False
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock on the file `path`, which is made; waits for a process that holds it.

    Raises:
        OSError: the file cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if sys.platform == "win32":
            while True:  # Windows gives up waiting
                try:
                    lock_exclusively(file.fileno())
                    break
                except AlreadyLockedError:
                    time.sleep(0.2)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def held_alone(path: Path, what: str, *, hint: str = "") -> Iterator[None]:
    """Hold the lock on the file `path`, in which stands who holds it; does not wait.

    The file stays when the lock is released: removing it would let a third process lock another file of that name.

    Args:
        path: the file; it is made.
        what: what the lock is for, e.g. "the folder runs/mini"; begins the error.
        hint: what to try when another process holds it.

    Raises:
        EvlgenError: another process holds it (the error names it); or the file cannot be made.
    """
    with os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            lock_exclusively(file.fileno())
        except AlreadyLockedError:
            raise EvlgenError(f"{printable(what)} is in use{_holder(path)}", hint) from None
        with suppress(OSError):  # who holds it is a help, the lock counts
            file.truncate(0)
            since = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(json.dumps({"process": os.getpid(), "machine": platform.node(), "since": since}) + "\n")
            file.flush()
        yield


def _holder(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            said = json.loads(file.read(_MOST_BYTES))
        return f" by process {int(said['process'])} on {printable(said['machine'])} since {printable(said['since'])}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return " by another process"
