"""Captions in the layouts that people have, one row for each: for training (names, prompts) and for scoring (ids).

Rows of JSON lines, of a JSON list, of tables and of text; {id: [captions]}; COCO and NoCaps annotations (arXiv
1504.00325, 1812.08658), Karpathy's splits (arXiv 1412.2306), MSR-VTT's videodatainfo (Xu et al., CVPR 2016), VATEX
(arXiv 1904.03493), MSVD's text and table (Chen and Dolan, ACL 2011), Flickr30k's text and table (Young et al., TACL
2014). The layout is found from the content; nothing but what is named here is read of a file. In rows there may be a
prompt, which captions go on from, or a question with its answers in the place of captions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from evlgen.annotations.annotation_file import AnnotationFile, open_annotations
from evlgen.annotations.columns import (
    ANSWER_COLUMNS,
    CAPTION_COLUMNS,
    GROUP_COLUMNS,
    NAME_COLUMNS,
    counted,
    find,
    id_note,
    id_text,
    is_mapping,
    no_captions,
    row_id,
    second_id,
    shown,
    shown_keys,
    texts,
    wrapped_rows,
)
from evlgen.annotations.records import Record, json_value, list_records, records
from evlgen.annotations.splits import listed_splits
from evlgen.errors import UsageError

OWN_CAPTIONS = "captions.jsonl of evlgen"
"""The layout of what `evlgen caption` writes."""
QUESTION_PROMPT = "Question: {} Short answer:"
"""The prompt of a question (arXiv 2301.12597, section 4.2); rows that want another one have a prompt themselves."""

_MOST_COLUMNS = 64  # of one row; a longer object maps ids to captions
_LAYOUTS = (
    "known are COCO and NoCaps annotations, Karpathy's splits, MSR-VTT's videodatainfo, VATEX, {id: [captions]}, "
    "and rows with an id and captions"
)


@dataclass(frozen=True, slots=True)
class AnnotationRow:
    """Some captions of one picture or video.

    Attributes:
        where: its place in the file, e.g. "line 3".
        name: of the picture's or video's file, perhaps without its suffix.
        id: what predictions call it: a number in COCO, the name elsewhere.
        captions: as they stand there, blank ones too; none where the file has none for it.
        split: as it stands there, or in a list beside the file; None if neither says anything.
        group: the domain or else the category; None if there is none.
        alias: another id under which predictions may know it; None if there is none.
        whole: the row should hold all captions of its file.
        prompt: that its captions go on from; empty for none.
    """

    where: str
    name: str
    id: str
    captions: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    alias: str | None = None
    whole: bool = False
    prompt: str = ""


@dataclass
class AnnotationRows:
    """The rows of a file.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        rows: in file order; read once.
        notes: one line for each thing that a user should know; complete when all rows have been read.
    """

    path: Path
    layout: str
    rows: Iterator[AnnotationRow]
    notes: list[str] = field(default_factory=list)


def read_caption_rows(path: Path, *, answers: bool = False) -> AnnotationRows:
    """Read the captions of a file in any known layout.

    Args:
        path: the file.
        answers: take the answers of rows that have a question for their captions; otherwise such rows have none.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has no rows; while rows are read, one of them is not
            what it must be. File and line are named.
    """
    file = open_annotations(path)
    if file.form != "json":
        return _plain_rows(file, records(file), answers)
    value = json_value(file)
    if isinstance(value, dict):
        value = wrapped_rows(value, CAPTION_COLUMNS) or value
    if isinstance(value, list):
        return _plain_rows(file, list_records(path, value), answers)
    if not isinstance(value, dict):
        raise UsageError(f"{path} is JSON of no known layout: it is {shown(value)}", _LAYOUTS)
    return _published_rows(file, value, answers)


def is_own(row: Mapping[str, Any]) -> bool:
    """Whether a row was written by `evlgen caption`."""
    return row.get("status") in ("ok", "partial", "empty", "error") and "video" in row and "caption" in row


def _published_rows(file: AnnotationFile, value: dict[str, Any], answers: bool) -> AnnotationRows:
    """The rows of a JSON object: of a data set as it is published, one row, or captions by id."""
    path = file.path
    images, annotations = _objects(path, value, "images"), _objects(path, value, "annotations")
    videos, sentences = _objects(path, value, "videos"), _objects(path, value, "sentences")
    if images and "sentences" in images[0]:
        return AnnotationRows(path, "Karpathy's splits", _karpathy_rows(path, images))
    if annotations and ("question_id" in annotations[0] or "answers" in annotations[0]):
        raise UsageError(f"{path} holds answers to questions, expected captions")
    if annotations and "image_id" in annotations[0]:
        layout = "NoCaps annotations" if any("domain" in image for image in images) else "COCO annotations"
        listed = (("images", images, "id"), ("annotations", annotations, "image_id"))
        return AnnotationRows(path, layout, iter(_joined(path, *listed)))
    if sentences and "video_id" in sentences[0]:
        listed = (("videos", videos, "video_id"), ("sentences", sentences, "video_id"))
        return AnnotationRows(path, "MSR-VTT videodatainfo", iter(_joined(path, *listed)))
    if len(value) <= _MOST_COLUMNS and find(tuple(value), NAME_COLUMNS):
        return _plain_rows(replace(file, form="lines"), [("line 1", value)], answers)
    if is_mapping(value):
        rows = (
            AnnotationRow(f"id {shown(key)}", key, key, _captions(path, f"id {shown(key)}", found, "the caption"),
                       whole=isinstance(found, list))
            for key, found in value.items()
        )  # fmt: skip
        return AnnotationRows(path, "JSON object {id: captions}", rows)
    raise UsageError(f"{path} is JSON of no known layout: it has {shown_keys(value)}", _LAYOUTS)


_Listed = tuple[str, list[dict[str, Any]], str]
"""A list of a JSON object: its name, its entries, and the column of the id by which entries of two lists meet."""


def _joined(path: Path, media: _Listed, captions: _Listed) -> list[AnnotationRow]:
    """Captions that point at their media by id (MSR-VTT, COCO); in the order of the media."""
    found: dict[str, list[str]] = {}
    known: dict[str, dict[str, Any]] = {}
    for number, entry in enumerate(media[1], start=1):
        key = _field_id(path, f"{media[0]} entry {number}", entry, media[2])
        found[key], known[key] = [], entry
    for number, entry in enumerate(captions[1], start=1):
        where = f"{captions[0]} entry {number}"
        key = _field_id(path, where, entry, captions[2])
        if "caption" not in entry:
            hint = "COCO's captions are in captions_*.json, not in instances_*.json"
            raise UsageError(f"{path} {where}: no caption, only {shown_keys(entry)}", hint if media[2] == "id" else "")
        found.setdefault(key, []).extend(_captions(path, where, entry["caption"], "caption"))
    rows = []
    for key, texts_of_key in found.items():
        entry = known.get(key, {})
        alias = _text_or_none(entry.get("file_name"))
        where = f"{captions[2]} {key}"
        rows.append(
            AnnotationRow(where, alias or key, key, tuple(texts_of_key), *_split_and_group(entry), alias, whole=True)
        )
    return rows


def _karpathy_rows(path: Path, images: list[dict[str, Any]]) -> Iterator[AnnotationRow]:
    for number, image in enumerate(images, start=1):
        where = f"images entry {number}"
        # people number COCO's images by COCO's own ids, and call Flickr's by file name
        names = [name for name in ("cocoid", "filename", "imgid") if name in image]
        key = _field_id(path, where, image, names[0] if names else "cocoid")
        alias = _text_or_none(image[names[1]]) if len(names) > 1 else None
        file = _text_or_none(image.get("filename")) or key
        name = f"{image['filepath']}/{file}" if image.get("filepath") else file
        captions = _captions(path, where, image.get("sentences"), "sentences")
        yield AnnotationRow(where, name, key, captions, *_split_and_group(image), alias, whole=True)


def _plain_rows(file: AnnotationFile, read: Iterable[Record], answers: bool) -> AnnotationRows:
    """Rows with their columns; MSVD's table, VATEX and Flickr30k's are read by theirs."""
    stream = iter(read)
    first = next(stream, None)
    if first is None:
        raise UsageError(f"{file.path} has no rows", _LAYOUTS)
    columns = tuple(first[1])
    # MSVD's table has one row a caption in many languages, and a clip is a video with a start and an end in seconds
    msvd = file.form == "table" and all(find(columns, (c,)) for c in ("videoid", "start", "end", "description"))
    if msvd:
        done = AnnotationRows(file.path, "MSVD table", iter(()))
        done.rows = _with_listed_splits(file.path, _msvd_rows(done, chain([first], stream)))
        return done
    layout = OWN_CAPTIONS if is_own(first[1]) else "VATEX" if find(columns, ("encap",)) else file.rows_layout
    rows: Iterator[AnnotationRow] = (_row(file.path, where, row, answers) for where, row in chain([first], stream))
    if file.form == "text" or file.delimiter == "|":
        rows = _with_listed_splits(file.path, rows)
    return AnnotationRows(file.path, layout, rows, id_note(first[1], NAME_COLUMNS))


def _with_listed_splits(path: Path, rows: Iterator[AnnotationRow]) -> Iterator[AnnotationRow]:
    """The rows of a file that names no splits, with those that lists beside it tell."""
    splits: dict[str, str] | None = None
    for row in rows:
        splits = listed_splits(path, row.name) if splits is None else splits
        yield replace(row, split=splits[row.name]) if row.name in splits else row


def _msvd_rows(done: AnnotationRows, read: Iterator[Record]) -> Iterator[AnnotationRow]:
    foreign = 0
    for where, row in read:
        plain = {key.casefold(): value for key, value in row.items()}
        name = "_".join(plain[column].strip() for column in ("videoid", "start", "end"))
        if plain.get("language", "English").strip() != "English":
            foreign += 1
            continue
        yield AnnotationRow(where, name, name, (plain["description"],))
    if foreign:
        done.notes.append(f"{counted(foreign, 'caption', 'captions')} in languages other than English left out")


def _row(path: Path, where: str, row: dict[str, Any], answers: bool) -> AnnotationRow:
    name = row_id(path, where, row, NAME_COLUMNS)
    keys = tuple(row)
    column = find(keys, CAPTION_COLUMNS[:2])
    asked = column is None and answers and find(keys, ("question",)) is not None
    if column is None:  # captions by other names; a question beside captions is just another column
        column = find(keys, ANSWER_COLUMNS if asked else CAPTION_COLUMNS)
    if column is not None:
        captions = _captions(path, where, row[column], column)
    else:
        numbered = [key for key in row if key.casefold().startswith("caption") and key[7:].strip(" _").isdigit()]
        if not numbered:
            raise no_captions(path, where, row, (*ANSWER_COLUMNS, *CAPTION_COLUMNS) if asked else CAPTION_COLUMNS)
        captions = tuple(one for key in numbered for one in texts(path, where, row[key], key))
    prompt = _prompt(path, where, row, asked)
    whole = not asked and not prompt and (column is None or isinstance(row[column], list))
    return AnnotationRow(where, name, name, captions, *_split_and_group(row), second_id(row), whole, prompt)


def _prompt(path: Path, where: str, row: Mapping[str, Any], asked: bool) -> str:
    """The row's prompt, or the one that its question makes; "" for none."""
    prompt = row.get("prompt")
    question = row[find(tuple(row), ("question",)) or ""] if asked else None
    for name, text in (("prompt", prompt), ("question", question)):
        if not (text is None or isinstance(text, str)):
            raise UsageError(f"{path} {where}: {name} is {shown(text)}, expected a text")
    text = " ".join((question or "").split())
    if prompt and prompt.strip():
        return str(prompt.replace("{}", text) if asked else prompt)
    if asked and not text:
        raise UsageError(f"{path} {where}: the question is empty", "expected a text")
    return QUESTION_PROMPT.replace("{}", text) if text else ""


def _captions(path: Path, where: str, value: object, column: str) -> tuple[str, ...]:
    return () if value in (None, [None]) else tuple(texts(path, where, value, column))


def _split_and_group(entry: Mapping[str, Any]) -> tuple[str | None, str | None]:
    keys = tuple(entry)
    split, group = find(keys, ("split",)), find(keys, GROUP_COLUMNS)
    return _text_or_none(entry.get(split or "")), _text_or_none(entry.get(group or ""))


def _text_or_none(value: object) -> str | None:
    return str(value) if isinstance(value, str | int) and value != "" else None


def _objects(path: Path, value: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under a name; empty if there is none, or if it holds something else, such as captions."""
    found = value.get(name)
    if not isinstance(found, list) or not found or not isinstance(found[0], dict):
        return []
    return [entry for _, entry in list_records(path, found, name)]


def _field_id(path: Path, where: str, entry: Mapping[str, Any], name: str) -> str:
    if name not in entry:
        raise UsageError(f"{path} {where}: no {name}, only {shown_keys(entry)}")
    return id_text(path, where, entry[name], name)
