"""A person's own captions: one by one, or read back from a table, a list or sidecars that were changed.

They are lines of the journal like others, marked `"edited": true`; captioning leaves their videos alone from then on.
"""

from __future__ import annotations

import difflib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.captioning.caption_rows import EditedRow
from evlgen.captioning.journal import Journal
from evlgen.errors import UsageError
from evlgen.exports.caption_template import CaptionTemplate
from evlgen.exports.edited_exports import clean, known_texts, row_of, texts_of_folder, texts_of_table
from evlgen.exports.rows import CaptionFile, Clip, ExportRow, read_caption_file
from evlgen.system.names import printable


@dataclass
class EditReport:
    """What came of it.

    Attributes:
        edited: names of the videos whose captions are now a person's.
        unchanged: texts that the caption file holds already.
        empty: texts that are empty; they change nothing.
        unknown: names that the caption file has no line about.
    """

    edited: list[str] = field(default_factory=list)
    unchanged: int = 0
    empty: int = 0
    unknown: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dict(vars(self))


def edit_caption(captions: Path, video: str, text: str | None, start_seconds: float | None = None) -> EditReport:
    """Give a video a caption by hand, or take that back.

    Args:
        captions: what `evlgen caption` has written; a line is added.
        video: its name in the file, or its path.
        text: the caption; None puts the model's own caption back, and leaves the video to captioning again.
        start_seconds: which part, by its start, of a video that has captions of several.

    Raises:
        UsageError: no such video or part, no text, or no caption of the model's to put back.
        EvlgenError: the file is being written by another run, or cannot be written.
    """
    if text is not None and not text.strip():
        raise UsageError("a caption by hand cannot be empty", 'evlgen edit CAPTIONS VIDEO "text"')
    with _opened(captions) as (file, journal):
        clip = _named(file, video)
        row = _part(clip, start_seconds)
        if text is None:
            before = next((one for one in reversed(clip.lines) if one.span == row.span and not one.edited), None)
            if before is None:
                raise UsageError(f"the model has made no caption of {printable(clip.name)} that could be put back")
            journal.append(EditedRow(before.values))
        else:
            journal.append(EditedRow.by_hand(row.values, clean(text)))
    return EditReport(edited=[clip.name])


def edit_from(captions: Path, source: Path, template: CaptionTemplate | None = None) -> EditReport:
    """Take in what a person has changed in an export.

    Args:
        captions: what `evlgen caption` has written; a line is added for each caption that is new.
        source: CSV or JSON lines with a column of names and one of captions, or a folder of .txt files.
        template: what was put around captions when they were exported, which is taken away again.

    Raises:
        UsageError: nothing in the source is about these videos, or its captions have words around them that were not
            given.
        EvlgenError: the file is being written by another run, or cannot be written; or the source cannot be read.
    """
    report = EditReport()
    template = template or CaptionTemplate()
    with _opened(captions) as (file, journal):
        clips = {clip.name: clip for clip in file.clips}
        if source.is_dir():
            texts = list(texts_of_folder(file, source, report.unknown))
        else:
            if source.exists() and source.samefile(captions):
                raise UsageError(f"--from {source} is the caption file itself", "name a CSV or a folder of .txt files")
            texts = list(texts_of_table(file, source))
        new: list[tuple[Clip, ExportRow, str]] = []
        for one in texts:
            clip = clips.get(one.name)
            row = None if clip is None else row_of(clip, one.span)
            if clip is None or row is None:
                report.unknown.append(one.name)
                continue
            text = clean(template.caption_in(one.text, clip))
            if not text:
                report.empty += 1
            elif text in known_texts(clip):
                report.unchanged += 1
            else:
                new.append((clip, row, text))
        if not (new or report.unchanged or report.empty):
            raise UsageError(f"{printable(source)} names none of the videos of {captions}", "are these the same?")
        _refuse_wrapped(new, source)
        for clip, row, text in new:
            journal.append(EditedRow.by_hand(row.values, text))
            report.edited.append(clip.name)
    return report


@contextmanager
def _opened(captions: Path) -> Iterator[tuple[CaptionFile, Journal]]:
    """The caption file, read while nobody else writes to it."""
    read_caption_file(captions)  # a journal that is opened is made
    with Journal(captions) as journal:
        yield read_caption_file(captions), journal


def _named(file: CaptionFile, video: str) -> Clip:
    path = Path(os.path.abspath(video))  # noqa: PTH100 - links stay, as in names
    for clip in file.clips:
        if clip.name == video:
            return clip
    for clip in file.clips:
        if clip.path == path:
            return clip
    names = [clip.name for clip in file.clips]
    near = [name for name in names if name.endswith(f"/{video}")] or difflib.get_close_matches(video, names, n=1)
    hint = f"did you mean {printable(near[0])}?" if near else "names are those of the lines' field video, or paths"
    raise UsageError(f"{file.path} has no line about {printable(video)}", hint)


def _part(clip: Clip, start_seconds: float | None) -> ExportRow:
    if start_seconds is None and len(clip.rows) == 1:
        return clip.rows[0]
    row = None if start_seconds is None else row_of(clip, (start_seconds, None))
    if row is None:
        starts = ", ".join(f"{row.start_seconds or 0:g}" for row in clip.rows)
        raise UsageError(f"{printable(clip.name)} has parts that start at {starts} s", "name one with --start")
    return row


def _refuse_wrapped(new: list[tuple[Clip, ExportRow, str]], source: Path) -> None:
    """Raise a UsageError if most texts are captions with the same words around them: nobody wrote these one by one."""
    around: Counter[tuple[str, str]] = Counter()
    for _, row, text in new:
        caption = clean(row.caption or "")
        if caption and caption in text:
            front, _, behind = text.partition(caption)
            around[front, behind] += 1
    (front, behind), count = next(iter(around.most_common(1)), (("", ""), 0))
    if count >= 2 and count > len(new) / 2:
        raise UsageError(
            f"{count} texts of {printable(source)} are captions with {front!r} in front and {behind!r} behind",
            "give the --prefix, --suffix or --template of the export; nothing was changed",
        )
