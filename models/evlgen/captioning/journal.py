"""The output file is the journal: append-only JSONL, one fsynced line per item. It alone says what is done.

The last line of an item counts. A kill during a write leaves at most one torn last line: it is cut off on the next run
and its item is done again. Writers hold a lock on the file itself, so that no lock file can be left behind.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from evlgen.captioning.caption_rows import FORMAT, EditedRow, Row
from evlgen.captioning.items import key_of
from evlgen.errors import EvlgenError, UsageError
from evlgen.system.files import sync
from evlgen.system.jsons import parse_json
from evlgen.system.locks import AlreadyLockedError, lock_exclusively


class JournalError(EvlgenError):
    """The output file cannot be opened, is in use, or cannot be written; what it held before is still there."""


@dataclass(frozen=True)
class JournalKind:
    """What the lines of a file are about.

    Attributes:
        key: the first field of a line, which names its item.
        what: such a file in words.
        writer: the command that writes it.
    """

    key: str
    what: str
    writer: str


_OTHER_FORMATS = frozenset(
    f".{name}" for name in "csv tsv srt vtt ass txt json xlsx ods parquet html md yaml xml pdf tar zip mp4 mkv".split()
)

CAPTIONS = JournalKind("video", "a caption file", "evlgen caption")
ANSWERS = JournalKind("question_id", "a file of answers", "evlgen eval --questions")


@dataclass(frozen=True)
class JournalEntry:
    """What is known about one item.

    Attributes:
        fingerprint: content it was captioned from; None when it could not be read.
        settings_hash: settings it was captioned with.
        status: ok, partial, empty or error.
        error_kind: None unless status is error.
        question: that was answered; None in a caption file.
        edited: a person wrote the text.
        root: folder that its name is relative to, as seen from that of the file; None where the line does not say.
    """

    fingerprint: str | None
    settings_hash: str
    status: str
    error_kind: str | None
    question: str | None = None
    edited: bool = False
    root: str | None = None


@dataclass
class JournalState:
    """A caption file, read from start to end.

    Attributes:
        entries: by key of the item (a video, a part of one, a question), from its last line.
        settings: settings by their hash.
        lines: readable lines.
        bad_lines: unreadable complete lines; they are left alone and count for nothing.
        good_bytes: length of the file up to and including the last readable line.
        torn: the last line is incomplete.
        lacks_newline: the last line is whole, only its newline is missing.
    """

    entries: dict[str, JournalEntry] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: int = 0
    bad_lines: int = 0
    good_bytes: int = 0
    torn: bool = False
    lacks_newline: bool = False


def read_state(path: Path, kind: JournalKind = CAPTIONS) -> JournalState:
    """Read a file of captions or answers; a missing or empty one gives an empty state.

    Raises:
        UsageError: the file holds something else, or lines of a newer format, and must not be written to.
    """
    check_regular(path)
    state = JournalState()
    last = b""
    for line in _lines(path):
        last = line
        whole = line.endswith(b"\n")
        values = _parse(line, kind)
        if values is not None:
            _refuse_newer(values, path)
            _take(state, values, kind)
            state.lacks_newline = not whole
        elif not whole:
            state.torn = True
            break
        elif line.strip():
            state.bad_lines += 1
        state.good_bytes += len(line)
    first_bytes = f'{{"{kind.key}": '.encode()
    torn_first_line = state.torn and not state.bad_lines and last[: len(first_bytes)] == first_bytes[: len(last)]
    if state.lines == 0 and (state.bad_lines or state.torn) and not torn_first_line:
        raise UsageError(f"{path} exists and is not {kind.what}; nothing was changed", "choose another --out")
    return state


def check_regular(path: Path) -> None:
    """Captions go to plain files only: a pipe or device cannot be read back. No file is begun that is called otherwise.

    Raises:
        UsageError: `path` is something else, or would not be what its name says.
    """
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", f"name a file, such as {path / 'captions.jsonl'}")
    if path.exists() and not path.is_file():
        raise UsageError(f"--out {path} is not a plain file", "leave --out away to write to standard output")
    if path.suffix.lower() in _OTHER_FORMATS and not (path.exists() and path.stat().st_size):
        raise UsageError(
            f"--out {path} would hold JSON lines, which is not what {path.suffix} means",
            f"name {path.with_suffix('.jsonl')}; evlgen export makes other formats of it",
        )


def read_captions(path: Path, kind: JournalKind = CAPTIONS) -> dict[str, dict[str, Any]]:
    """The row of each item by its key (a whole video's is its name), in the order in which the items first appear.

    The last line of an item counts.

    Raises:
        UsageError: see `read_rows`.
    """
    return {key_in(values, kind): values for values in read_rows(path, kind)}


def read_rows(path: Path, kind: JournalKind = CAPTIONS) -> Iterator[dict[str, Any]]:
    """Every readable line, in the order in which they were written; reads, and does not lock.

    Raises:
        UsageError: the file is missing, not a plain one, or holds lines of a newer format.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}", f"{kind.writer} writes it")
    if not path.is_file():
        raise UsageError(f"{path} is not a plain file", f"name {kind.what}: {kind.writer} writes it")
    for line in _lines(path):
        values = _parse(line, kind)
        if values is not None:
            _refuse_newer(values, path)
            yield values


