"""Which column is what. Names are compared without regard to case.

Where a row has several columns that could be the id, the first of `ID_COLUMNS` counts: names of media before plain
"id", which in COCO's annotations numbers the captions and not the images.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.system.suffixes import MEDIA_SUFFIXES

QUESTION_ID_COLUMNS = ("question_id", "questionid")
FILE_COLUMNS = ("video", "image", "file", "path", "file_name", "filename", "image_name")
NUMBER_COLUMNS = ("image_id", "video_id", "videoid")
NAME_COLUMNS = (*FILE_COLUMNS, *NUMBER_COLUMNS, "id", "name")
ID_COLUMNS = (*QUESTION_ID_COLUMNS, *NAME_COLUMNS)
PREDICTION_COLUMNS = ("caption", "prediction", "predicted_caption", "text", "answer", "sentence", "captions")
CAPTION_COLUMNS = (
    *("captions", "caption", "encap", "references", "reference", "sentences", "sentence"),
    *("text", "description", "comment", "raw"),
)
ANSWER_COLUMNS = ("answers", "answer", "direct_answers")
NESTED_COLUMNS = ("caption", "raw", "sentence", "text", "answer")
GROUP_COLUMNS = ("domain", "category")
ALL_COLUMNS = frozenset((*ID_COLUMNS, *PREDICTION_COLUMNS, *CAPTION_COLUMNS, *ANSWER_COLUMNS))

MEDIA_SUFFIX = re.compile(rf"\.(?:{'|'.join(suffix[1:] for suffix in MEDIA_SUFFIXES)})$", re.IGNORECASE)
MSVD_CLIP = r"[\w-]{11}_\d+_\d+"
"""A clip of MSVD: the YouTube id, then its start and end in seconds."""
TEXT_LINE = re.compile(rf"((?:{MSVD_CLIP}|video\d+|\S+{MEDIA_SUFFIX.pattern[:-1]})(?:#\d+)?)\s+(\S.*)", re.IGNORECASE)
"""A name that can be nothing else (a clip of MSVD, a video of MSR-VTT, a media file), and a caption."""


@lru_cache(maxsize=1024)
def find(keys: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted columns that is among the keys, as the keys spell it; None if there is none."""
    spelled = {key.strip().casefold(): key for key in reversed(keys)}
    return next((spelled[name] for name in wanted if name in spelled), None)


def is_row(value: Mapping[str, Any], columns: tuple[str, ...]) -> bool:
    """Whether an object is one row, not a mapping from ids: it has both an id and one of the columns."""
    keys = tuple(value) if len(value) <= 64 else ()
    return find(keys, ID_COLUMNS) is not None and find(keys, columns) is not None


def wrapped_rows(value: Mapping[str, Any], columns: tuple[str, ...]) -> list[Any] | None:
    """The list of rows that an object holds under a usual name, as in {"results": [{"image_id": 1, …}]}."""
    for name in ("predictions", "results", "references", "captions", "data"):
        found = value.get(name)
        if isinstance(found, list) and found and isinstance(found[0], dict) and is_row(found[0], columns):
            return found
    return None


def is_mapping(value: Mapping[str, Any]) -> bool:
    """Whether an object maps ids to a text, to null, or to a list of texts or of objects that hold one."""
    return bool(value) and all(_is_text(one) for one in value.values())


def _is_text(value: object) -> bool:
    if isinstance(value, list):
        return all(
            isinstance(one, str) or (isinstance(one, dict) and find(tuple(one), NESTED_COLUMNS)) for one in value
        )
    return value is None or isinstance(value, str)


