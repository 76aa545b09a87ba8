"""Which column is what. Names are compared without regard to case.

Where a row has several columns that could be the id, the first of `ID_COLUMNS` counts: names of media before plain
"id", which in COCO's annotations numbers the captions and not the images.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError

ID_COLUMNS = (
    *("question_id", "questionid"),
    *("video", "image", "file", "path", "file_name", "filename", "image_name"),
    *("image_id", "video_id", "videoid", "id", "name"),
)
PREDICTION_COLUMNS = ("caption", "prediction", "predicted_caption", "text", "answer", "sentence", "captions")
REFERENCE_COLUMNS = (
    *("captions", "caption", "encap", "references", "reference", "sentences", "sentence"),
    *("description", "text", "comment", "raw"),
)
ANSWER_COLUMNS = ("answers", "answer", "direct_answers")
NESTED_COLUMNS = ("caption", "raw", "sentence", "text", "answer")
GROUP_COLUMNS = ("domain", "category")
ALL_COLUMNS = frozenset((*ID_COLUMNS, *PREDICTION_COLUMNS, *REFERENCE_COLUMNS, *ANSWER_COLUMNS))

MEDIA_SUFFIX = re.compile(
    r"\.(?:mp4|m4v|avi|mkv|webm|mov|mpe?g|ts|flv|wmv|3gp|ogv|gif|jpe?g|png|webp|bmp|tiff?)$", re.IGNORECASE
)
_MEDIA_NAME = rf"\S+{MEDIA_SUFFIX.pattern[:-1]}"
TEXT_LINE = re.compile(rf"((?:[\w-]{{11}}_\d+_\d+|video\d+|{_MEDIA_NAME})(?:#\d+)?)\s+(\S.*)", re.IGNORECASE)
"""A name that can be nothing else (a clip of MSVD, a video of MSR-VTT, a media file), and a caption."""


@lru_cache(maxsize=1024)
def find(keys: tuple[str, ...], wanted: tuple[str, ...]) -> str | None:
    """The first of the wanted columns that is among the keys, as the keys spell it."""
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


def row_id(path: Path, where: str, row: Mapping[str, Any]) -> str:
    """The id of a row.

    Raises:
        UsageError: it has none.
    """
    column = find(tuple(row), ID_COLUMNS)
    if column is None:
        raise UsageError(
            f"{path} {where}: no id column, only {shown_keys(row)}",
            "expected video, image, file, path, file_name, image_id, video_id, id, name or question_id",
        )
    return id_text(path, where, row[column], column)


def id_text(path: Path, where: str, value: object, column: str) -> str:
    """An id as text.

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
    """The number or id by which predictions may know a row that is called by a file."""
    column = find(tuple(row), ID_COLUMNS)
    other = find(tuple(row), ("image_id", "video_id", "videoid"))
    return None if other in (None, column) else str(row[other])


def id_note(row: Mapping[str, Any]) -> str | None:
    """A line that says which column the ids come from, where there was a choice."""
    names = [key for key in row if key.strip().casefold() in ID_COLUMNS]
    if len(names) < 2:
        return None
    used = find(tuple(row), ID_COLUMNS)
    others = ", ".join(name for name in names if name != used)
    return f"ids are those of column {used} (not used: {others})"


def texts(path: Path, where: str, value: object, column: str) -> list[str]:
    """One text, or a list of texts, or of objects that hold one, as a list.

    Raises:
        UsageError: it is something else, such as null or a number.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        out = []
        for one in value:
            if isinstance(one, dict):
                one = one.get(find(tuple(one), NESTED_COLUMNS) or "")
            if not isinstance(one, str):
                raise UsageError(f"{path} {where}: {column} holds {shown(one)}, expected text")
            out.append(one)
        return out
    raise UsageError(f"{path} {where}: {column} is {shown(value)}, expected text")


def shown(value: object) -> str:
    """A value in a few characters, as JSON names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    kinds: tuple[tuple[type, str], ...] = ((dict, "an object"), (list, "a list"))
    text = next((name for kind, name in kinds if isinstance(value, kind)), None)
    if text is None:
        text = repr(value)
        text = text if len(text) <= 40 else f"{text[:40]}…"
    return text


def shown_keys(value: Mapping[str, Any]) -> str:
    """The first few keys."""
    keys = [repr(key) if len(key) <= 40 else f"{key[:40]!r}…" for key in list(value)[:8]]
    more = len(value) - len(keys)
    return ", ".join(keys) + (f" and {more} more" if more else "") if keys else "nothing"


def counted(count: int, one: str, many: str) -> str:
    """A count with its noun and verb: "1 caption is", "2 captions are"."""
    return f"{count} {one if count == 1 else many}"
