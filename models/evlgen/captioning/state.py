"""What a caption file says: the last line of each video, and whether its end is torn."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError

_FIRST_BYTES = b'{"video": '


@dataclass(frozen=True)
class Entry:
    """What is known about one video.

    Attributes:
        fingerprint: content it was captioned from; None when it could not be read.
        settings_hash: settings it was captioned with.
        status: ok, partial or error.
        error_kind: None unless status is error.
    """

    fingerprint: str | None
    settings_hash: str
    status: str
    error_kind: str | None


@dataclass
class JournalState:
    """A caption file, read from start to end.

    Attributes:
        entries: by video name, from the last line of that video.
        settings: settings by their hash.
        lines: readable lines.
        bad_lines: unreadable complete lines; they are left alone and count for nothing.
        good_bytes: length of the file up to and including the last readable line.
        torn: the last line is incomplete.
        lacks_newline: the last line is whole, only its newline is missing.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: int = 0
    bad_lines: int = 0
    good_bytes: int = 0
    torn: bool = False
    lacks_newline: bool = False


def read_state(path: Path) -> JournalState:
    """Read a caption file; a missing or empty one gives an empty state.

    Raises:
        UsageError: the file holds something else, and must not be written to.
    """
    check_regular(path)
    state = JournalState()
    last = b""
    for line in _lines(path):
        last = line
        whole = line.endswith(b"\n")
        values = _parse(line)
        if values is not None:
            _take(state, values)
            state.lacks_newline = not whole
        elif not whole:
            state.torn = True
            break
        elif line.strip():
            state.bad_lines += 1
        state.good_bytes += len(line)
    torn_first_line = state.torn and not state.bad_lines and last[: len(_FIRST_BYTES)] == _FIRST_BYTES[: len(last)]
    if state.lines == 0 and (state.bad_lines or state.torn) and not torn_first_line:
        raise UsageError(f"{path} exists and is not a caption file; nothing was changed", "choose another --out")
    return state


def check_regular(path: Path) -> None:
    """Captions go to plain files only: a pipe or device cannot be read back.

    Raises:
        UsageError: `path` is something else.
    """
    if path.is_dir():
        raise UsageError(f"--out {path} is a folder", f"name a file, such as {path / 'captions.jsonl'}")
    if path.exists() and not path.is_file():
        raise UsageError(f"--out {path} is not a plain file", "leave --out away to write to standard output")


def read_captions(path: Path) -> dict[str, dict[str, Any]]:
    """The row of each video, by name, in the order in which the videos first appear; the last line of a video counts.

    Raises:
        UsageError: the file is missing.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}", "evlgen caption writes it")
    rows: dict[str, dict[str, Any]] = {}
    for line in _lines(path):
        values = _parse(line)
        if values is not None:
            rows[values["video"]] = values
    return rows


def _lines(path: Path) -> Iterator[bytes]:
    """Lines split at newline bytes only: captions and names may hold any other separator."""
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except ValueError:  # covers bytes that are not UTF-8
        return None
    if not isinstance(values, dict):
        return None
    if not all(isinstance(values.get(key), str) for key in ("video", "settings_hash", "status")):
        return None
    return values


def _take(state: JournalState, values: dict[str, Any]) -> None:
    error = values.get("error")
    kind = str(error.get("kind")) if isinstance(error, dict) else None
    state.lines += 1
    state.entries[values["video"]] = Entry(values.get("fingerprint"), values["settings_hash"], values["status"], kind)
    if isinstance(values.get("settings"), dict):
        state.settings.setdefault(values["settings_hash"], values["settings"])
