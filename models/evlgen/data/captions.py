"""Captioned items from a file of captions, whatever its layout: rows of one file gather, captions become one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from evlgen.data.datasets.finding import resolve_source
from evlgen.data.layouts import read_rows
from evlgen.data.media import IMAGE_SUFFIXES, MediaStore
from evlgen.data.rows import Row
from evlgen.errors import UsageError
from evlgen.recipes import DataSource, expand_path
from evlgen.splits import usual_name

__all__ = [
    "IMAGE_SUFFIXES",
    "CaptionFile",
    "CaptionedItem",
    "MediaStore",
    "clean_caption",
    "read_captions",
    "read_items",
]


@dataclass(frozen=True)
class CaptionedItem:
    """One picture or video with its reference captions.

    Attributes:
        name: as the captions file spells it.
        captions: or answers to questions about it.
        prompts: what each caption goes on from; empty: none has a prompt.
    """

    name: str
    captions: tuple[str, ...]
    prompts: tuple[str, ...] = ()

    @property
    def prompted(self) -> list[tuple[str, str]]:
        """Every caption with its prompt, which may be empty."""
        return list(zip(self.captions, self.prompts or ("",) * len(self.captions), strict=True))

    @property
    def prompt(self) -> str:
        """What a model is asked about it, where it can be asked one thing only: the first prompt."""
        return self.prompts[0] if self.prompts else ""

    @property
    def references(self) -> tuple[str, ...]:
        """The captions that go on from `prompt`."""
        return tuple(caption for caption, prompt in self.prompted if prompt == self.prompt)


def make_item(name: str, prompted: Iterable[tuple[str, str]]) -> CaptionedItem:
    """An item of captions with their prompts."""
    captions, prompts = zip(*prompted, strict=True)
    return CaptionedItem(name, captions, prompts if any(prompts) else ())


@dataclass(frozen=True)
class CaptionFile:
    """What a captions file says about a source.

    Attributes:
        items: those that have captions, in file order, each name once.
        uncaptioned: names of those that have none, and where each stands.
        repeated: names whose rows say twice what their captions are.
    """

    items: list[CaptionedItem]
    uncaptioned: dict[str, str]
    repeated: list[str]


def read_captions(source: DataSource, *, lower_case: bool) -> CaptionFile:
    """Items of a source; rows of the same file gather.

    Raises:
        UsageError: the file is missing or a row is not what it must be, file and line are named; or no row is left.
    """
    source = resolve_source(source)
    path = expand_path(source.captions)
    wanted = source.split.split("+") if source.split is not None else []
    rows: dict[str, list[Row]] = {}
    splits: set[str] = set()
    for row in read_rows(path):
        splits.add(row.split or "")
        if not wanted or _wanted(row.split, wanted, splits):
            rows.setdefault(row.name, []).append(row)
    if not splits.isdisjoint(wanted):  # the names asked for may have come after rows of another spelling
        own = {n: [r for r in found if _wanted(r.split, wanted, splits)] for n, found in rows.items()}
        rows = {n: found for n, found in own.items() if found}
    if not rows:
        have = ", ".join(sorted(splits - {""}))
        raise UsageError(
            f"{path} has no rows" + (f" of split {source.split!r}" if source.split else ""),
            (f"its splits are {have}" if have else "its rows name no split") if source.split else "",
        )
    items: list[CaptionedItem] = []
    uncaptioned: dict[str, str] = {}
    for name, found in list(rows.items())[: source.limit]:
        captions = [(clean_caption(c, lower_case=lower_case), row.prompt) for row in found for c in row.captions]
        if kept := [one for one in captions if one[0]]:
            items.append(make_item(name, kept))
        else:
            uncaptioned[name] = found[0].where
    return CaptionFile(items, uncaptioned, [n for n, found in rows.items() if sum(r.whole for r in found) > 1])


def read_items(source: DataSource, *, lower_case: bool) -> list[CaptionedItem]:
    """Items of a source, in file order; here every item must have captions.

    Raises:
        UsageError: as for `read_captions`, and for an item without captions.
    """
    source = resolve_source(source)
    found = read_captions(source, lower_case=lower_case)
    for name, where in found.uncaptioned.items():
        raise UsageError(f"{expand_path(source.captions)} {where}: {name} has no captions")
    return found.items


def _wanted(split: str | None, wanted: list[str], seen: set[str]) -> bool:
    """Whether a row is of a split that is asked for, by its own name, or by another spelling where none has its own."""
    if split is None or split in wanted:
        return split is not None
    return any(one not in seen and usual_name(split) == usual_name(one) for one in wanted)


def clean_caption(text: str, *, lower_case: bool) -> str:
    """One line, single spaces; with `lower_case` also no final full stop."""
    text = " ".join(text.split())
    return text.lower().rstrip(" .") if lower_case else text
