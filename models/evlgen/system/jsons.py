"""The one reader of JSON that others wrote: bounded in depth and digits, UTF-8 only, one line for what is wrong.

Python's own reader falls over text that is nested deeply, and lets through halves of surrogate pairs, which are no
characters and cannot be written, and integers that no float holds.
"""

import codecs
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.system.files import os_errors, write_text
from evlgen.system.names import printable

MOST_DIGITS = 300
"""The longest integer that is read: as many digits as a float can hold."""

_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_HALF = re.compile("[\ud800-\udfff]")
Pairs = Callable[[list[tuple[str, Any]]], Any]


class JsonError(UsageError):
    """Text that is not JSON, or not such JSON as evlgen reads."""


def read_json(path: str | Path) -> Any:
    """The value in a file of JSON.

    Raises:
        JsonError: it is not JSON.
        EvlgenError: it cannot be read.
    """
    with os_errors(path, "cannot be read"):
        content = Path(path).read_bytes()
    return parse_json(content, str(path))


def write_json(path: str | Path, value: Any, *, indent: int | None = None, hint: str = "") -> None:
    """Replace the content of a file by a value as JSON, as a whole or not at all.

    Args:
        path: the file; it may be missing.
        value: what `json.dumps` takes.
        indent: spaces a level; None puts all into one line.
        hint: what to try where the file cannot be written.

    Raises:
        EvlgenError: it cannot be written.
    """
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n", hint=hint)


def parse_json(text: str | bytes, what: str, *, pairs: Pairs | None = None, keep_halves: bool = False) -> Any:
    """The value of JSON text.

    Args:
        text: the text; of bytes, UTF-8 with or without a byte order mark.
        what: what to call it in errors, e.g. a file, or a line of one.
        pairs: makes an object of its pairs, as json's `object_pairs_hook`.
        keep_halves: keep halves of surrogate pairs, by which our own files spell names that are no text; otherwise they
            become U+FFFD.

    Raises:
        JsonError: it is not JSON, is nested too deeply, or holds an integer of more than `MOST_DIGITS` digits.
    """
    halves = isinstance(text, str) and bool(_HALF.search(text))
    if isinstance(text, bytes):
        text = decode_utf8(text, what)
    try:
        value = json.loads(text.removeprefix("\ufeff"), parse_int=_integer, object_pairs_hook=pairs)
        halves = halves or r"\ud" in text or r"\uD" in text  # nearly all text has no such escape, and nothing to mend
        return _mended(value) if halves and not keep_halves else value
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        reason = f"{error.msg[0].lower()}{error.msg[1:]}".removesuffix(" at")
        raise JsonError(f"{printable(what)} is not JSON: {reason} at {where}", "is it a whole file?") from None
    except _TooManyDigitsError:
        raise JsonError(f"{printable(what)} holds a number of more than {MOST_DIGITS} digits") from None
    except RecursionError:
        raise JsonError(f"{printable(what)} holds JSON that is nested too deeply") from None


def decode_utf8(content: bytes, what: str) -> str:
    """The text of bytes in UTF-8, without a byte order mark.

    Raises:
        JsonError: they are another encoding, or no text.
    """
    name = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if name or b"\0" in content[:4]:  # without a mark it shows in the zeros of its first letters
        raise JsonError(f"{printable(what)} is {name or 'UTF-16'}, expected UTF-8", "save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise JsonError(f"{printable(what)} is not UTF-8: byte {error.start} is none", "save it as UTF-8") from None


class _TooManyDigitsError(Exception):
    pass


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise _TooManyDigitsError
    return int(digits)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _HALF.sub("\ufffd", value)
    if isinstance(value, list):
        return [_mended(one) for one in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(one) for key, one in value.items()}
    return value
