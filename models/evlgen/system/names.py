"""The one function for every name that is printed: names and captions are data and must not steer the terminal."""

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


def _visible(letter: str) -> str:
    # private use and unassigned: fonts have signs there, and newer Unicode than this Python's has letters
    return letter if letter in _JOINERS or unicodedata.category(letter) not in ("Cc", "Cf", "Cs") else "\ufffd"
