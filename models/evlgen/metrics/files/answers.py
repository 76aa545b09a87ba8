"""Answers that people gave: VQAv2, OK-VQA, A-OKVQA, TextVQA, VizWiz, GQA, and plain rows with answers."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evlgen.errors import EvlgenError, UsageError
from evlgen.metrics.files.contents import Answers
from evlgen.metrics.files.fields import ANSWER_COLUMNS, find, is_row, row_id, shown, shown_keys, texts
from evlgen.metrics.files.opening import Source, inspect
from evlgen.metrics.files.records import Row, json_value, list_rows, rows

LAYOUTS = "known are VQA annotations, GQA questions, and rows with question_id and answers"
_QUESTION_KEYS = {"question_id", "questionid", "question"}
_CAPTION_KEYS = {"caption", "captions", "encap", "sentences"}
_KEY = re.compile(r'"(\w+)"\s*:')


def looks_like_answers(path: Path | str) -> bool:
    """Whether a file of references holds answers to questions, from its first megabyte; False if it cannot be read."""
    try:
        source = inspect(Path(path))
    except EvlgenError:
        return False
    if source.form == "table":
        line = source.head.strip().split("\n", 1)[0]
        keys = {cell.strip(' \r"').casefold() for cell in line.split(source.delimiter)}
    else:
        keys = {key.casefold() for key in _KEY.findall(source.head)}
    return bool(keys & _QUESTION_KEYS) and bool(keys & set(ANSWER_COLUMNS)) and not keys & _CAPTION_KEYS


def read_answers(path: Path | str) -> Answers:
    """Read answers that people gave to questions, in any known layout; it is found from the content.

    Raises:
        UsageError: it cannot be read, is of no known layout, or has a question twice; file and line are named.
    """
    path = Path(path)
    source = inspect(path)
    if source.form != "json":
        return _from_rows(source, rows(source), source.rows_layout)
    value = json_value(source)
    if isinstance(value, dict):
        for name, layout in (("annotations", "VQA annotations"), ("data", "TextVQA"), ("questions", "questions")):
            if isinstance(value.get(name), list):
                return _from_rows(source, list_rows(path, value[name]), layout)
        if is_row(value, ANSWER_COLUMNS):
            return _from_rows(source, [("line 1", value)], "JSON lines")
        if value and all(isinstance(one, dict) and "answer" in one for one in value.values()):
            keyed = ((f"question {shown(key)}", {**row, "question_id": key}) for key, row in value.items())
            return _from_rows(source, keyed, "GQA questions")
    if isinstance(value, list):
        return _from_rows(source, list_rows(path, value), source.rows_layout)
    keys = shown_keys(value) if isinstance(value, dict) else shown(value)
    raise UsageError(f"{path} is JSON of no known layout: it has {keys}", LAYOUTS)


def _from_rows(source: Source, read: Iterable[Row], layout: str) -> Answers:
    path = source.path
    answers: dict[str, list[str]] = {}
    questions: dict[str, str] = {}
    types: dict[str, tuple[str, str]] = {}
    for where, row in read:
        column = find(tuple(row), ANSWER_COLUMNS)
        if column is None:
            raise UsageError(f"{path} {where}: no answers, only {shown_keys(row)}", LAYOUTS)
        key = row_id(path, where, row)
        found = texts(path, where, row[column], column)
        if key in answers and source.form != "table":
            raise UsageError(f"{path} {where}: question {key} is there twice", "keep one of the two")
        if not found:
            raise UsageError(f"{path} {where}: question {key} has no answers")
        answers.setdefault(key, []).extend(found)
        if isinstance(row.get("question"), str):
            questions[key] = row["question"]
        kinds = _types(row)
        if any(kinds):
            types[key] = kinds
    if not answers:
        raise UsageError(f"{path} has no questions", LAYOUTS)
    return Answers(path, layout, answers, questions, types)


def _types(row: Mapping[str, Any]) -> tuple[str, str]:
    """Type of question and type of answer; GQA has a structural and a semantic type of the question instead."""
    if isinstance(row.get("types"), dict):
        return str(row["types"].get("structural") or ""), str(row["types"].get("semantic") or "")
    return str(row.get("question_type") or ""), str(row.get("answer_type") or "")
