"""Checksums of what caches hold: what a disk has spoiled is found before it is used, at 1 to 6 GB a second."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.errors import EvlgenError
from evlgen.system.jsons import parse_json

_SUM_KEY = ', "sum": '

SUM = np.dtype("<u4")
"""A CRC-32 in a file."""


def row_sums(rows: NDArray[Any]) -> NDArray[np.uint32]:
    """The CRC-32 of each row (R, ...), as (R,)."""
    return np.array([zlib.crc32(np.ascontiguousarray(row).data) for row in rows], dtype=SUM)


class RowCheck:
    """Compares rows with their checksums, each when it is first used.

    Args:
        rows: (R, ...), perhaps a memory map.
        sums: (R,), of `row_sums` when they were written.
    """

    def __init__(self, rows: NDArray[Any], sums: NDArray[np.uint32]) -> None:
        self.rows, self.sums = rows, sums
        self._fine = np.zeros(len(rows), dtype=bool)

    def are_fine(self, wanted: Iterable[int]) -> bool:
        """Whether some rows are what was written."""
        for row in wanted:
            if not self._fine[row]:
                self._fine[row] = row_sums(self.rows[row : row + 1])[0] == self.sums[row]
            if not self._fine[row]:
                return False
        return True


def signed_line(fields: dict[str, Any]) -> str:
    """Fields as a line of JSON that ends in its own CRC-32, as `sum`."""
    body = json.dumps(fields)[:-1]
    return f"{body}{_SUM_KEY}{zlib.crc32(body.encode())}}}\n"


def fields_of(line: bytes, what: str) -> dict[str, Any]:
    """The fields of a line of `signed_line`, which comes without its line feed.

    Raises:
        EvlgenError: the line is not what was written.
    """
    body, _, said = line.rpartition(_SUM_KEY.encode())
    if not body or said != b"%d}" % zlib.crc32(body):
        raise EvlgenError(f"{what}: a line is not what was written")
    fields: dict[str, Any] = parse_json(body + b"}", what, keep_halves=True)
    return fields
