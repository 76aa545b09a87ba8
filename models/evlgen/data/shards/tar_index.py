"""Where the pictures and captions of a shard lie: a scan of the tar's headers, which reads nothing of the pictures.

Members whose names are alike up to the first dot of the file name, one after another, are one sample, as in WebDataset.
Its rows are int64 numbers, to be kept in a file and mapped into memory; a shard of 10,000 samples has half a megabyte.
The standard library's tarfile takes twice the time, keeps an object for every member, and takes some truncated files
for whole ones.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from evlgen.errors import UsageError
from evlgen.system.jsons import parse_json
from evlgen.system.suffixes import IMAGE_SUFFIXES

Int64 = NDArray[np.int64]

PICTURE, TEXT, META = 0, 2, 4
"""Columns of a row: offset and size in bytes of the picture, the .txt and the .json; -1 for what is not there."""

MOST_TEXT_BYTES = 1 << 20
"""The longest .txt or .json that is read: a caption has a few hundred."""

_BLOCK = 512
_BUFFER_BYTES = 8192  # captions lie between pictures: a larger buffer would read these as well
_MOST_EXTENDED_BYTES = 1 << 20  # of the names and records in front of a member; a few hundred bytes are usual
_MOST_DIGITS = 20
_OCTAL = frozenset("01234567")
_MOST_BYTES = 1 << 62  # no disk has more, and sums of two still fit into int64
_KEY = re.compile(r"((?:.*/)?[^/.]+)\.([^/]*)", re.DOTALL)


@dataclass(frozen=True)
class ShardIndex:
    """What is in a shard.

    Attributes:
        rows: (N, 6), one a sample.
        truncated: the file ends before the tar does, or is not a tar from some place on.
    """

    rows: Int64
    truncated: bool

    def to_array(self) -> Int64:
        """(N + 1, 6) for a file; the first row holds what is said about the shard as a whole, and a checksum."""
        head = np.array([[int(self.truncated), _sum_of(self.rows), 0, 0, 0, 0]], dtype=np.int64)
        return np.concatenate([head, self.rows])

    @classmethod
    def from_array(cls, array: Int64) -> ShardIndex:
        """The opposite of `to_array`; a memory map stays one.

        Raises:
            ValueError: it is not what was written.
        """
        if array.dtype != np.int64 or array.ndim != 2 or array[:1, 1:].tolist() != [[_sum_of(array[1:]), 0, 0, 0, 0]]:
            raise ValueError("the index is damaged")
        return cls(array[1:], bool(array[0, 0]))


def _sum_of(rows: Int64) -> int:
    return zlib.crc32(np.ascontiguousarray(rows).data)


class _DamagedTarError(Exception):
    """The tar ends too early, or what is there is no header."""


def scan(path: Path, split: str | None = None) -> ShardIndex:
    """Look through a shard.

    Args:
        path: of the tar, not compressed.
        split: leave out samples whose JSON does not say this split.

    Raises:
        OSError: the file cannot be read.
    """
    rows: list[list[int]] = []
    key, truncated = "", False
    with path.open("rb", buffering=_BUFFER_BYTES) as file:
        size = path.stat().st_size
        members = _members(file, size)
        while True:
            try:
                name, offset, length = next(members)
            except StopIteration:
                break
            except _DamagedTarError:
                truncated = True
                break
            found = _KEY.fullmatch(name)
            if found is None or name.rpartition("/")[2].startswith("__"):
                continue  # WebDataset's own notes
            if found[1] != key or not rows:
                if rows and not _belongs(file, rows[-1], split):
                    rows.pop()
                rows.append([-1] * 6)
                key = found[1]
            column = _column("." + found[2].lower())
            if column is None or rows[-1][column] >= 0:
                continue
            if offset + length > size:
                truncated = True
                break
            rows[-1][column : column + 2] = [offset, length]
        if rows and not _belongs(file, rows[-1], split):
            rows.pop()
    return ShardIndex(np.array(rows, dtype=np.int64).reshape(-1, 6), truncated)


def ends_whole(path: Path) -> bool:
    """Whether a tar has its end mark: a look at two blocks that finds nearly every truncated file."""
    size = path.stat().st_size
    if size < 2 * _BLOCK or size % _BLOCK:
        return False
    with path.open("rb") as file:
        file.seek(-2 * _BLOCK, 2)
        return not any(file.read(2 * _BLOCK))


def member_name(header: bytes) -> str:
    """The name in a member's header, of at most 255 bytes; "" if it is no header."""
    if len(header) < _BLOCK or not _is_header(header):
        return ""
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    name = _text(header[:100])
    return f"{prefix}/{name}" if prefix else name