def key_in(values: Mapping[str, Any], kind: JournalKind = CAPTIONS) -> str:
    """What a line is about: a video, a part of one, or a question."""
    name: str = values[kind.key]
    start, end = values.get("start_seconds"), values.get("end_seconds")
    whole = not all(isinstance(one, int | float) for one in (start, end))
    return name if whole else key_of(name, start, end)


def _lines(path: Path) -> Iterator[bytes]:
    """Lines split at newline bytes only: captions and names may hold any other separator."""
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _parse(line: bytes, kind: JournalKind) -> dict[str, Any] | None:
    try:
        values = parse_json(line, "", keep_halves=True)
    except UsageError:  # covers bytes that are not UTF-8
        return None
    if not isinstance(values, dict):
        return None
    if not all(isinstance(values.get(key), str) for key in (kind.key, "settings_hash", "status")):
        return None
    return values


def _refuse_newer(values: dict[str, Any], path: Path) -> None:
    """Raise a UsageError for a line of a format that this version does not know; lines without one are of the first."""
    written = values.get("format", FORMAT)
    if isinstance(written, int) and written > FORMAT:
        raise UsageError(
            f"{path} holds lines of format {written}, written by a newer evlgen; this one reads {FORMAT}",
            "update evlgen, or choose another --out",
        )


def _take(state: JournalState, values: dict[str, Any], kind: JournalKind) -> None:
    error = values.get("error")
    state.lines += 1
    state.entries[key_in(values, kind)] = JournalEntry(
        fingerprint=values.get("fingerprint"),
        settings_hash=values["settings_hash"],
        status=values["status"],
        error_kind=str(error.get("kind")) if isinstance(error, dict) else None,
        question=values.get("question"),
        edited=values.get("edited") is True,
        root=values["root"] if isinstance(values.get("root"), str) else None,
    )
    if isinstance(values.get("settings"), dict):
        state.settings.setdefault(values["settings_hash"], values["settings"])


class Journal:
    """An output file, open for appending and locked.

    Attributes:
        path: where it is.
        state: what it said when it was opened.
        locked: False where the file system knows no locks.
    """

    def __init__(self, path: Path, kind: JournalKind = CAPTIONS) -> None:
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
                sync(path.parent)
        except AlreadyLockedError as error:
            os.close(self._descriptor)
            raise JournalError(
                f"{path} is being written by another evlgen run", "wait for it, stop it, or choose another --out"
            ) from error
        except BaseException:
            os.close(self._descriptor)
            raise

    def append(self, row: Row | EditedRow) -> None:
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
