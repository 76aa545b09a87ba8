"""What kind of file it is, from its first megabyte: JSON, JSON lines, a table with a header, or lines of text.

A file that is none of these is refused here, however long it is, before anything else is read. Gzip and the byte order
marks of UTF-8, UTF-16 and UTF-32 are seen through.
"""

import codecs
import csv
import gzip
import io
import json
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, TextIO, cast

from evlgen.errors import UsageError
from evlgen.metrics.files.fields import ALL_COLUMNS, ID_COLUMNS, TEXT_LINE
from evlgen.system.texts import GZIP, encoding_of

HEAD_BYTES = 1 << 20
LINE_LIMIT_BYTES = 1 << 26
_ARCHIVES = [(b"PK\x03\x04", "a zip archive"), (b"BZh", "bzip2"), (b"\xfd7zXZ\x00", "xz"), (b"(\xb5/\xfd", "zstandard")]
_CONTROLS = frozenset(range(32)) - frozenset(b"\t\n\r\f\v")
_LENIENT = json.JSONDecoder(parse_int=str)
KNOWN_KINDS = "expected JSON, JSON lines, or CSV or TSV with a header, in UTF-8"


@dataclass(frozen=True)
class Source:
    """A file whose kind is known.

    Attributes:
        path: the file.
        form: json: one value; lines: one JSON object a line; table: CSV and the like; text: "name caption" lines.
        encoding: of its text.
        packed: it is compressed with gzip.
        head: its first characters.
        whole: the head is all there is.
        delimiter: of a table.
    """

    path: Path
    form: Literal["json", "lines", "table", "text"]
    encoding: str
    packed: bool
    head: str
    whole: bool
    delimiter: str = ","

    @property
    def rows_layout(self) -> str:
        """What kind of rows it has, in words."""
        tables = {"\t": "TSV", "|": "table with | between columns"}
        others = {"lines": "JSON lines", "json": "JSON list of rows", "text": "text, a name and a caption a line"}
        return others.get(self.form) or tables.get(self.delimiter, "CSV")


def inspect(path: Path) -> Source:
    """Find out what kind of file it is; reads its first megabyte.

    Raises:
        UsageError: it is missing, a folder, empty, binary, or of no known kind.
    """
    _check_file(path)
    with readable(path):
        with path.open("rb") as file:
            packed = file.read(len(GZIP)) == GZIP
        with _unpacked(path, packed) as file:
            data = _head(file)
            whole = not file.read(1)
    encoding, head = _decode(path, data, whole)
    if not head.strip():
        raise UsageError(f"{path} is empty", KNOWN_KINDS)
    source = Source(path, "json", encoding, packed, head, whole)
    start = head.lstrip()
    if start[0] == "[":
        form, delimiter = "json", ","
    elif start[0] == "{":
        form, delimiter = _json_form(start, whole), ","
    else:
        form, delimiter = _table_form(source)
    return Source(path, cast(Literal["json", "lines", "table", "text"], form), encoding, packed, head, whole, delimiter)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turns what reading can raise into one line."""
    try:
        yield
    except UnicodeDecodeError:
        raise not_utf8(path) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{path} is not a whole gzip file: {error}", "copy or compress it again") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None


def not_utf8(path: Path) -> UsageError:
    """The error of a text in another encoding."""
    return UsageError(f"{path} is not text in UTF-8", "save it as UTF-8 and try again")


@contextmanager
def opened(source: Source, *, newline: str) -> Iterator[TextIO]:
    """The text of a source; lines end where `newline` says, see `open`."""
    with (
        readable(source.path),
        _unpacked(source.path, source.packed) as file,
        io.TextIOWrapper(file, encoding=source.encoding, newline=newline) as text,
    ):
        yield text


@contextmanager
def opened_bytes(source: Source) -> Iterator[BinaryIO]:
    """The bytes of a source, unpacked."""
    with readable(source.path), _unpacked(source.path, source.packed) as file:
        yield file


def _unpacked(path: Path, packed: bool) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _head(file: BinaryIO) -> bytes:
    """The first megabyte; of JSON as much more as holds its first line and some of the next, within bounds."""
    data = file.read(HEAD_BYTES)
    while b"{" in data[:8] and not data.partition(b"\n")[2].strip(b"\0\r\n\t ") and len(data) < LINE_LIMIT_BYTES:
        more = file.read(len(data))
        if not more:
            break
        data += more
    return data


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", "check the spelling") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise UsageError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise UsageError(f"{path} is a folder, expected a file", "name the file in it")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{path} is not a plain file", "it is read twice: write it to a file first")


def _decode(path: Path, data: bytes, whole: bool) -> tuple[str, str]:
    """Encoding and text of the first bytes; a character that they cut in two is left out."""
    for magic, name in _ARCHIVES:
        if data.startswith(magic):
            raise UsageError(f"{path} is {name}", "unpack it and name the file in it")
    if data.startswith(b"version https://git-lfs"):
        raise UsageError(f"{path} is a pointer of Git LFS, not the file itself", "fetch it with git lfs pull")
    encoding = encoding_of(data)
    start = data[: 1 << 16]
    strange = sum(byte in _CONTROLS for byte in start) if encoding.startswith("utf-8") else 0
    binary = UsageError(f"{path} is a binary file", KNOWN_KINDS)
    if strange and (0 in start or strange > 8 + len(start) // 100):
        raise binary
    try:
        return encoding, codecs.getincrementaldecoder(encoding)().decode(data, final=whole)
    except UnicodeDecodeError:
        raise binary if strange else not_utf8(path) from None


def _json_form(start: str, whole: bool) -> str:
    """JSON lines have a whole object on the first or second line, and more lines than one."""
    lines = [line for line in start.split("\n", 3)[:3] if line.strip()]
    if len(lines) < 2:
        return "json"
    return "lines" if _is_object(lines[0]) or ((len(lines) > 2 or whole) and _is_object(lines[1])) else "json"


def _is_object(line: str) -> bool:
    try:
        return isinstance(_LENIENT.decode(line), dict)
    except RecursionError:
        return line.lstrip().startswith("{")  # who reads the line says so
    except ValueError:
        return False


def _table_form(source: Source) -> tuple[str, str]:
    """The delimiter whose first row names the most known columns, or lines of names and captions."""
    lines = [line.strip() for line in re.split("[\r\n]", source.head) if line.strip()]
    best, delimiter = 0, ","
    for candidate in "\t,;|":
        try:
            cells = {cell.strip().casefold() for cell in next(csv.reader([lines[0]], delimiter=candidate))}
        except csv.Error:
            continue
        known = len(cells & ALL_COLUMNS) + (len(cells) > 1)
        if cells & ALL_COLUMNS and known > best:
            best, delimiter = known, candidate
    if best:
        return "table", delimiter
    lines = [line for line in lines if not line.startswith("#")][: 1000 if source.whole else -1][:1000]
    if lines and all(TEXT_LINE.match(line) for line in lines):
        return "text", " "
    raise UsageError(
        f"{source.path} is of no known kind: it starts with {source.head.strip()[:30]!r}",
        f"{KNOWN_KINDS}; a header names an id column such as {', '.join(ID_COLUMNS[2:5])} and a caption column",
    )
