"""What a person has changed in an export: a table, a list, or .txt files, read back.

A text that some line about the video holds already is no edit: it was exported, or exported before captions changed.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.annotations.annotation_file import open_annotations
from evlgen.annotations.columns import find
from evlgen.errors import UsageError
from evlgen.exports.rows import SAME_SECONDS, CaptionFile, Clip, ExportRow, Span
from evlgen.exports.sidecars import clashing, sidecar_path
from evlgen.system.files import os_errors
from evlgen.system.jsons import parse_json
from evlgen.system.names import printable

_NAMES = ("video", "file_name", "video_path", "image_path", "file", "path", "image")
_TEXTS = ("caption", "text")
_MOST_BYTES = 1 << 20  # of a sidecar: more is no caption


@dataclass(frozen=True)
class Text:
    """What a person may have written about a video."""

    name: str
    text: str
    span: Span | None = None


def texts_of_folder(file: CaptionFile, folder: Path, ambiguous: list[str]) -> Iterator[Text]:
    """The .txt files of videos: as the folder of an export has them, or beside the videos in it.

    Args:
        file: the captions.
        folder: where the texts are.
        ambiguous: gets the names of videos that share a file.

    Raises:
        UsageError: a file is not text in UTF-8.
        EvlgenError: a file cannot be read.
    """
    inside = os.path.abspath(folder)  # noqa: PTH100
    places = {}
    for clip in file.clips:
        beside = sidecar_path(clip, "txt", None)
        collected = sidecar_path(clip, "txt", folder)
        if collected.is_file():
            places[clip.name] = collected
        elif beside.is_relative_to(inside) and beside.is_file():
            places[clip.name] = beside
    shared = clashing(places.values())
    for name, place in places.items():
        if place in shared:
            ambiguous.append(name)
            continue
        with os_errors(place, "cannot be read"):
            content = place.read_bytes()[:_MOST_BYTES]
        try:
            yield Text(name, content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise UsageError(f"{printable(place)} is not text in UTF-8", "save it as UTF-8 and try again") from None


def texts_of_table(file: CaptionFile, source: Path) -> Iterator[Text]:
    """The rows of a CSV or of JSON lines; names that are paths are looked up as such.

    Raises:
        UsageError: it is no table of names and captions.
    """
    read = open_annotations(source)
    rows: list[Any]
    if read.form == "table":
        try:
            rows = list(csv.DictReader(io.StringIO(read.text, newline=""), delimiter=read.delimiter))
        except csv.Error as error:
            raise UsageError(f"{printable(source)} is no sound table: {error}", "save it as CSV again") from None
    elif read.form in ("lines", "json"):
        lines = read.text.splitlines() if read.form == "lines" else [read.text]
        rows = [parse_json(text, f"{source}, line {n}") for n, text in enumerate(lines, 1) if text.strip()]
    else:
        rows = []
    names = {clip.name for clip in file.clips}
    paths = {clip.path: clip.name for clip in file.clips}
    folder = source.absolute().parent
    known = False
    for row in rows:
        if not isinstance(row, Mapping):
            break
        keys = tuple(key for key in row if isinstance(key, str))
        name_key, text_key = find(keys, _NAMES), find(keys, _TEXTS)
        if name_key is None or text_key is None:
            break
        name, text = row[name_key], row[text_key]
        if not isinstance(name, str) or not isinstance(text, str | None):
            break
        known = True
        if text is None:
            continue
        if name not in names:
            name = paths.get(Path(os.path.normpath(folder / name)), name)
        yield Text(name, text, (_seconds(row.get("start_seconds")), None))
    else:
        if known:
            return
    raise UsageError(
        f"{printable(source)} has no rows of names and captions",
        f"expected CSV or JSON lines with a column {', '.join(_NAMES[:3])} and one {' or '.join(_TEXTS)}, or a folder",
    )


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def row_of(clip: Clip, span: Span | None) -> ExportRow | None:
    """The line about a part of a video; without times the only line, None if there are several."""
    if span is None or span[0] is None:
        return clip.rows[0] if len(clip.rows) == 1 else None
    return next((row for row in clip.rows if abs((row.start_seconds or 0.0) - span[0]) < SAME_SECONDS), None)


def known_texts(clip: Clip) -> frozenset[str]:
    """Every caption that a line about a video holds or held, as `clean` has it."""
    return frozenset(clean(line.caption) for line in clip.lines if line.caption)


def changed_by_hand(file: CaptionFile, table: Path) -> list[str]:
    """Names of videos about which a table says what no line does; none if it is no such table."""
    clips = {clip.name: clip for clip in file.clips}
    try:
        texts = [one for one in texts_of_table(file, table) if one.name in clips]
        return [one.name for one in texts if (text := clean(one.text)) and text not in known_texts(clips[one.name])]
    except UsageError:
        return []


def clean(text: str) -> str:
    """One line of text.

    Raises:
        UsageError: it is none.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{printable(text)!r} is no text", "it holds bytes that are not UTF-8") from None
    return " ".join(text.split())