def row_id(path: Path, where: str, row: Mapping[str, Any], columns: tuple[str, ...] = ID_COLUMNS) -> str:
    """Return the id of a row, that of the first of the columns that it has.

    Args:
        path: of the file, for errors.
        where: the place in it, e.g. "line 3".
        row: its values by the names of its columns.
        columns: that may hold the id, the best first.

    Raises:
        UsageError: it has none, or its id is not one.
    """
    column = find(tuple(row), columns)
    if column is None:
        raise UsageError(
            f"{path} {where}: no id column, only {shown_keys(row)}{_near(row, FILE_COLUMNS)}",
            f"expected one of {', '.join(columns)}",
        )
    return id_text(path, where, row[column], column)


def id_text(path: Path, where: str, value: object, column: str) -> str:
    """Return an id as text.

    Args:
        path: of the file, for errors.
        where: the place in it, e.g. "line 3".
        value: the id: text, or a whole number.
        column: that holds it, for errors.

    Raises:
        UsageError: it is neither text nor a whole number.
    """
    if isinstance(value, float) and value.is_integer():  # what a data frame makes of whole numbers
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str) and value.strip():
        return value
    raise UsageError(f"{path} {where}: {column} is {shown(value)}, expected a name or a whole number")


def second_id(row: Mapping[str, Any]) -> str | None:
    """The number or id by which predictions may know a row that is called by a file; None if there is none."""
    other = find(tuple(row), NUMBER_COLUMNS)
    return None if other in (None, find(tuple(row), NAME_COLUMNS)) else str(row[other])


def id_note(row: Mapping[str, Any], columns: tuple[str, ...] = ID_COLUMNS) -> list[str]:
    """One line that says which column the ids come from, where there was a choice; else none."""
    names = [key for key in row if key.strip().casefold() in columns]
    used = find(tuple(row), columns)
    others = ", ".join(name for name in names if name != used)
    return [f"ids are those of column {used} (not used: {others})"] if others else []


def no_captions(path: Path, where: str, row: Mapping[str, Any], columns: tuple[str, ...]) -> UsageError:
    """Return the error of a row that has none of the columns of captions.

    Args:
        path: of the file, for errors.
        where: the place in it, e.g. "line 3".
        row: its values by the names of its columns.
        columns: that were looked for.
    """
    return UsageError(
        f"{path} {where}: no caption column, only {shown_keys(row)}{_near(row, columns)}",
        f"expected one of {', '.join(columns)}",
    )


def texts(path: Path, where: str, value: object, column: str) -> list[str]:
    """Return one text, or a list of texts, or of objects that hold one, as a list.

    Args:
        path: of the file, for errors.
        where: the place in it, e.g. "line 3".
        value: what the column holds.
        column: its name, for errors.

    Raises:
        UsageError: it is something else, such as null or a number.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise UsageError(f"{path} {where}: {column} is {shown(value)}, expected text")
    out = []
    for one in value:
        if isinstance(one, dict):
            one = one.get(find(tuple(one), NESTED_COLUMNS) or "")
        if not isinstance(one, str):
            raise UsageError(f"{path} {where}: {column} holds {shown(one)}, expected text")
        out.append(one)
    return out


def shown(value: object) -> str:
    """A value in a few characters, as JSON names it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"


def shown_keys(value: Mapping[str, Any]) -> str:
    """The first few keys."""
    keys = [repr(key) if len(key) <= 40 else f"{key[:40]!r}…" for key in list(value)[:8]]
    more = len(value) - len(keys)
    return ", ".join(keys) + (f" and {more} more" if more else "") if keys else "nothing"


def _near(row: Mapping[str, Any], columns: tuple[str, ...]) -> str:
    """Which column may be misspelled, in words; "" if none looks like one of `columns`."""
    pairs = [(key, difflib.get_close_matches(key.strip().casefold(), columns, n=1, cutoff=0.75)) for key in row]
    return next((f"; did you mean {near[0]!r} by {key!r}?" for key, near in pairs if near and near[0] != key), "")


def counted(count: int, one: str, many: str) -> str:
    """A count with its noun and verb: "1 caption is", "2 captions are"."""
    return f"{count} {one if count == 1 else many}"
