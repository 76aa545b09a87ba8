"""The longest match of the lexical rules, token after token."""

import re
from unicodedata import category

from evlgen.metrics.tokenizer.characters import shape_of
from evlgen.metrics.tokenizer.rules import rules

_BEYOND_BASIC_PLANE = re.compile("[\U00010000-\U0010ffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def ptb_tokens(text: str, following: str = "") -> list[str]:
    """Penn Treebank tokens of one line in lower case, punctuation included.

    Args:
        text: the line, without a line feed at its end.
        following: the lines that the reference reads behind it, starting with the line feed; empty at the end of its
            file. They can change the reading of this one: "plan b." ends in "b." or in "b" and ".".
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
    if "\u03a3" in token:
        token = re.sub("\u03a3", _lower_sigma, token)
    return token.lower()


def _lower_sigma(match: re.Match[str]) -> str:
    """A capital sigma in lower case. Java, unlike Python, looks no further than the word that the letter is in."""
    token, at = match.string, match.start()
    return "\u03c2" if _letter_beside(token, at, -1) and not _letter_beside(token, at, 1) else "\u03c3"


def _letter_beside(token: str, at: int, step: int) -> bool:
    """Whether the word has a letter with two cases in this direction; hyphens and the like join letters to a word."""
    at += step
    while 0 <= at < len(token):
        character = token[at]
        if character.lower() != character.upper():
            return True
        if character in "'-._\u2010\u2011\u2012\u2013\u2014":
            if not token[at - 1 : at].isalpha() or not token[at + 1 : at + 2].isalpha():
                return False
        elif character >= "\u2e80" or (not character.isalnum() and category(character)[0] not in "MC"):
            return False
        at += step
    return False
