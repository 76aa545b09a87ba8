"""Names of shards as people write them: ranges {00000..11499}, lists {a,b}, wildcards; and gaps in their numbering."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby, product

from evlgen.errors import UsageError

MOST_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,18})\.\.([0-9]{1,18})")
_SHOWN_CHARACTERS = 200


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern stands for, in order; ranges keep their leading zeros.

    Raises:
        UsageError: braces hold neither a range nor a list, hold other braces or are not closed, a range is backwards,
            or the pattern stands for far too many names.
    """
    pieces = _BRACES.split(pattern)  # text, what braces hold, text, and so on
    if any(brace in text for text in pieces[::2] for brace in "{}"):
        raise UsageError(
            f"shards {_shown(pattern)}: braces inside braces, or one that is not closed",
            "write {00000..00099} or {train,extra} one after the other; several patterns are several sources",
        )
    parts, most = [], MOST_SHARDS
    for at, piece in enumerate(pieces):
        parts.append(_values(pattern, piece, most) if at % 2 else [piece])
        most //= len(parts[-1])
    return ["".join(each) for each in product(*parts)]


def _values(pattern: str, said: str, most: int) -> list[str]:
    """What braces stand for, of which there may be `most`: none is made of more."""
    first, last = span.groups() if (span := _RANGE.fullmatch(said)) else ("0", "0")
    count = int(last) - int(first) + 1 if span else said.count(",") + 1
    if count < 1:
        raise UsageError(f"shards {_shown(pattern)}: {{{said}}} runs backwards", "write the smaller number first")
    if count == 1 and not span:
        raise UsageError(
            f"shards {_shown(pattern)}: {{{_shown(said)}}} is neither a range nor a list",
            "write {00000..00099} or {train,extra}",
        )
    if count > most:
        raise UsageError(
            f"shards {_shown(pattern)}: {{{_shown(said)}}} stands for more than {MOST_SHARDS} shards in all"
        )
    return [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)] if span else said.split(",")


def _shown(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."


def has_wildcards(name: str) -> bool:
    """Whether a name must be looked for in a listing."""
    return any(c in name for c in "*?[")


def numbering_gaps(names: Sequence[str]) -> list[str]:
    """Names that are missing between the first and the last number of each series: 3.tar, 5.tar lack 4.tar."""
    series: dict[tuple[str, str], set[str]] = {}
    for name in names:
        if found := re.fullmatch(r"(.*?)(\d+)(\.[^/\d]*)", name):
            series.setdefault((found[1], found[3]), set()).add(found[2])
    missing: list[str] = []
    for (before, after), digits in series.items():
        have = {int(d) for d in digits}
        width = min(len(d) for d in digits)
        if max(have) - min(have) > MOST_SHARDS:
            continue  # a date, not a number
        missing += [f"{before}{n:0{width}d}{after}" for n in range(min(have), max(have)) if n not in have]
    return missing


def spans(names: Sequence[str]) -> str:
    """Some names in few words: "00003.tar, 00007.tar to 00011.tar". Neighbours must differ by 1 in their number."""
    numbered = [(int(found[-1]) if (found := re.findall(r"\d+", name)) else -at, name) for at, name in enumerate(names)]
    said = []
    for _, run in groupby(enumerate(numbered), lambda pair: pair[1][0] - pair[0]):
        each = [name for _, (_, name) in run]
        said.append(each[0] if len(each) == 1 else f"{each[0]} to {each[-1]}")
    return ", ".join(said)
