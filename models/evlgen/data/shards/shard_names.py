"""Names of shards as people write them: ranges {00000..11499}, lists {a,b}, wildcards; and gaps in their numbering."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby

from braceexpand import braceexpand

from evlgen.errors import UsageError

MOST_SHARDS = 1_000_000
_TOKEN = re.compile(r"\{(-?\d+|[A-Za-z])\.\.(-?\d+|[A-Za-z])(?:\.\.(-?\d+))?\}|([{},])")
_SHOWN_CHARACTERS = 200


def expand_braces(pattern: str) -> list[str]:
    """Every name that a pattern stands for, in order, as a shell has it; ranges keep their leading zeros.

    Raises:
        UsageError: a brace is not closed, or the pattern stands for more than `MOST_SHARDS` names.
    """
    shown = pattern if len(pattern) <= _SHOWN_CHARACTERS else f"{pattern[:_SHOWN_CHARACTERS]}..."
    try:
        # counted before: braceexpand makes a list of every range
        names = list(braceexpand(pattern, escape=False)) if _number_of_names(pattern) <= MOST_SHARDS else []
    except ValueError:  # braces, or numbers of thousands of digits
        raise UsageError(
            f"shards {shown}: a brace that is not closed, or a range that is none",
            "write {00000..00099} or {train,extra}; several patterns are several sources",
        ) from None
    if not names:
        raise UsageError(f"shards {shown} stands for more than {MOST_SHARDS} shards")
    return names


def _number_of_names(pattern: str) -> int:
    """How many names a pattern stands for: lists add, what stands side by side multiplies."""
    open_braces = [(0, 1)]  # of each: names of the alternatives before the last comma, and of the one behind it
    for first, last, step, sign in _TOKEN.findall(pattern):
        before, here = open_braces.pop()
        if first:
            low, high = (int(end) if end.lstrip("-").isdigit() else ord(end) for end in (first, last))
            open_braces.append((before, here * (abs(high - low) // (abs(int(step or 1)) or 1) + 1)))
        elif sign == "{":
            open_braces += [(before, here), (0, 1)]
        elif not open_braces:  # a comma outside, or a brace too many, which braceexpand refuses
            open_braces.append((before, here))
        elif sign == ",":
            open_braces.append((before + here, 1))
        else:
            outer, beside = open_braces.pop()
            open_braces.append((outer, beside * (before + here)))
    return math.prod(before + here for before, here in open_braces)


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


def name_spans(names: Sequence[str]) -> str:
    """Some names in few words: "00003.tar, 00007.tar to 00011.tar". Neighbours must differ by 1 in their number."""
    numbered = [(int(found[-1]) if (found := re.findall(r"\d+", name)) else -at, name) for at, name in enumerate(names)]
    said = []
    for _, run in groupby(enumerate(numbered), lambda pair: pair[1][0] - pair[0]):
        each = [name for _, (_, name) in run]
        said.append(each[0] if len(each) == 1 else f"{each[0]} to {each[-1]}")
    return ", ".join(said)
