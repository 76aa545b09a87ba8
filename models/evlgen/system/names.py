"""The one way to print a name: names and captions are data and must not steer the terminal, in text or in JSON."""

import re
import unicodedata
from pathlib import Path

_SPACES = re.compile(r"\s")
_JOINERS = "\u200c\u200d"  # Persian and pictures made of several signs need them, and they move nothing


def printable(text: str | Path) -> str:
    """`text` in one line with nothing in it but what can be seen.

    Spaces, tabs and line ends become blanks; escape and other control characters, marks that turn the direction of
    writing, and bytes of file names that are no text become U+FFFD.
    """
    text = str(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_visible, _SPACES.sub(" ", text)))


def escaped(json_text: str) -> str:
    """JSON text that says the same with nothing in it but what can be seen: the rest stands as JSON's own escapes."""
    if json_text.isascii() and "\x7f" not in json_text:
        return json_text
    return "".join(letter if letter == "\n" or _visible(letter) == letter else _escape(letter) for letter in json_text)


def _escape(letter: str) -> str:
    if letter == "\ufffd":  # which can be seen
        return letter
    units = letter.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def _visible(letter: str) -> str:
    # private use and unassigned: fonts have signs there, and newer Unicode than this Python's has letters
    return letter if letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else "\ufffd"
