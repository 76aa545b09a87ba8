"""What is known of a published data set: its splits, their sizes, and the layouts in which people have it on disk.

Everything is relative to one folder, the root. A split may lie there in several layouts. Nothing here touches a disk:
`locating` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Media:
    """A place of pictures or videos.

    Attributes:
        path: a folder; a tar or zip of the same name counts as well.
        holds: folders that must lie in it, where names in the captions file begin with them.
    """

    path: str
    holds: tuple[str, ...] = ()

    def __str__(self) -> str:
        if not self.holds:
            return f"{self.path}/"
        return ", ".join(f"{one}/" if self.path == "." else f"{self.path}/{one}/" for one in self.holds)


@dataclass(frozen=True)
class Layout:
    """One way in which people have a split.

    Attributes:
        captions: places of the captions file, or of the questions; the first that is there counts.
        media: places of the pictures or videos; likewise.
        rows: what the split is called in the captions file, several with + between; None: all rows are of it.
        lists: one of these files beside the captions says which row is of which split; empty: none is needed.
        answers: places of the file of answers; empty: the questions hold them, or nobody has any.
    """

    captions: tuple[str, ...]
    media: tuple[Media, ...]
    rows: str | None = None
    lists: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """One split.

    Attributes:
        name: as `--split` and recipes say it.
        items: pictures or videos with captions, or questions, that it officially has.
        captions: captions that it officially has; None where sources differ or there are none.
        layouts: the one of which most is there counts, the first of those that are alike.
        optional: people often do without it: not having it is no fault.
        note: a few words on what it is, where the name does not say.
    """

    name: str
    items: int
    captions: int | None
    layouts: tuple[Layout, ...]
    optional: bool = False
    note: str = ""


@dataclass(frozen=True)
class PublishedSet:
    """One data set.

    Attributes:
        name: as `evlgen data check NAME` and recipes say it.
        title: as papers say it.
        paper: where it was published.
        task: captions, or questions with answers.
        media: videos or pictures.
        terms: on what conditions it may be used, in a few words.
        splits: all of them.
        sources: where a file or folder normally comes from; the first that a name contains counts, "" is any other.
    """

    name: str
    title: str
    paper: str
    task: Literal["captions", "questions"]
    media: Literal["videos", "pictures"]
    terms: str
    splits: tuple[Split, ...]
    sources: tuple[tuple[str, str], ...]

    def source_of(self, name: str) -> str:
        """Where a file or folder normally comes from."""
        return next(source for part, source in self.sources if part in name)


def places(*names: str, folders: Sequence[str] = ("", "annotations")) -> tuple[str, ...]:
    """Each name in each folder: all folders of the first name come first."""
    return tuple(f"{folder}/{name}" if folder else name for name in names for folder in folders)


def media(*paths: str) -> tuple[Media, ...]:
    """Places that need hold nothing in particular."""
    return tuple(Media(path) for path in paths)
