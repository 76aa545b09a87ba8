"""The output file is the journal: append-only JSONL, one fsynced line per video. It alone says what is done.

The last line of a video counts. A kill during a write leaves at most one torn last line: it is cut off on the next run
and its video is done again. Writers hold a lock on the file itself, so that no lock file can be left behind.
"""

import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from evlgen.captioning.rows import Row
from evlgen.captioning.state import CAPTIONS, JournalState, Kind, check_regular, read_state
from evlgen.errors import EvlgenError
from evlgen.system.locks import AlreadyLockedError, lock_exclusively


class JournalError(EvlgenError):
    """The output file cannot be opened, is in use, or cannot be written; what it held before is still there."""


class Journal:
    """An output file, open for appending and locked.

    Attributes:
        path: where it is.
        state: what it said when it was opened.
        locked: False where the file system knows no locks.
    """

    def __init__(self, path: Path, kind: Kind = CAPTIONS) -> None:
        """Open, lock, read, and cut off a torn last line.

        Args:
            path: the file; it may be missing.
            kind: what its lines are about.

        Raises:
            JournalError: the file is locked by another run, or cannot be opened.
            UsageError: the file holds something else.
        """
        self.path = path
        check_regular(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            existed = path.exists()
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise JournalError(f"cannot open {path}: {error.strerror}", "choose another --out") from error
        try:
            self.locked = lock_exclusively(self._descriptor)
            self.state: JournalState = read_state(path, kind)
            self._mend()
            if not existed:
                _sync_folder(path.parent)
        except AlreadyLockedError as error:
            os.close(self._descriptor)
            raise JournalError(
                f"{path} is being written by another evlgen run", "wait for it, stop it, or choose another --out"
            ) from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, row: Row) -> None:
        """Write one line and wait until it is on the disk.

        Raises:
            JournalError: nothing of the line is in the file then (disk full, file removed); earlier lines are safe.
        """
        self._check_still_there()
        self._write(row.as_line())

    def close(self) -> None:
        """Release the lock."""
        os.close(self._descriptor)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _mend(self) -> None:
        if self.state.torn:
            os.ftruncate(self._descriptor, self.state.good_bytes)
        elif self.state.lacks_newline:
            self._write(b"\n")

    def _check_still_there(self) -> None:
        try:
            there = os.path.samestat(self.path.stat(), os.fstat(self._descriptor))
        except OSError:
            there = False
        if not there:
            raise JournalError(
                f"{self.path} was removed or replaced while this run was writing to it",
                "run the same command again; leave the file in place meanwhile",
            )

    def _write(self, line: bytes) -> None:
        end = os.fstat(self._descriptor).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with suppress(OSError):  # a torn line that stays is cut off by the next run
                os.ftruncate(self._descriptor, end)
            raise JournalError(
                f"cannot write to {self.path}: {error.strerror}",
                "every caption so far is safe; make room and run the same command again to go on",
            ) from error


def _sync_folder(folder: Path) -> None:
    """Make the new file's name survive a power cut, where folders can be opened at all."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(descriptor)
    os.close(descriptor)
