"""The longest match of the lexical rules, token after token."""

import re

from evlgen.metrics.tokenizer.rules import rules
from evlgen.metrics.tokenizer.shapes import shape_of

_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def scan(text: str, following: str = "") -> list[str]:
    """Tokens of `text`, in lower case; `following` is read as context only.

    Args:
        text: one line.
        following: the lines behind it, starting with their line feed; empty at the end of the file.
    """
    whole = text + following
    if not whole.isascii():  # Java counts in UTF-16, and some rules count
        text = _BEYOND_BASIC_PLANE.sub(_as_pair, text)
        whole = _BEYOND_BASIC_PLANE.sub(_as_pair, whole)
    shape = shape_of(whole)
    tokens: list[str] = []
    at = 0
    while at < len(text):
        if shape[at] == " ":
            at += 1
            continue
        longest = at
        for pattern, action in rules():
            match = pattern.match(shape, at)
            if match and match.end() > longest:
                longest, best, token = match.end(), match, action
        if longest == at:
            at += 1  # white space, and what the reference cannot read
            continue
        groups = best.re.groups
        if token is not None:
            taken = whole[at : best.end(1 if groups else 0)]
            tokens.append(_lower(token(taken) if callable(token) else token))
        at = best.end(groups)
    return tokens


def _as_pair(match: re.Match[str]) -> str:
    high, low = divmod(ord(match.group()) - 0x10000, 0x400)
    return chr(0xD800 + high) + chr(0xDC00 + low)


def _lower(token: str) -> str:
    if _SURROGATE.search(token):
        token = token.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return token.lower()
