"""Where the files of a published data set are below a folder, and what is not there; sources of recipes by name.

Only names are looked at here, nothing is read: `set_check` reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from evlgen.data.datasets.description import Layout, Media, PublishedSet, Split
from evlgen.data.datasets.registry import SETS, find_set, find_split
from evlgen.errors import UsageError
from evlgen.recipes import DataSource, expand_path

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


@dataclass(frozen=True)
class MissingPart:
    """Something that a split needs and that is not there.

    Attributes:
        what: which part.
        looked_for: files or folders, relative to the root.
        source: where they normally come from.
    """

    what: Literal["captions", "questions", "answers", "splits", "videos", "pictures"]
    looked_for: tuple[str, ...]
    source: str

    def __str__(self) -> str:
        names = {"captions": "captions file", "splits": "list of splits", "answers": "file of answers"}
        what = names.get(self.what, self.what)
        return f"no {what}: looked for {shortened(self.looked_for)}; normally from {self.source}"


def shortened(names: Sequence[str]) -> str:
    """Files in one or more folders, without naming each in each: "a.json, b.json, here or in annotations/"."""
    split = [name.rpartition("/") for name in names]
    if any(not base for _, _, base in split):  # folders
        return ", ".join(names)
    folders = list(dict.fromkeys(f"{folder}/" for folder, _, _ in split if folder))
    here = [] if all(folder for folder, _, _ in split) else ["here"]
    where = f", {' or '.join([*here, 'in ' + ', '.join(folders)])}" if folders else ""
    return ", ".join(dict.fromkeys(base for _, _, base in split)) + where


@dataclass(frozen=True)
class Located:
    """A split on disk.

    Attributes:
        known: the data set.
        split: of it.
        root: the folder.
        captions: file of captions or questions; None if it is not there.
        media: folder or archive of the files; None likewise.
        rows: what the split is called in the captions file; None: all rows are of it.
        answers: file of answers, where they have one of their own.
        missing: what is not there.
    """

    known: PublishedSet
    split: Split
    root: Path
    captions: Path | None
    media: Path | None
    rows: str | None
    answers: Path | None
    missing: tuple[MissingPart, ...]

    def with_media(self, media: Path) -> Located:
        """The same with its pictures or videos elsewhere."""
        kept = tuple(one for one in self.missing if one.what not in ("videos", "pictures"))
        return replace(self, media=media, missing=kept)

    def source(self) -> DataSource:
        """The split as a source of captions.

        Raises:
            UsageError: a part of it is missing, or it has questions instead of captions.
        """
        if self.known.task != "captions":
            raise UsageError(f"{self.known.title} has questions and answers", "expected a data set of captions")
        self.check()
        return DataSource(captions=str(self.captions), media=str(self.media), split=self.rows)

    def check(self) -> None:
        """See that all of it is there.

        Raises:
            UsageError: a part of it is missing; names what was looked for.
        """
        if self.missing:
            what = f"{self.root}: {self.known.title} {self.split.name}: {self.missing[0]}"
            raise UsageError(what, f"evlgen data check {self.known.name} --root {self.root}")


def locate(known: PublishedSet, split: Split, root: Path) -> Located:
    """Find a split below a folder: the layout of which most is there, the first of those that are alike."""
    return min((_locate(known, split, layout, root) for layout in split.layouts), key=_lacks)


def _lacks(found: Located) -> tuple[bool, int]:
    return found.captions is None, len(found.missing)


def _locate(known: PublishedSet, split: Split, layout: Layout, root: Path) -> Located:
    missing: list[MissingPart] = []

    def first(what: Literal["captions", "questions", "answers", "splits"], names: tuple[str, ...]) -> Path | None:
        found = next((root / name for name in names if (root / name).is_file()), None)
        if found is None:
            missing.append(MissingPart(what, names, known.source_of(names[0])))
        return found

    captions = first(known.task, layout.captions)
    if captions is not None and layout.lists:
        beside = captions.parent.relative_to(root)
        first("splits", tuple((beside / name).as_posix() for name in layout.lists))
    answers = first("answers", layout.answers) if layout.answers else None
    media = next((found for place in layout.media if (found := _find_media(root, place)) is not None), None)
    if media is None:
        looked_for = tuple(str(place) for place in layout.media)
        missing.append(MissingPart(known.media, looked_for, known.source_of(looked_for[0])))
    if captions is None:  # of all layouts, not of one
        every = tuple(dict.fromkeys(name for one in split.layouts for name in one.captions))
        missing[0] = MissingPart(known.task, every, known.source_of(every[0]))
    return Located(known, split, root, captions, media, layout.rows, answers, tuple(missing))


def _find_media(root: Path, place: Media) -> Path | None:
    folder = root / place.path
    if folder.is_dir() and all((folder / one).is_dir() for one in place.holds):
        return folder
    packed = folder if not place.holds else folder / place.holds[0] if len(place.holds) == 1 else None
    if packed is None or packed.name in ("", ".", ".."):
        return None
    archives = (packed.with_name(packed.name + suffix) for suffix in _ARCHIVES)
    return next((archive for archive in archives if archive.is_file()), None)


def check_root(known: PublishedSet, root: Path) -> None:
    """See that a folder is one.

    Raises:
        UsageError: it is not.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder", f"expected the folder that holds the files of {known.title}")


def resolve_source(config: DataSource) -> DataSource:
    """A source of a recipe with captions and media named, where it names a data set and its root.

    Raises:
        UsageError: there is no such set, split or folder, a part of the split is missing, or the set has questions
            instead of captions.
    """
    if config.dataset is None or config.root is None or config.split is None:
        return config
    known = find_set(config.dataset)
    split, root = find_split(known, config.split), expand_path(config.root)
    check_root(known, root)
    found = locate(known, split, root)
    if config.media:  # given instead of the set's own
        found = found.with_media(expand_path(config.media))
    named = found.source()
    update = {"dataset": None, "root": None, "captions": named.captions, "media": named.media, "split": named.split}
    return config.model_copy(update=update)


def recognise(root: Path, split: str | None, task: Literal["captions", "questions"] = "captions") -> Located | None:
    """The set of captions or of questions whose files lie in a folder; None if there are none of any set.

    Args:
        root: the folder.
        split: which split; None if there is only one.
        task: of the set: a folder may hold COCO's captions and questions about its pictures.

    Raises:
        UsageError: files of several sets are there, or several splits and none is asked for, or the set has no such
            split.
    """
    found = [
        located
        for known in SETS.values()
        if known.task == task
        for one in known.splits
        if (located := locate(known, one, root)).captions is not None
    ]
    sets = {located.known.name: located.known for located in found}
    if not sets:
        return None
    if len(sets) > 1:
        titles = " and ".join(known.title for known in sets.values())
        raise UsageError(f"{root} holds files of {titles}", "name the captions file itself, and --media")
    known = next(iter(sets.values()))
    if split is not None:
        return locate(known, find_split(known, split), root)
    if len(found) > 1:
        names = " or ".join(located.split.name for located in found)
        raise UsageError(f"{root} is {known.title}, of which split?", f"--split {names}")
    return found[0]
