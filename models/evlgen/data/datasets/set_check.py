"""What of a published data set is below a folder: files found, items, captions, and what is missing, cut or broken.

Counts that differ from the official ones, and files that no caption names, are notes: people have older versions, parts
and copies, and they can be worked with. What is missing, empty or cut is a fault.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.annotations.questions import read_questions
from evlgen.data.caption_sources import read_captions
from evlgen.data.datasets.description import PublishedSet
from evlgen.data.datasets.locating import Located, check_root, locate, shortened
from evlgen.data.datasets.registry import find_set, find_split
from evlgen.data.file_checks import decode_files, look_at_files
from evlgen.data.findings import Findings
from evlgen.data.media import MediaStore, file_path
from evlgen.errors import Failure, UsageError
from evlgen.recipes import DataSource
from evlgen.system.progress import ProgressCallback
from evlgen.system.suffixes import MEDIA_SUFFIXES

DECODED_FRAMES = 4
_SHOWN = 3


@dataclass
class SplitCheck(Findings):
    """Findings about one split.

    Attributes:
        split: its name.
        file: of captions or questions, relative to the root; empty if there is none.
        answers_file: of answers, where they have one of their own; likewise.
        media: folder or archive of the pictures or videos; likewise.
        texts: captions, or answers.
        official_items: as published.
        official_texts: likewise; None where it is not known.
        files: pictures or videos that the captions or questions name.
        found: of these, those that are there.
        missing: what the split needs and is not there, with where it comes from, a line each.
        notes: what differs from the official counts.
    """

    split: str = ""
    file: str = ""
    answers_file: str = ""
    media: str = ""
    texts: int = 0
    official_items: int = 0
    official_texts: int | None = None
    files: int = 0
    found: int = 0
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """What is missing."""
        return self.missing


@dataclass
class SetCheck:
    """Findings about a data set.

    Attributes:
        known: what it should be.
        root: the folder that was looked at.
        splits: those that were looked at.
        notes: on the set as a whole: files that no caption names.
    """

    known: PublishedSet
    root: Path
    splits: list[SplitCheck]
    notes: list[str] = field(default_factory=list)

    @property
    def is_fine(self) -> bool:
        """Nothing is wrong with any split."""
        return all(one.is_fine for one in self.splits)

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        head = {"name": self.known.name, "title": self.known.title, "root": str(self.root), "is_fine": self.is_fine}
        return {**head, "splits": [one.row() for one in self.splits], "notes": self.notes}


def check_set(
    name: str,
    root: Path,
    *,
    split: str | None = None,
    decode: bool = False,
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> SetCheck:
    """Look at the files of a published data set.

    Args:
        name: of the set, e.g. "msvd".
        root: the folder that holds its files.
        split: only this one; None: all, those that people often do without only where they are.
        decode: decode every picture and video; otherwise they must be there, whole by their own account, and not empty.
        report: told of progress while decoding.
        stop: asked after every item; True ends the check early.

    Raises:
        UsageError: there is no such set, split or folder, or the folder holds nothing of the set.
    """
    known = find_set(name)
    wanted = known.splits if split is None else (find_split(known, split),)
    check_root(known, root)
    located = [locate(known, one, root) for one in known.splits]
    if not any(one.captions or one.media for one in located):
        raise UsageError(*_nothing(known, root))
    chosen = [one for one in located if one.split in wanted and (one.captions or split or not one.split.optional)]
    done = SetCheck(known, root, [])
    named: set[Path] = set()
    for one in chosen:
        if stop():
            break
        done.splits.append(_check(one, decode, report, stop, named))
    if split is None and known.task == "captions":
        done.notes += _unnamed(named, root)
    return done


def _nothing(known: PublishedSet, root: Path) -> tuple[str, str]:
    needed = [one for one in known.splits if not one.optional]
    files = list(dict.fromkeys(n for one in needed for layout in one.layouts for n in layout.captions))
    below = next((one for one in sorted(root.iterdir()) if one.is_dir() and _holds(known, one)), None)
    hint = f"did you mean --root {below}?" if below else f"normally from {known.source_of(files[0])}"
    return f"{root} holds no files of {known.title}: looked for {shortened(files)}", hint


def _holds(known: PublishedSet, root: Path) -> bool:
    return any(locate(known, one, root).captions for one in known.splits)


def _check(
    found: Located, decode: bool, report: ProgressCallback | None, stop: Callable[[], bool], named: set[Path]
) -> SplitCheck:
    def relative(path: Path | None) -> str:
        return "" if path is None else (path.relative_to(found.root).as_posix())

    check = SplitCheck(
        split=found.split.name,
        file=relative(found.captions),
        answers_file=relative(found.answers),
        media=relative(found.media),
        official_items=found.split.items,
        official_texts=found.split.captions,
        missing=[str(one) for one in found.missing],
    )
    unusable = {"captions", "questions", "splits"}
    if any(one.what in unusable for one in found.missing):
        return check
    try:
        names = _read(found, check)
        if found.media is None:
            return check
        media = MediaStore(str(found.media))
    except UsageError as error:
        check.error = str(error)
        return check
    with media:
        _look(check, names, media, f"{found.known.name} {found.split.name}", decode, report, stop)
        if media.is_folder:
            named.update(file_path(media, name) for name in names)
    return check


def _read(found: Located, check: SplitCheck) -> list[str]:
    """Read captions or questions; gives the names of the files that they are about, each once."""
    assert found.captions is not None
    if found.known.task == "questions":
        questions = read_questions(found.captions, found.answers)
        names = list(dict.fromkeys(one.image for one in questions))
        check.items, check.texts = len(questions), sum(len(one.answers) for one in questions)
    else:
        source = DataSource(captions=str(found.captions), split=found.rows)
        read = read_captions(source, lower_case=False)
        check.items, check.texts = len(read.items), sum(len(item.captions) for item in read.items)
        bare = read.uncaptioned.items()
        check.broken = [Failure("no-captions", f"{where} has no captions", name) for name, where in bare]
        check.repeated = read.repeated
        names = [item.name for item in read.items]
    for have, official, what in (
        (check.items, check.official_items, "items" if found.known.task == "captions" else "questions"),
        (check.texts, check.official_texts, "captions"),
    ):
        if official is not None and have != official:
            check.notes.append(f"{have} {what}, officially {official}")
    return names


def _look(
    check: SplitCheck,
    names: list[str],
    media: MediaStore,
    what: str,
    decode: bool,
    report: ProgressCallback | None,
    stop: Callable[[], bool],
) -> None:
    look_at_files(check, what, names, media, report, stop, ends=True)
    bad = {b.name for b in check.broken if b.kind != "no-captions"}
    check.files, check.found = len(names), len(names) - sum(b.kind == "missing" for b in check.broken)
    if decode and check.checked:
        left = [name for name in names if name not in bad]
        decode_files(check, what, left, media, DECODED_FRAMES, report, stop)


def _unnamed(named: set[Path], root: Path) -> list[str]:
    """Pictures and videos that lie beside those that are named, and are not; a note for each folder."""
    notes = []
    for folder in sorted({path.parent for path in named}):
        if not folder.is_dir():
            continue
        left = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES and p not in named)
        if left:
            more = ", ..." if len(left) > _SHOWN else ""
            counted = "1 file has" if len(left) == 1 else f"{len(left)} files have"
            place = folder.relative_to(root.absolute()) if folder.is_relative_to(root.absolute()) else folder
            notes.append(f"{place}: {counted} no captions: {', '.join(left[:_SHOWN])}{more}")
    return notes
