"""The directory where fetched and converted files live, locks in it, and what its failures mean.

EVLGEN_CACHE names it; otherwise it is `evlgen` in the platform's cache directory. Nothing in it is ever half written:
work happens under staging/, behind a lock, and is moved into place in one step. What a killed run leaves in staging/
is removed by the next run that takes the same lock.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from evlgen.system.files import os_errors
from evlgen.system.locks import locked

ELSEWHERE = "free some space there, or set EVLGEN_CACHE to a directory elsewhere that you can write"


def cache_root() -> Path:
    """The cache directory, an absolute path; it may not exist yet."""
    if chosen := os.environ.get("EVLGEN_CACHE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "evlgen"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "evlgen" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "evlgen"


@contextmanager
def staging(root: Path, key: str) -> Iterator[Path]:
    """An empty directory to work in while holding the lock `key`; waits for another process that holds it.

    Raises:
        EvlgenError: the cache cannot be written, or its disk is full.
    """
    with cache_errors(root), locked(root / "locks" / f"{key}.lock"):
        ours = root / "staging" / key
        shutil.rmtree(ours, ignore_errors=True)  # we hold the lock, so whatever is there was left by a killed run
        work = ours / "work"  # one level below, so that it can be moved away
        work.mkdir(parents=True)
        try:
            yield work
        finally:
            shutil.rmtree(ours, ignore_errors=True)


def cache_errors(root: Path) -> AbstractContextManager[None]:
    """Say in one line that the cache directory `root`, or something below it, cannot be written; see `os_errors`."""
    return os_errors(root, hint=ELSEWHERE)


def bytes_under(folder: Path) -> int:
    """Bytes of all files below a folder, also while others write and remove some."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() and not path.is_symlink() else 0
        except OSError:
            continue  # moved or removed while we looked
    return total
