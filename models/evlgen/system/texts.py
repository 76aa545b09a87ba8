"""Text as people have it: compressed with gzip or not, in UTF-8 or in what a byte order mark says."""

import codecs
import gzip
import zlib
from pathlib import Path

from evlgen.errors import UsageError

MOST_BYTES = 2_000_000_000
"""Of a text that is read whole; a small gzip file may stand for any number."""

GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARKS = [  # UTF-32 before UTF-16: the mark of one starts with the mark of the other
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
]


def encoding_of(start: bytes) -> str:
    """The encoding that the mark at the start of a text names, as `open` calls it; UTF-8 where there is none."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def read_text(path: Path, hint: str = "") -> str:
    """The whole text of a file.

    Args:
        path: the file.
        hint: what was expected, for errors.

    Raises:
        UsageError: it cannot be read, is no whole gzip file, is longer than `MOST_BYTES`, or is in another encoding.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(len(GZIP)) == GZIP
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} holds more than {MOST_BYTES / 1e9:g} GB of text", "split it")
        return content.decode(encoding_of(content))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}", hint) from None
