"""Captions files of single data sets that are neither plain rows nor JSON with ids: as they are published.

MSVD (Chen and Dolan, ACL 2011): AllVideoDescriptions.txt, "clip caption" lines, and video_corpus.csv, of which English
is taken. Flickr30k (Young et al., TACL 2014): results_20130124.token, and results.csv of its copy on Kaggle. VATEX
(arXiv 1904.03493): English captions. Splits come from the lists beside them, see `evlgen.splits`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from evlgen.data.rows import Row, some, table_rows
from evlgen.errors import UsageError
from evlgen.splits import MSVD_CLIP, listed_splits

_CLIP_LINE = re.compile(rf"({MSVD_CLIP.pattern})\s+(\S.*)")
_TOKEN_LINE = re.compile(r"(\S+\.\w+)#\d+\t(.*)")
# one row of Kaggle's file, 2199200615.jpg| 4   A dog …, has lost its second bar
_NUMBERED_LINE = re.compile(r"([^|\s]+)\|\s*\d+\s*(?:\||\s)\s*(.*)")
_NUMBERED_HEADER = re.compile(r"image_name\s*\|\s*comment_number\s*\|\s*comment")
_HEAD_CHARACTERS = 1 << 16
_CORPUS_COLUMNS = ("VideoID", "Start", "End", "Language", "Description")


def published_rows(path: Path, text: str) -> Iterator[Row] | None:
    """Rows of a text or table of one of these sets; None if it is of none of them.

    Raises:
        UsageError: a row is not what it must be, the line is named; or the lists beside the file are not.
    """
    first = next(
        (line for line in text[:_HEAD_CHARACTERS].splitlines() if line.strip() and not line.startswith("#")), ""
    ).strip()
    if _CLIP_LINE.fullmatch(first):
        return _text_rows(path, text, _CLIP_LINE, "a clip and its caption, such as mv89psg6zh4_33_46 A bird sings.")
    if _TOKEN_LINE.fullmatch(first):
        return _text_rows(path, text, _TOKEN_LINE, "a picture, #, a number, a tab and a caption")
    if _NUMBERED_HEADER.fullmatch(first):
        return _text_rows(path, text, _NUMBERED_LINE, "a picture| a number| a caption", header=True)
    header = [cell.strip().strip('"') for cell in first.split(",")]
    if all(column in header for column in _CORPUS_COLUMNS):
        return _corpus_rows(path, text, header)
    return None


def vatex_row(where: str, value: Mapping[str, Any], path: Path) -> Row:
    """A row of VATEX's JSON list.

    Raises:
        UsageError: it names no video, or its English captions are not a list of texts.
    """
    name, captions = value.get("videoID"), value.get("enCap")
    if not isinstance(name, str) or not isinstance(captions, list) or not all(isinstance(c, str) for c in captions):
        raise UsageError(f"{path} {where}: expected videoID (a name) and enCap (texts), as VATEX has them")
    return Row(where, name, some(captions), None, True)


def _text_rows(path: Path, text: str, form: re.Pattern[str], said: str, *, header: bool = False) -> Iterator[Row]:
    splits: dict[str, str] | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if header:
            header = False
            continue
        match = form.fullmatch(line)
        if match is None:
            raise UsageError(f"{path} line {number}: expected {said}, found {line[:40]!r}")
        name = match[1]
        splits = listed_splits(path, name) if splits is None else splits
        yield Row(f"line {number}", name, some([match[2]]), splits.get(name), False)


def _corpus_rows(path: Path, text: str, header: list[str]) -> Iterator[Row]:
    splits: dict[str, str] | None = None
    for where, row in table_rows(path, text, header, ","):
        if row["Language"].strip() != "English":
            continue
        name = "_".join(row[column].strip() for column in _CORPUS_COLUMNS[:3])
        splits = listed_splits(path, name) if splits is None else splits
        yield Row(where, name, some([row["Description"]]), splits.get(name), False)
