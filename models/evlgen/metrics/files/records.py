"""The rows of a file. JSON lines, tables and text are read as a stream; JSON has to be read whole, up to a limit."""

import csv
import gc
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from evlgen.errors import UsageError
from evlgen.metrics.files.fields import TEXT_LINE
from evlgen.metrics.files.opening import LINE_LIMIT_BYTES, Source, opened, opened_bytes, readable
from evlgen.system.jsons import parse_json

JSON_LIMIT_BYTES = 2_000_000_000
_MEMORY_PER_BYTE = 8  # of a JSON file while it is read: its bytes, its text, and the objects made of it
CELL_LIMIT_CHARACTERS = 1 << 24  # the csv module's own limit is 131,072, process-wide; it is never lowered here

_LOST_BAR = re.compile(r"(\d+)\s+(\S.*)")  # one row of Flickr30k's table on Kaggle: 2199200615.jpg| 4   A dog …

Row = tuple[str, dict[str, Any]]
"""Where a row stands ("line 3", "entry 3"), and its columns."""
OnBad = Callable[[int, UsageError, bool], None]
"""Gets number, error and whether it has no newline at its end, of a line that is not JSON."""


class _RepeatedKeyError(ValueError):
    pass


def json_value(source: Source) -> Any:
    """The value that a JSON file holds.

    Raises:
        UsageError: it is not JSON, or more than memory holds.
    """
    path = source.path
    _check_head(source)
    _check_size(path, path.stat().st_size)
    with opened_bytes(source) as file:
        data = file.read(JSON_LIMIT_BYTES + 1)
    _check_size(path, len(data))
    try:
        with readable(path):
            text = data.decode(source.encoding)
        del data
        with _no_collection():
            return parse_json(text, str(path), pairs=_once)
    except _RepeatedKeyError as error:
        raise UsageError(f"{path}: {error}", "keep one of them") from None
    except MemoryError:
        raise UsageError(f"{path} cannot be read as JSON: memory ran out") from None


@contextmanager
def _no_collection() -> Iterator[None]:
    """JSON has no cycles: looking for some among millions of new objects doubles the time of reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that appears twice, Python would silently keep the last value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise _RepeatedKeyError(f"key {key!r} appears twice with different values")
    return found


def rows(source: Source, on_bad: OnBad | None = None) -> Iterator[Row]:
    """Rows of JSON lines, of a table or of text, as a stream.

    Args:
        source: its form is not json.
        on_bad: is told of lines that are not JSON; without it they are errors.

    Raises:
        UsageError: a row is not what it must be; file and line are named.
    """
    if source.form == "lines":
        return _line_rows(source, on_bad)
    return _table_rows(source) if source.form == "table" else _text_rows(source)


def list_rows(path: Path, values: list[Any]) -> Iterator[Row]:
    """Rows of a JSON list of objects.

    Raises:
        UsageError: one is not an object.
    """
    for number, value in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise UsageError(f"{path} entry {number}: expected an object with an id and a caption")
        yield f"entry {number}", value


def _lines(source: Source, newline: str) -> Iterator[tuple[int, str]]:
    with opened(source, newline=newline) as file:
        number = 0
        while line := file.readline(LINE_LIMIT_BYTES):
            number += 1
            if len(line) == LINE_LIMIT_BYTES:
                raise UsageError(f"{source.path} line {number} has more than {LINE_LIMIT_BYTES} characters")
            if line.strip():
                yield number, line


def _line_rows(source: Source, on_bad: OnBad | None) -> Iterator[Row]:
    # by line feeds only: JSON texts may hold other line separators as they are
    for number, line in _lines(source, "\n"):
        try:
            value = parse_json(line, f"{source.path} line {number}")
        except UsageError as error:
            bad = error
        else:
            if isinstance(value, dict):
                yield f"line {number}", value
                continue
            bad = UsageError(f"{source.path} line {number}: expected an object with an id and a caption")
        if on_bad is None:
            raise bad
        on_bad(number, bad, not line.endswith("\n"))


def _table_rows(source: Source) -> Iterator[Row]:
    if csv.field_size_limit() < CELL_LIMIT_CHARACTERS:
        csv.field_size_limit(CELL_LIMIT_CHARACTERS)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if source.delimiter == "|" else csv.QUOTE_MINIMAL
    with opened(source, newline="") as file:
        # strict: a quote that nobody closes is an error, and does not swallow the rows after it
        reader = csv.reader(file, delimiter=source.delimiter, strict=True, quoting=quoting)
        header: list[str] = []
        before = 0
        try:
            for cells in reader:
                where, before = f"line {before + 1}", reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if source.delimiter == "|":
                    cells = [cell.strip() for cell in cells]
                    if len(cells) == len(header) - 1 and (lost := _LOST_BAR.fullmatch(cells[-1])):
                        cells[-1:] = lost.groups()
                if not header:
                    header = [cell.strip() for cell in cells]
                    continue
                if len(cells) != len(header):
                    raise UsageError(
                        f"{source.path} {where}: {len(cells)} columns where the header has {len(header)}",
                        'put captions that hold the delimiter in double quotes: "a man, a dog"',
                    )
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise UsageError(
                f"{source.path} line {before + 1}: {error}", 'a quote inside a quoted caption is written twice: ""'
            ) from None


def _text_rows(source: Source) -> Iterator[Row]:
    for number, line in _lines(source, "\n"):
        if line.startswith("#"):
            continue
        match = TEXT_LINE.match(line.strip())
        if match is None:
            raise UsageError(f"{source.path} line {number}: expected the name of a video or image, and a caption")
        yield f"line {number}", {"file": match[1].partition("#")[0], "caption": match[2]}


def _check_head(source: Source) -> None:
    """Refuse a long file that is not JSON without reading it: an error well before the end of the head is final."""
    if source.whole:
        return
    text = source.head
    try:
        json.JSONDecoder(parse_int=str).raw_decode(text, len(text) - len(text.lstrip()))
    except json.JSONDecodeError as error:
        # a cut text is reported where it starts, a cut number, word or escape within a few characters of the end
        if not error.msg.startswith("Unterminated string") and error.pos < len(text) - 32:
            parse_json(text, str(source.path))  # says the same in our words
    except RecursionError:
        parse_json(text, str(source.path))


def _check_size(path: Path, size: int) -> None:
    available = _available_bytes()
    if size > JSON_LIMIT_BYTES:
        limit = f"{JSON_LIMIT_BYTES / 1e9:.1f} GB are read"
    elif available is not None and size * _MEMORY_PER_BYTE > max(available, 1 << 30):
        limit = f"memory is free for {available / _MEMORY_PER_BYTE / 1e9:.1f} GB"
    else:
        return
    raise UsageError(
        f"{path} holds {size / 1e9:.1f} GB or more of JSON, at most {limit}",
        "JSON lines, one object a line, are read as a stream",
    )


def _available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
