"""What a caption file, or a file of answers, says: the last line of each item, and whether its end is torn."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.system.jsons import parse_json


@dataclass(frozen=True)
class Kind:
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

CAPTIONS = Kind("video", "a caption file", "evlgen caption")
ANSWERS = Kind("question_id", "a file of answers", "evlgen eval --questions")


@dataclass(frozen=True)
class Entry:
    """What is known about one item.

    Attributes:
        fingerprint: content it was captioned from; None when it could not be read.
        settings_hash: settings it was captioned with.
        status: ok, partial, empty or error.
        error_kind: None unless status is error.
        question: that was answered; None in a caption file.
        root: folder that its name is relative to, as seen from that of the file; None where the line does not say.
    """

    fingerprint: str | None
    settings_hash: str
    status: str
    error_kind: str | None
    question: str | None = None
    root: str | None = None


@dataclass
class JournalState:
    """A caption file, read from start to end.

    Attributes:
        entries: by name of the item (a video, a question), from its last line.
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


def read_state(path: Path, kind: Kind = CAPTIONS) -> JournalState:
    """Read a file of captions or answers; a missing or empty one gives an empty state.

    Raises:
        UsageError: the file holds something else, and must not be written to.
    """
    check_regular(path)
    state = JournalState()
    last = b""
    for line in _lines(path):
        last = line
        whole = line.endswith(b"\n")
        values = _parse(line, kind)
        if values is not None:
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
            f"name {path.with_suffix('.jsonl')}; jq -r '[.video, .caption] | @csv' makes a table of it",
        )


def read_captions(path: Path, kind: Kind = CAPTIONS) -> dict[str, dict[str, Any]]:
    """The row of each item, by name, in the order in which the items first appear; the last line of an item counts.

    Raises:
        UsageError: the file is missing.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}", f"{kind.writer} writes it")
    rows: dict[str, dict[str, Any]] = {}
    for line in _lines(path):
        values = _parse(line, kind)
        if values is not None:
            rows[values[kind.key]] = values
    return rows


def _lines(path: Path) -> Iterator[bytes]:
    """Lines split at newline bytes only: captions and names may hold any other separator."""
    try:
        with path.open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _parse(line: bytes, kind: Kind) -> dict[str, Any] | None:
    try:
        values = parse_json(line, "", keep_halves=True)
    except UsageError:  # covers bytes that are not UTF-8
        return None
    if not isinstance(values, dict):
        return None
    if not all(isinstance(values.get(key), str) for key in (kind.key, "settings_hash", "status")):
        return None
    return values


def _take(state: JournalState, values: dict[str, Any], kind: Kind) -> None:
    error = values.get("error")
    state.lines += 1
    state.entries[values[kind.key]] = Entry(
        fingerprint=values.get("fingerprint"),
        settings_hash=values["settings_hash"],
        status=values["status"],
        error_kind=str(error.get("kind")) if isinstance(error, dict) else None,
        question=values.get("question"),
        root=values["root"] if isinstance(values.get("root"), str) else None,
    )
    if isinstance(values.get("settings"), dict):
        state.settings.setdefault(values["settings_hash"], values["settings"])
