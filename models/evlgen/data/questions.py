"""Questions about pictures with people's answers, from the files in which data sets publish them.

VQAv2 and OK-VQA (arXiv 1612.00837, 1906.00067): a file of questions and one of annotations, about COCO's pictures by
number. GQA (arXiv 1902.09506): questions with their answers by id. And plain rows: JSON lines or a JSON list of
{question_id, image, question, answers}. All of a file is read at once; the largest, GQA's, has a million questions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evlgen.errors import UsageError
from evlgen.system.jsons import parse_json
from evlgen.system.texts import read_text

_LAYOUTS = "known are the questions of VQAv2, OK-VQA and GQA, and rows of {question_id, image, question, answers}"
_COCO_SUBSET = re.compile(r"(train|val|test)(?:-dev)?(2014|2015|2017)")
_IMAGE_COLUMNS = ("image", "file", "file_name", "path")

_Found = tuple[str, Any]
"""Where a question stands ("entry 3"), and what is there."""


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


def read_questions(path: Path, annotations: Path | None = None) -> list[Question]:
    """Questions of a file, in file order.

    Args:
        path: the questions.
        annotations: the answers of VQAv2 or OK-VQA; None where the questions hold them or nobody has any.

    Raises:
        UsageError: a file is missing or of no known layout, an entry is not what it must be or is there twice, or
            questions have no answers in `annotations`.
    """
    found, subset = _entries(path)
    answers = None if annotations is None else _answers(annotations)
    questions: list[Question] = []
    seen: set[str] = set()
    for where, entry in found:
        one = _question(path, where, entry, subset)
        if one.question_id in seen:
            raise UsageError(f"{path} {where}: question {one.question_id} is there twice", "keep one of the two")
        seen.add(one.question_id)
        if answers is not None:
            one = Question(one.question_id, one.image, one.question, answers.get(one.question_id, ()))
        questions.append(one)
    if not questions:
        raise UsageError(f"{path} has no questions", _LAYOUTS)
    bare = [one.question_id for one in questions if not one.answers] if answers is not None else []
    if bare:
        raise UsageError(
            f"{len(bare)} of {len(questions)} questions of {path} have no answers in {annotations}, such as {bare[0]}",
            "are the two files of the same split?",
        )
    return questions


def _entries(path: Path) -> tuple[Iterator[_Found], str | None]:
    """The questions of a file with their places, and the subset of COCO that they are about, if any."""
    text = _text(path)
    lines = [line for line in text.split("\n", 2)[:2] if line.strip()]
    if len(lines) == 2 and _is_object(lines[0]):
        return _json_lines(path, text), None
    value = parse_json(text, str(path))
    if isinstance(value, dict) and isinstance(value.get("questions"), list):
        subset = _COCO_SUBSET.search(str(value.get("data_subtype") or path.name))
        return _numbered("questions entry", value["questions"]), "".join(subset.groups()) if subset else None
    if isinstance(value, list):
        return _numbered("entry", value), None
    if isinstance(value, dict) and value and all(isinstance(v, dict) and "imageId" in v for v in value.values()):
        return ((f"question {key}", {**one, "question_id": key}) for key, one in value.items()), None
    if isinstance(value, dict) and "question" in value:
        return iter([("line 1", value)]), None
    keys = ", ".join(repr(k) for k in list(value)[:8]) if isinstance(value, dict) else repr(value)[:40]
    raise UsageError(f"{path} holds no questions of a known layout: it has {keys}", _LAYOUTS)


def _question(path: Path, where: str, entry: Any, subset: str | None) -> Question:
    if not isinstance(entry, Mapping):
        raise UsageError(f"{path} {where}: expected an object, found {_shown(entry)}")
    key, text = entry.get("question_id"), entry.get("question")
    if isinstance(key, bool) or not isinstance(key, str | int) or not str(key).strip():
        raise UsageError(f"{path} {where}: question_id is {_shown(key)}, expected a name or a whole number")
    if not isinstance(text, str) or not text.strip():
        raise UsageError(f"{path} {where}: question is {_shown(text)}, expected text")
    answers: Any = next((entry[name] for name in ("answers", "answer", "direct_answers") if name in entry), [])
    return Question(str(key), _image(path, where, entry, subset), text, _texts(path, where, answers))


def _image(path: Path, where: str, entry: Mapping[str, Any], subset: str | None) -> str:
    named = next((entry[name] for name in _IMAGE_COLUMNS if entry.get(name)), None)
    if isinstance(named, str):
        return named
    if isinstance(entry.get("imageId"), str):
        return f"{entry['imageId']}.jpg"
    number = entry.get("image_id")
    if not isinstance(number, int) or isinstance(number, bool):
        raise UsageError(f"{path} {where}: names no picture", "expected image (a file name), or COCO's image_id")
    if subset is None:
        raise UsageError(
            f"{path} {where}: image_id {number} is of an unknown part of COCO",
            "expected data_subtype in the file, such as val2014, or val2014 in its name",
        )
    return f"{number:012d}.jpg" if subset.endswith("2017") else f"COCO_{subset}_{number:012d}.jpg"


def _answers(path: Path) -> dict[str, tuple[str, ...]]:
    value = parse_json(_text(path), str(path))
    listed = value.get("annotations") if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise UsageError(f"{path} holds no answers", "expected annotations of VQAv2 or OK-VQA: {annotations: [...]}")
    answers: dict[str, tuple[str, ...]] = {}
    for where, entry in _numbered("annotations entry", listed):
        if not isinstance(entry, dict) or "question_id" not in entry or not entry.get("answers"):
            raise UsageError(f"{path} {where}: expected question_id and answers, found {_shown(entry)}")
        key = str(entry["question_id"])
        if key in answers:
            raise UsageError(f"{path} {where}: question {key} is there twice", "keep one of the two")
        answers[key] = _texts(path, where, entry["answers"])
    return answers


def _texts(path: Path, where: str, value: Any) -> tuple[str, ...]:
    """Answers: a text, texts, or objects that hold one."""
    listed = value if isinstance(value, list) else [value]
    found: list[str] = []
    for one in listed:
        one = one.get("answer") if isinstance(one, dict) else one
        if not isinstance(one, str):
            raise UsageError(f"{path} {where}: an answer is {_shown(one)}, expected text")
        found.append(one)
    return tuple(found)


def _numbered(what: str, values: list[Any]) -> Iterator[_Found]:
    return ((f"{what} {n}", one) for n, one in enumerate(values, start=1))


def _json_lines(path: Path, text: str) -> Iterator[_Found]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", parse_json(line, f"{path} line {number}")


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line, ""), dict)
    except UsageError:
        return False


def _text(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}, expected a file", _LAYOUTS)
    return read_text(path, _LAYOUTS)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:40]}..."
