"""An exclusive lock on an open file, held until the file is closed or the process dies (kill -9 included)."""

import errno
import sys


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
            import os

            # Windows locks bytes, and forbids others to read them: take one far beyond any content.
            os.lseek(descriptor, 2**62, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise AlreadyLockedError from error
        return False
    return True
