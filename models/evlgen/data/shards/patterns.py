"""Names of shards as people write them: ranges {00000..11499}, lists {a,b}, wildcards; and gaps in their numbering."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from evlgen.errors import UsageError

MOST_SHARDS = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern stands for, in order; ranges keep their leading zeros.

    Raises:
        UsageError: braces hold neither a range nor a list, or a range is backwards or far too long.
    """
    names = [""]
    at = 0
    for braces in _BRACES.finditer(pattern):
        said = braces.group(1)
        names = [name + pattern[at : braces.start()] for name in names]
        names = [name + value for name in names for value in _values(pattern, said, MOST_SHARDS // len(names))]
        at = braces.end()
    return [name + pattern[at:] for name in names]


def _values(pattern: str, said: str, most: int) -> list[str]:
    if span := _RANGE.fullmatch(said):
        first, last = span.groups()
        if int(last) < int(first):
            raise UsageError(f"shards {pattern}: {{{said}}} runs backwards", "write the smaller number first")
        if int(last) - int(first) >= most:
            raise UsageError(f"shards {pattern}: {{{said}}} stands for more than {MOST_SHARDS} shards")
        return [f"{number:0{len(first)}d}" for number in range(int(first), int(last) + 1)]
    if "," in said:
        return said.split(",")
    raise UsageError(
        f"shards {pattern}: {{{said}}} is neither a range nor a list", "write {00000..00099} or {train,extra}"
    )


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
