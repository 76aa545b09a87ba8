"""The text of a file of annotations, and its kind: JSON, JSON lines, a table with a header, or lines of text.

Gzip and the byte order marks of UTF-8 and UTF-16 are seen through. What is none of these is refused by its first bytes.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import stat
import zlib
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from evlgen.annotations.columns import ALL_COLUMNS, ID_COLUMNS, TEXT_LINE
from evlgen.errors import UsageError

MOST_BYTES = 2_000_000_000
"""The most text that is read, unpacked."""

KNOWN_KINDS = "expected JSON, JSON lines, or CSV or TSV with a header, in UTF-8"
_GZIP = b"\x1f\x8b"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_HEAD_BYTES = 1 << 16
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\v")
_LINE = re.compile(r"\S[^\r\n]*")
_LENIENT = json.JSONDecoder(parse_int=str)

Form = Literal["json", "lines", "table", "text"]


@dataclass(frozen=True)
class AnnotationFile:
    """The text of a file whose kind is known.

    Attributes:
        path: the file.
        text: all of it.
        form: json: one value; lines: one JSON object a line; table: CSV and the like; text: "name caption" lines.
        delimiter: of a table.
    """

    path: Path
    text: str
    form: Form
    delimiter: str = ","

    @property
    def rows_layout(self) -> str:
        """What kind of rows it has, in words."""
        tables = {"\t": "TSV", "|": "table with | between columns"}
        others = {"lines": "JSON lines", "json": "JSON list of rows", "text": "text, a name and a caption a line"}
        return others.get(self.form) or tables.get(self.delimiter, "CSV")


def open_annotations(path: Path) -> AnnotationFile:
    """Read a file and find out what kind it is.

    Raises:
        UsageError: it is missing, a folder, empty, binary, too long, in another encoding, or of no known kind.
    """
    text = _read(path)
    first = _LINE.search(text)
    if first is None:
        raise UsageError(f"{path} is empty", KNOWN_KINDS)
    if first[0].startswith("["):
        return AnnotationFile(path, text, "json")
    if first[0].startswith("{"):
        return AnnotationFile(path, text, "lines" if _is_lines(text) else "json")
    delimiter = _delimiter(first[0].strip())
    if delimiter:
        return AnnotationFile(path, text, "table", delimiter)
    lines = (match[0] for match in _LINE.finditer(text) if not match[0].startswith("#"))
    if TEXT_LINE.match(next(lines, "")):
        return AnnotationFile(path, text, "text", " ")
    raise UsageError(
        f"{path} is of no known kind, and has no header: it starts with {text.strip()[:30]!r}",
        f"{KNOWN_KINDS}; a header names an id column such as {', '.join(ID_COLUMNS[2:5])} and a caption column",
    )


def _read(path: Path) -> str:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise UsageError(f"{path} is a folder, expected a file", "name the file in it")
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is not a plain file", "it is read twice: write it to a file first")
        with path.open("rb") as raw:
            packed = raw.read(len(_GZIP)) == _GZIP
        if not packed:
            _check_size(path, status.st_size)
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            content = file.read(_HEAD_BYTES)
            _check_text(path, content)
            content += file.read(MOST_BYTES + 1 - len(content))
        _check_size(path, len(content))
        return content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", "check the spelling") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not text in UTF-8", "save it as UTF-8 and try again") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is not a whole gzip file: {error}", "copy or compress it again") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _check_size(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise UsageError(f"{path} holds more than {MOST_BYTES / 1e9:g} GB of text, which is what is read", "split it")


def _check_text(path: Path, head: bytes) -> None:
    if head.startswith(b"PK\x03\x04"):
        raise UsageError(f"{path} is a zip archive", "unpack it and name the file in it")
    if head.startswith(_UTF16_MARKS):
        return
    strange = sum(head.count(control) for control in _CONTROLS)
    if b"\0" in head or strange > 8 + len(head) // 100:
        raise UsageError(f"{path} is a binary file", KNOWN_KINDS)


def _is_lines(text: str) -> bool:
    """Whether it is JSON lines: more lines than one, and a whole object on the first or, if that is damaged, second."""
    lines = [match[0] for match in islice(_LINE.finditer(text), 2)]
    return len(lines) == 2 and any(map(_is_object, lines))


def _is_object(line: str) -> bool:
    try:
        return isinstance(_LENIENT.decode(line), dict)
    except RecursionError:
        return line.startswith("{")  # who reads the line says so
    except ValueError:
        return False


def _delimiter(header: str) -> str:
    """The one by which the header names the most known columns; "" if it names none."""
    best, delimiter = 0, ""
    for candidate in "\t,;|":
        try:
            cells = {cell.strip().casefold() for cell in next(csv.reader([header], delimiter=candidate))}
        except csv.Error:
            continue
        known = len(cells & ALL_COLUMNS)
        if known and known + (len(cells) > 1) > best:
            best, delimiter = known + (len(cells) > 1), candidate
    return delimiter
