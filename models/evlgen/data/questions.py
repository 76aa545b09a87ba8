"""Questions about pictures, with the answers of people where there are any: VQAv2, OK-VQA and GQA as published.

VQAv2 (arXiv 1612.00837) and OK-VQA (arXiv 1906.00067) have one file of questions and one of answers, and know pictures
by their COCO number; GQA (arXiv 1902.09506) has one file in which a question's own key is its id.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError

_QUESTIONS = 'expected {"questions": [{question_id, image_id, question}], ...} of VQAv2, or {id: {question, imageId}}'
_ANNOTATIONS = 'expected {"annotations": [{question_id, answers: [{answer}]}]} of VQAv2'


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        question_id: as the file has it, as text.
        image: file name of its picture.
        question: as people wrote it.
        answers: of people; empty where none are known.
    """

    question_id: str
    image: str
    question: str
    answers: tuple[str, ...]


def read_questions(path: Path, annotations: Path | None) -> list[Question]:
    """Questions in file order.

    Args:
        path: the questions.
        annotations: people's answers, where they stand in a file of their own; questions it lacks have none.

    Raises:
        UsageError: a file is missing or is not what it must be, or holds no question; the entry is named.
    """
    value = _json(path, "questions", _QUESTIONS)
    answers = {} if annotations is None else _answers(annotations)
    if isinstance(value, dict) and isinstance(value.get("questions"), list):
        subtype = value.get("data_subtype")
        found = [
            _coco_question(path, f"questions entry {n}", row, subtype, answers)
            for n, row in enumerate(value["questions"], start=1)
        ]
    elif isinstance(value, dict) and all(isinstance(row, dict) and "imageId" in row for row in value.values()):
        found = [_gqa_question(path, key, row, answers) for key, row in value.items()]
    else:
        raise UsageError(f"{path} is JSON of no known layout", _QUESTIONS)
    if not found:
        raise UsageError(f"{path} holds no questions")
    return found


def _json(path: Path, what: str, expected: str) -> Any:
    if not path.is_file():
        raise UsageError(f"no such file of {what}: {path}", "check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {error}", expected) from None


def _coco_question(path: Path, where: str, row: Any, subtype: Any, answers: dict[str, tuple[str, ...]]) -> Question:
    try:
        key, image, text = str(row["question_id"]), int(row["image_id"]), row["question"]
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{path} {where}: no question_id, image_id (a number) and question", _QUESTIONS) from None
    if not isinstance(text, str) or not isinstance(subtype, str):
        lacking = "question is no text" if isinstance(subtype, str) else 'the file has no "data_subtype", say val2014'
        raise UsageError(f"{path} {where}: {lacking}", _QUESTIONS)
    return Question(key, f"COCO_{subtype}_{image:012d}.jpg", text, answers.get(key, ()))


def _gqa_question(path: Path, key: str, row: dict[str, Any], answers: dict[str, tuple[str, ...]]) -> Question:
    if not isinstance(row.get("question"), str):
        raise UsageError(f"{path} question {key}: no question", _QUESTIONS)
    own = (row["answer"],) if isinstance(row.get("answer"), str) else ()
    return Question(key, f"{row['imageId']}.jpg", row["question"], answers.get(key, own))


def _answers(path: Path) -> dict[str, tuple[str, ...]]:
    value = _json(path, "answers", _ANNOTATIONS)
    rows = value.get("annotations") if isinstance(value, dict) else None
    if not isinstance(rows, list):
        raise UsageError(f"{path} holds no annotations", _ANNOTATIONS)
    found: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(rows, start=1):
        try:
            found[str(row["question_id"])] = tuple(one["answer"] for one in row["answers"])
        except (KeyError, TypeError):
            raise UsageError(f"{path} annotations entry {number}: no question_id and answers", _ANNOTATIONS) from None
    return found
