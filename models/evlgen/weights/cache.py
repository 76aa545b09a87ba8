"""The directory where fetched and converted files live, locks in it, and what its failures mean.

EVLGEN_CACHE names it; otherwise it is `evlgen` in the platform's cache directory. Nothing in it is ever half written:
work happens under staging/, behind a lock, and is moved into place in one step. What a killed run leaves in staging/
is removed by the next run that takes the same lock.
"""

import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evlgen.errors import EvlgenError, WeightsError
from evlgen.system.files import refusal
from evlgen.system.locks import locked


def cache_root() -> Path:
    """The cache directory; it may not exist yet."""
    if chosen := os.environ.get("EVLGEN_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "evlgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "evlgen" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "evlgen"


@contextmanager
def staging(root: Path, key: str) -> Iterator[Path]:
    """An empty directory to work in while holding the lock `key`; waits for another process that holds it.

    Raises:
        WeightsError: the cache cannot be written, or its disk is full.
    """
    with disk_errors(root), locked(root / "locks" / f"{key}.lock"):
        ours = root / "staging" / key
        shutil.rmtree(ours, ignore_errors=True)  # we hold the lock, so whatever is there was left by a killed run
        work = ours / "work"  # one level below, so that it can be moved away
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(ours, ignore_errors=True)


@contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Say what went wrong with the cache directory `root` as a WeightsError."""
    try:
        yield
    except Exception as error:
        refused = None if isinstance(error, EvlgenError) else refusal(error)
        if refused is None or not str(refused.filename or root).startswith(str(root)):
            raise
        if refused.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(root) from error
        if refused.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise WeightsError(
                f"the cache directory {root} cannot be written: {refused.strerror}",
                "set EVLGEN_CACHE to a directory that you can write",
            ) from error
        raise


def disk_full(root: Path) -> WeightsError:
    """The error for a disk without space."""
    return WeightsError(
        f"no space is left on the disk that holds {root}", "free some, or set EVLGEN_CACHE to a directory elsewhere"
    )


def bytes_under(folder: Path) -> int:
    """Bytes of all files below a folder, also while others write and remove some."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:
            continue  # moved or removed while we looked
    return total
