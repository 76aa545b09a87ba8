"""Questions about pictures, and the answers that people gave, from the files in which data sets publish them.

VQAv2 and OK-VQA (arXiv 1612.00837, 1906.00067): a file of questions and one of annotations, about COCO's pictures by
number. GQA (arXiv 1902.09506): questions with their answers by id. A-OKVQA, TextVQA and VizWiz, and plain rows of
{question_id, image, question, answers}. All of a file is read at once; the largest, GQA's, has a million questions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evlgen.annotations.annotation_file import open_annotations
from evlgen.annotations.columns import (
    ANSWER_COLUMNS,
    QUESTION_ID_COLUMNS,
    find,
    is_row,
    row_id,
    shown,
    shown_keys,
    texts,
)
from evlgen.annotations.records import Record, json_value, list_records, records
from evlgen.errors import EvlgenError, UsageError

_LAYOUTS = (
    "known are questions and annotations of VQAv2 and OK-VQA, questions of GQA, and rows of {question_id, image, "
    "question, answers}"
)
_LISTS = {"annotations": "VQA annotations", "data": "TextVQA", "questions": "questions"}
_IMAGE_COLUMNS = ("image", "file", "file_name", "path")
_COCO_SUBSET = re.compile(r"(train|val|test)(?:-dev)?(2014|2015|2017)")
_HEAD_CHARACTERS = 1 << 20
_QUESTION_KEYS = {*QUESTION_ID_COLUMNS, "question"}
_CAPTION_KEYS = {"caption", "captions", "encap", "sentences"}
_KEY = re.compile(r'"(\w+)"\s*:')


@dataclass(frozen=True)
class Question:
    """A question about one picture.

    Attributes:
        question_id: unique in its file.
        image: the picture's file name, below the folder of the pictures.
        question: as people wrote it.
        answers: what people answered, one or more, the same more than once if several said so; empty if not known.
    """

    question_id: str
    image: str
    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    """Answers that people gave to questions about pictures or videos.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        answers: by question id, as many as people were asked (10 in VQAv2, 1 in GQA), in file order.
        questions: by question id, where the file has them.
        types: by question id, the type of the question and the type of the answer, "" where not given.
    """

    path: Path
    layout: str
    answers: dict[str, list[str]] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)
    types: dict[str, tuple[str, str]] = field(default_factory=dict)


def read_questions(path: Path, annotations: Path | None = None) -> list[Question]:
    """Read the questions of a file, in file order.

    Args:
        path: the questions.
        annotations: the answers of VQAv2 or OK-VQA; None where the questions hold them or nobody has any.

    Raises:
        UsageError: a file is missing or of no known layout, an entry is not what it must be or is there twice, or
            questions have no answers in `annotations`.
    """
    file = _question_file(path, ("questions", "annotations", "data"))
    answers = None if annotations is None else read_answers(annotations).answers
    questions: dict[str, Question] = {}
    for where, entry in file.entries:
        one = _question(file, where, entry)
        if one.question_id in questions:
            raise UsageError(f"{path} {where}: question {one.question_id} is there twice", "keep one of the two")
        if answers is not None:
            one = Question(one.question_id, one.image, one.question, tuple(answers.get(one.question_id, ())))
        questions[one.question_id] = one
    if not questions:
        raise UsageError(f"{path} has no questions", _LAYOUTS)
    bare = [one.question_id for one in questions.values() if not one.answers] if answers is not None else []
    if bare:
        raise UsageError(
            f"{len(bare)} of {len(questions)} questions of {path} have no answers in {annotations}, such as {bare[0]}",
            "are the two files of the same split?",
        )
    return list(questions.values())


def read_answers(path: Path) -> Answers:
    """Read answers that people gave to questions, in any known layout; it is found from the content.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has a question twice; file and line are named.
    """
    file = _question_file(path)
    read = Answers(path, file.layout)
    for where, row in file.entries:
        column = find(tuple(row), ANSWER_COLUMNS)
        if column is None:
            raise UsageError(f"{path} {where}: no answers, only {shown_keys(row)}", _LAYOUTS)
        key = row_id(path, where, row)
        found = texts(path, where, row[column], column)
        if key in read.answers and not file.row_for_each_answer:
            raise UsageError(f"{path} {where}: question {key} is there twice", "keep one of the two")
        if not found:
            raise UsageError(f"{path} {where}: question {key} has no answers")
        read.answers.setdefault(key, []).extend(found)
        if isinstance(row.get("question"), str):
            read.questions[key] = row["question"]
        if any(kinds := _types(row)):
            read.types[key] = kinds
    if not read.answers:
        raise UsageError(f"{path} has no questions", _LAYOUTS)
    return read


def looks_like_answers(path: Path) -> bool:
    """Whether a file of references holds answers to questions, from its beginning; False if it cannot be read."""
    try:
        file = open_annotations(path)
    except EvlgenError:
        return False
    head = file.text[:_HEAD_CHARACTERS]
    if file.form == "table":
        line = head.strip().split("\n", 1)[0]
        keys = {cell.strip(' \r"').casefold() for cell in line.split(file.delimiter)}
    else:
        keys = {key.casefold() for key in _KEY.findall(head)}
    return bool(keys & _QUESTION_KEYS) and bool(keys & set(ANSWER_COLUMNS)) and not keys & _CAPTION_KEYS


@dataclass(frozen=True)
class _QuestionFile:
    """Entries of a file, which are questions, answers, or both.

    Attributes:
        path: the file.
        layout: what kind of file it is, in words.
        entries: with their places.
        coco_subset: such as val2014, of the pictures that are called by number; "" if not known.
        row_for_each_answer: a question may have several rows.
    """

    path: Path
    layout: str
    entries: Iterator[Record]
    coco_subset: str = ""
    row_for_each_answer: bool = False


def _question_file(path: Path, lists: Iterable[str] = _LISTS) -> _QuestionFile:
    """Open a file; of the lists that it may hold, the first of `lists` counts."""
    file = open_annotations(path)
    if file.form != "json":
        return _QuestionFile(path, file.rows_layout, records(file), row_for_each_answer=file.form == "table")
    value = json_value(file)
    if isinstance(value, list):
        return _QuestionFile(path, file.rows_layout, list_records(path, value))
    if not isinstance(value, dict):
        raise UsageError(f"{path} is JSON of no known layout: it is {shown(value)}", _LAYOUTS)
    for name in lists:
        if isinstance(value.get(name), list):
            subset = _COCO_SUBSET.search(str(value.get("data_subtype") or path.name))
            listed = list_records(path, value[name], name)
            return _QuestionFile(path, _LISTS[name], listed, "".join(subset.groups()) if subset else "")
    if is_row(value, (*ANSWER_COLUMNS, "question")):
        return _QuestionFile(path, "JSON lines", iter([("line 1", value)]))
    if value and all(isinstance(one, dict) and ("imageId" in one or "answer" in one) for one in value.values()):
        keyed = ((f"question {key}", {**row, "question_id": key}) for key, row in value.items())
        return _QuestionFile(path, "GQA questions", keyed)
    raise UsageError(f"{path} is JSON of no known layout: it has {shown_keys(value)}", _LAYOUTS)


def _question(file: _QuestionFile, where: str, entry: Mapping[str, Any]) -> Question:
    key, text = row_id(file.path, where, entry, QUESTION_ID_COLUMNS), entry.get("question")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{file.path} {where}: question is {shown(text)}, expected text")
    column = find(tuple(entry), ANSWER_COLUMNS)
    answers = () if column is None else tuple(texts(file.path, where, entry[column], column))
    return Question(key, _image(file, where, entry), text, answers)


def _image(file: _QuestionFile, where: str, entry: Mapping[str, Any]) -> str:
    named = next((entry[name] for name in _IMAGE_COLUMNS if entry.get(name)), None)
    if isinstance(named, str):
        return named
    if isinstance(entry.get("imageId"), str):
        return f"{entry['imageId']}.jpg"
    number = entry.get("image_id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{file.path} {where}: names no picture", "expected image (a file name), or COCO's image_id")
    if not file.coco_subset:
        raise UsageError(
            f"{file.path} {where}: image_id {number} is of an unknown part of COCO",
            "expected data_subtype in the file, such as val2014, or val2014 in its name",
        )
    return f"{number:012d}.jpg" if file.coco_subset.endswith("2017") else f"COCO_{file.coco_subset}_{number:012d}.jpg"


def _types(row: Mapping[str, Any]) -> tuple[str, str]:
    """The types of question and of answer; GQA has a structural and a semantic type of the question instead."""
    if isinstance(row.get("types"), dict):
        return str(row["types"].get("structural") or ""), str(row["types"].get("semantic") or "")
    return str(row.get("question_type") or ""), str(row.get("answer_type") or "")