def _column(suffix: str) -> int | None:
    if suffix in IMAGE_SUFFIXES:
        return PICTURE
    return {".txt": TEXT, ".json": META}.get(suffix)


def _belongs(file: BinaryIO, row: list[int], split: str | None) -> bool:
    if split is None:
        return True
    if row[META] < 0 or row[META + 1] > MOST_TEXT_BYTES:
        return False
    file.seek(row[META])  # the scan seeks anew for every header
    try:
        said = parse_json(file.read(row[META + 1]), "")
    except UsageError:
        return False
    return isinstance(said, dict) and said.get("split") in split.split("+")


def _members(file: BinaryIO, size: int) -> Iterator[tuple[str, int, int]]:
    """(name, offset, size) of every file in a tar: ustar, GNU and pax."""
    at, long_name, extended, shared = 0, "", dict[str, str](), dict[str, str]()
    while True:
        if at > size:
            raise _DamagedTarError
        file.seek(at)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK:
            raise _DamagedTarError
        if not any(header):
            return  # the end mark
        if not _is_header(header):
            raise _DamagedTarError
        kind, length, offset = header[156:157], _number(header[124:136]), at + _BLOCK
        if "size" in extended and kind not in b"xgLK":
            length = _decimal(extended["size"])
        at = offset + -(-length // _BLOCK) * _BLOCK
        if kind in (b"x", b"g", b"L", b"K"):
            if offset + length > size or length > _MOST_EXTENDED_BYTES:
                raise _DamagedTarError
            content = file.read(length)
            if kind == b"L":
                long_name = _text(content)
            elif kind == b"x":
                extended = _records(content)
            elif kind == b"g":
                shared |= _records(content)
            continue
        name = extended.get("path") or long_name or shared.get("path") or member_name(header)
        long_name, extended = "", {}
        if kind in (b"0", b"\0", b"7"):
            yield name.removeprefix("./"), offset, length


def _is_header(header: bytes) -> bool:
    try:
        return int(_text(header[148:156]).strip() or "-1", 8) == sum(header) - sum(header[148:156]) + 8 * 32
    except ValueError:
        return False


def _number(field: bytes) -> int:
    """The size in a header: octal digits, or a binary number where those of 8 GB and more do not fit."""
    if field[0] & 0x80:  # the bit above is the sign
        number = -1 if field[0] & 0x40 else int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
    else:
        digits = _text(field).strip() or "0"
        number = int(digits, 8) if set(digits) <= _OCTAL else -1
    if not 0 <= number <= _MOST_BYTES:
        raise _DamagedTarError
    return number


def _decimal(text: str) -> int:
    """A size in a record.

    Raises:
        _DamagedTarError: it is no number, or one that no file has.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and int(text) <= _MOST_BYTES):
        raise _DamagedTarError
    return int(text)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(content: bytes) -> dict[str, str]:
    """ "20 path=a/name.jpg\\n" and so on: each begins with its own length."""
    found: dict[str, str] = {}
    at = 0
    while content[at : at + 1].isdigit():
        digits, space, _ = content[at : at + _MOST_DIGITS + 1].partition(b" ")
        end = at + _decimal(digits.decode("latin-1"))
        begin = at + len(digits) + 1
        key, equals, value = content[begin : end - 1].partition(b"=")
        if not (space and equals) or not begin < end <= len(content):  # a length of 0 would be read forever
            raise _DamagedTarError
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        at = end
    return found
