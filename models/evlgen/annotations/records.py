"""The rows of a file of annotations, each a place ("line 3", "entry 3") and its columns by name."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from evlgen.annotations.annotation_file import AnnotationFile
from evlgen.annotations.columns import ID_COLUMNS, TEXT_LINE, shown
from evlgen.errors import UsageError
from evlgen.system.jsons import parse_json

_CELL_LIMIT_CHARACTERS = 1 << 24  # the csv module's own limit is 131,072, process-wide; it is never lowered here
_LOST_BAR = re.compile(r"(\d+)\s+(\S.*)")  # one row of Flickr30k's table on Kaggle: 2199200615.jpg| 4   A dog …

Record = tuple[str, dict[str, Any]]
"""Where a row stands, and its columns."""
OnBad = Callable[[int, UsageError, bool], None]
"""Gets number, error and whether it has no newline at its end, of a line that is not JSON."""


class _RepeatedKeyError(ValueError):
    pass


def json_value(file: AnnotationFile) -> Any:
    """The value that a JSON file holds.

    Raises:
        UsageError: it is not JSON, or a key has two values.
    """
    try:
        return parse_json(file.text, str(file.path), pairs=_once)
    except _RepeatedKeyError as error:
        raise UsageError(f"{file.path}: {error}", "keep one of them") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object; of a key that appears twice, Python would silently keep the last value."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if seen.setdefault(key, value) != value:
                raise _RepeatedKeyError(f"key {key!r} appears twice with different values")
    return found


def records(file: AnnotationFile, on_bad: OnBad | None = None) -> Iterator[Record]:
    """Rows of JSON lines, of a table or of text, in file order.

    Args:
        file: its form is not json.
        on_bad: is told of lines that are not JSON; without it they are errors.

    Raises:
        UsageError: a row is not what it must be; file and line are named.
    """
    if file.form == "lines":
        return _json_lines(file, on_bad)
    return _table_rows(file) if file.form == "table" else _text_lines(file)


def list_records(path: Path, values: list[Any], name: str = "") -> Iterator[Record]:
    """Rows of a JSON list of objects, which stands under a name in its file or is all of it.

    Raises:
        UsageError: one is not an object.
    """
    for number, value in enumerate(values, start=1):
        where = f"{name} entry {number}".lstrip()
        if not isinstance(value, dict):
            raise UsageError(f"{path} {where}: expected an object, found {shown(value)}")
        yield where, value


def _json_lines(file: AnnotationFile, on_bad: OnBad | None) -> Iterator[Record]:
    # by line feeds only: JSON texts may hold other line separators as they are
    lines = file.text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            value = parse_json(line, f"{file.path} line {number}")
            if isinstance(value, dict):
                yield f"line {number}", value
                continue
            raise UsageError(f"{file.path} line {number}: expected an object, found {shown(value)}")
        except UsageError as error:
            if on_bad is None:
                raise
            on_bad(number, error, number == len(lines))


def _table_rows(file: AnnotationFile) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), _CELL_LIMIT_CHARACTERS))
    bars = file.delimiter == "|"
    quoting: Literal[0, 3] = csv.QUOTE_NONE if bars else csv.QUOTE_MINIMAL
    # strict: a quote that nobody closes is an error, and does not swallow the rows after it
    reader = csv.reader(io.StringIO(file.text, newline=""), delimiter=file.delimiter, strict=True, quoting=quoting)
    header: list[str] = []
    names: list[int] = []
    before = 0
    try:
        for cells in reader:
            where, before = f"line {before + 1}", reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if bars:
                cells = [cell.strip() for cell in cells]
                if len(cells) == len(header) - 1 and (lost := _LOST_BAR.fullmatch(cells[-1])):
                    cells[-1:] = lost.groups()
            if not header:
                header = [cell.strip() for cell in cells]
                names = [place for place, name in enumerate(header) if name.casefold() in ID_COLUMNS]
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{file.path} {where}: {len(cells)} columns where the header has {len(header)}",
                    'put captions that hold the delimiter in double quotes: "a man, a dog"',
                )
            for place in names:
                cells[place] = cells[place].strip()
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(
            f"{file.path} line {before + 1}: {error}", 'a quote inside a quoted caption is written twice: ""'
        ) from None


def _text_lines(file: AnnotationFile) -> Iterator[Record]:
    for number, line in enumerate(file.text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        match = TEXT_LINE.match(line)
        if match is None:
            raise UsageError(
                f"{file.path} line {number}: expected the name of a video or image, and a caption, found {line[:40]!r}"
            )
        yield f"line {number}", {"file": match[1].partition("#")[0], "caption": match[2]}
