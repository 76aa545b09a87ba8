"""Captions that people wrote, by id: what predictions are scored against. `evlgen.annotations` reads the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from evlgen.annotations.caption_layouts import OWN_CAPTIONS, read_caption_rows
from evlgen.annotations.columns import counted
from evlgen.annotations.splits import chosen_splits
from evlgen.errors import UsageError


@dataclass(frozen=True)
class References:
    """Captions that people wrote.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        captions: one or more by id, in file order.
        groups: by id, the domain or else the category or else the split, where the file has one.
        notes: one line for each thing that a user should know.
        aliases: by id, a second name under which predictions may know it: the file name of an image that the file
            calls by number, or the number of one that it calls by file name.
    """

    path: Path
    layout: str
    captions: dict[str, list[str]]
    groups: dict[str, str]
    notes: tuple[str, ...]
    aliases: dict[str, str] = field(default_factory=dict)


def read_references(path: Path, *, split: str | None = None) -> References:
    """Read captions that people wrote, in any known layout; it is found from the content.

    Args:
        path: the file.
        split: only this split of a file that has splits, or several with + between; by default all of them, and a note
            says so.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has no such split; file and line are named.
    """
    read = read_caption_rows(path)
    if read.layout == OWN_CAPTIONS:
        raise UsageError(f"{path} holds captions that evlgen made, expected references", "are the two files swapped?")
    written: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    groups: dict[str, str] = {}
    aliases: dict[str, str] = {}
    for row in read.rows:
        written.setdefault(row.id, []).extend(row.captions)
        if row.split is not None and splits.setdefault(row.id, row.split) != row.split:
            raise UsageError(f"{path}: {row.id!r} is in split {splits[row.id]!r} and in split {row.split!r}")
        if row.group is not None:
            groups[row.id] = row.group
        if row.alias is not None:
            aliases[row.id] = row.alias
    sizes = Counter(splits.values())
    wanted = set(sizes) if split is None else chosen_splits(path, split, sizes)
    chosen = [key for key in written if split is None or splits.get(key) in wanted]
    captions = {key: kept for key in chosen if (kept := [one for one in written[key] if one.strip()])}
    if not captions:
        raise UsageError(f"{path} has no captions" + (f" in split {split!r}" if split else ""))
    blank = sum(len(written[key]) for key in chosen) - sum(map(len, captions.values()))
    groups = groups or (splits if len(wanted) > 1 and split is None else {})
    return References(
        path=path,
        layout=read.layout,
        captions=captions,
        groups={key: groups[key] for key in captions if key in groups},
        notes=(*read.notes, *_split_notes(split, sizes), *_gap_notes(blank, len(chosen) - len(captions))),
        aliases={key: aliases[key] for key in captions if key in aliases},
    )


def _split_notes(split: str | None, sizes: Counter[str]) -> list[str]:
    if split is None and len(sizes) > 1:
        listed = ", ".join(f"{name} ({size})" for name, size in sizes.items())
        return [f"the splits {listed} are used together; choose one with --split"]
    if split == "train" and "restval" in sizes:
        return [f"split restval ({sizes['restval']}) is often trained on as well, and is not in split train"]
    return []


def _gap_notes(blank: int, bare: int) -> list[str]:
    notes = []
    if blank:
        notes.append(f"{counted(blank, 'reference caption is', 'reference captions are')} empty and left out")
    if bare:
        notes.append(f"{counted(bare, 'item has', 'items have')} no captions and left out")
    return notes
