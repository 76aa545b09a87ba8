"""Rows of a captions file, and the cells of a table: what the readers of all layouts share."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from evlgen.errors import UsageError


@dataclass(frozen=True)
class Row:
    """Some captions of one file.

    Attributes:
        where: its place in the captions file, e.g. "line 3".
        name: of the picture or video, as the captions file spells it.
        captions: as they stand there; blank ones are left out, so there may be none.
        split: as it stands there; None if the file says nothing.
        whole: the row should hold all captions of its file.
        prompt: that its captions go on from; empty for none.
    """

    where: str
    name: str
    captions: tuple[str, ...]
    split: str | None
    whole: bool
    prompt: str = ""


def some(captions: Iterable[str]) -> tuple[str, ...]:
    """The captions that are not blank."""
    return tuple(c for c in captions if c.strip())


def table_rows(path: Path, text: str, header: list[str], delimiter: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a table below its header line: "line 3", and the cells by column.

    Raises:
        UsageError: a row has another number of cells than the header, or a quote is not closed; the line is named.
    """
    csv.field_size_limit(max(csv.field_size_limit(), 1 << 24))
    # strict: a quote that nobody closes is an error, and does not swallow the rows after it
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, strict=True)
    before, seen = 0, False
    try:
        for cells in reader:
            where, before = f"line {before + 1}", reader.line_num
            if not any(c.strip() for c in cells):
                continue
            if not seen:
                seen = True
                continue
            if len(cells) != len(header):
                raise UsageError(
                    f"{path} {where}: {len(cells)} columns where the header has {len(header)}",
                    'put captions that hold the delimiter in double quotes: "a man, a dog"',
                )
            yield where, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UsageError(
            f"{path} line {before + 1}: {error}", 'a quote inside a quoted caption is written twice: ""'
        ) from None
