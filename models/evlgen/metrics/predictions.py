"""Captions, or answers, that a model gave: what `evlgen caption` writes, results of COCO and VQA, and plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from evlgen.annotations.annotation_file import AnnotationFile, open_annotations
from evlgen.annotations.caption_layouts import OWN_CAPTIONS, is_own
from evlgen.annotations.columns import (
    PREDICTION_COLUMNS,
    counted,
    find,
    id_note,
    is_mapping,
    is_row,
    no_captions,
    row_id,
    shown,
    shown_keys,
    texts,
    wrapped_rows,
)
from evlgen.annotations.records import Record, json_value, list_records, records
from evlgen.errors import UsageError

_LAYOUTS = "known are captions.jsonl of evlgen, COCO or VQA results, {id: caption}, and rows with an id and a caption"


@dataclass(frozen=True)
class Predictions:
    """Captions, or answers to questions, that a model gave.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        captions: by id, in file order.
        failed: ids whose row says that there is no caption, and why.
        notes: one line for each thing that a user should know.
    """

    path: Path
    layout: str
    captions: dict[str, str]
    failed: dict[str, str]
    notes: tuple[str, ...]


def read_predictions(path: Path) -> Predictions:
    """Read the captions that a model gave, in any known layout; it is found from the content.

    A row without a caption (null, or status "error" in a file of `evlgen caption`) is a failed one; an empty caption is
    a caption. In a file of `evlgen caption` the last line of a video counts, as it does when captioning is resumed.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has two captions for one id; file and line are named.
    """
    file = open_annotations(path)
    if file.form != "json":
        return _from_rows(file, None)
    value = json_value(file)
    if isinstance(value, dict):
        value = wrapped_rows(value, PREDICTION_COLUMNS) or value
    if isinstance(value, list):
        return _from_rows(file, list_records(path, value))
    if isinstance(value, dict) and is_row(value, PREDICTION_COLUMNS):
        return _from_rows(replace(file, form="lines"), [("line 1", value)])
    if isinstance(value, dict) and is_mapping(value):
        collected = _Collected(path, last_counts=False)
        for key, caption in value.items():
            collected.add(f"id {shown(key)}", key, caption, "its caption")
        return collected.result("JSON object {id: caption}")
    if isinstance(value, dict) and ("annotations" in value or "sentences" in value or "images" in value):
        raise UsageError(f"{path} holds references, expected predictions", "are the two files swapped?")
    keys = shown_keys(value) if isinstance(value, dict) else shown(value)
    raise UsageError(f"{path} is JSON of no known layout: it has {keys}", _LAYOUTS)


def _from_rows(file: AnnotationFile, read: Iterable[Record] | None) -> Predictions:
    bad = _BadLines()
    stream = iter(records(file, bad.add) if read is None else read)
    first = next(stream, None)
    bad.forbid()  # a caption file of ours never starts with one
    if first is None:
        raise UsageError(f"{file.path} has no rows", _LAYOUTS)
    own = is_own(first[1])
    collected = _Collected(file.path, last_counts=own)
    collected.notes.extend([] if own else id_note(first[1]))
    for where, row in chain([first], stream):
        if not own:
            bad.forbid()
        if own and row.get("status") == "error":
            collected.fail(where, row_id(file.path, where, row), _failure(row), row)
            continue
        column = find(tuple(row), PREDICTION_COLUMNS)
        if column is None:
            raise no_captions(file.path, where, row, PREDICTION_COLUMNS)
        collected.add(where, row_id(file.path, where, row), row[column], column, row)
    if not own:
        bad.forbid()
    collected.notes.extend(bad.notes())
    return collected.result(_layout(file, first[1], own))


class _BadLines:
    """Lines that are not JSON. Captioning that was cut off leaves some, and nothing else may have them."""

    def __init__(self) -> None:
        self.count = 0
        self.first: tuple[int, UsageError] | None = None
        self.torn: int | None = None

    def add(self, number: int, error: UsageError, torn: bool) -> None:
        if torn:
            self.torn = number
        else:
            self.count += 1
        self.first = self.first or (number, error)

    def forbid(self) -> None:
        if self.first is not None:
            raise self.first[1]

    def notes(self) -> list[str]:
        out = []
        if self.count and self.first is not None:
            count = counted(self.count, "line is not JSON and was", "lines are not JSON and were")
            out.append(f"{count} left out, the first is line {self.first[0]}")
        if self.torn is not None:
            out.append(f"the last line ({self.torn}) breaks off in the middle and was left out")
        return out


def _layout(file: AnnotationFile, row: Mapping[str, Any], own: bool) -> str:
    if own:
        return OWN_CAPTIONS
    if file.form == "json":
        if "image_id" in row and "caption" in row:
            return "COCO results"
        if "question_id" in row and "answer" in row:
            return "VQA results"
    return file.rows_layout


def _failure(row: Mapping[str, Any]) -> str:
    error = row.get("error")
    if not isinstance(error, dict):
        return "error"
    return ": ".join(str(error[key]) for key in ("kind", "message") if error.get(key)) or "error"


class _Collected:
    """Captions as they come in, and what is odd about them."""

    def __init__(self, path: Path, *, last_counts: bool) -> None:
        self.path = path
        self.last_counts = last_counts
        self.captions: dict[str, str | None] = {}
        self.failed: dict[str, str] = {}
        self.notes: list[str] = []
        self._lines: dict[str, str] = {}
        self._repeated: set[str] = set()
        self._differing: dict[str, str] = {}
        self._settings: dict[str, str] = {}
        self._partial: set[str] = set()

    def add(self, where: str, key: str, value: object, column: str, row: Mapping[str, Any] | None = None) -> None:
        """Take a row with a caption, or with null instead of one.

        Args:
            where: the place in the file, for errors.
            key: the id.
            value: the caption: text, or a list of one.
            column: that holds it.
            row: the whole row, of which settings and status are noted; None where there is none.

        Raises:
            UsageError: the value is no text, or several.
        """
        if value is None:
            self.fail(where, key, f"{column} is null", row)
            return
        found = texts(self.path, where, value, column)
        if len(found) != 1:
            raise UsageError(
                f"{self.path} {where}: {column} has {len(found)} captions, expected one",
                "several captions make a reference file: are the two files swapped?",
            )
        self._take(where, key, found[0], row)
        self.failed.pop(key, None)

    def fail(self, where: str, key: str, reason: str, row: Mapping[str, Any] | None = None) -> None:
        """Take a row that says that there is no caption.

        Args:
            where: the place in the file, for errors.
            key: the id.
            reason: why there is none.
            row: the whole row, of which settings and status are noted; None where there is none.
        """
        self._take(where, key, None, row)
        self.failed[key] = reason

    def _take(self, where: str, key: str, caption: str | None, row: Mapping[str, Any] | None) -> None:
        if key in self.captions:
            self._repeated.add(key)
            if self.captions[key] != caption and not self.last_counts:
                self._differing.setdefault(
                    key,
                    f"{shown(key)} has {shown(self.captions[key])} ({self._lines[key]}) and {shown(caption)} ({where})",
                )
        self.captions[key] = caption
        self._lines[key] = where
        if row is not None and self.last_counts:
            self._settings[key] = str(row.get("settings_hash"))
            (self._partial.add if row.get("status") == "partial" else self._partial.discard)(key)

    def result(self, layout: str) -> Predictions:
        """What was collected.

        Raises:
            UsageError: an id has several captions.
        """
        if self._differing:
            count = counted(len(self._differing), "id has", "ids have")
            raise UsageError(
                f"{self.path}: {count} more than one caption; {next(iter(self._differing.values()))}",
                "predictions have one caption for each id; several make a reference file",
            )
        captions = {key: caption for key, caption in self.captions.items() if caption is not None}
        notes = [*self.notes]
        if self._repeated:
            rule = "the last line counts" if self.last_counts else "always with the same caption"
            notes.append(f"{counted(len(self._repeated), 'id appears', 'ids appear')} more than once, {rule}")
        empty = sum(not caption.strip() for caption in captions.values())
        if empty:
            notes.append(f"{counted(empty, 'caption is', 'captions are')} empty; an empty caption is scored as it is")
        if self._partial:
            count = counted(len(self._partial), "caption comes from a video", "captions come from videos")
            notes.append(f"{count} of which only a part could be decoded")
        used = {self._settings[key] for key in captions if key in self._settings}
        if len(used) > 1:
            notes.append(f"captions made with {len(used)} different models or settings are mixed in this file")
        unreadable = sum("\ufffd" in caption for caption in captions.values())
        if unreadable:
            count = counted(unreadable, "caption holds", "captions hold")
            notes.append(f"{count} what is no character (half a surrogate pair, or \ufffd itself)")
        return Predictions(self.path, layout, captions, self.failed, tuple(notes))
