"""Questions and answers in every layout, and what is said about bad files."""

import json
from pathlib import Path
from typing import Any

import pytest

from evlgen.annotations.questions import Question, read_questions
from evlgen.errors import UsageError
from tests.data.published_sets import SETS, write


def test_vqav2_okvqa_and_gqa(tmp_path: Path) -> None:
    for name in ("vqav2", "okvqa", "gqa"):
        SETS[name](tmp_path / name)
    read = read_questions(
        tmp_path / "vqav2" / "v2_OpenEnded_mscoco_val2014_questions.json",
        tmp_path / "vqav2" / "v2_mscoco_val2014_annotations.json",
    )
    assert read == [
        Question("42001", "COCO_val2014_000000000042.jpg", "What?", ("net", "net")),
        Question("42002", "COCO_val2014_000000000042.jpg", "Why?", ("fun", "joy")),
    ]
    read = read_questions(
        tmp_path / "okvqa" / "OpenEnded_mscoco_train2014_questions.json",
        tmp_path / "okvqa" / "mscoco_train2014_annotations.json",
    )
    assert read == [Question("97", "COCO_train2014_000000000009.jpg", "Which?", ("race", "motocross"))]
    assert read_questions(tmp_path / "gqa" / "questions1.2" / "testdev_balanced_questions.json") == [
        Question("20968379", "ntestdev.jpg", "Is it 20968379?", ("no",)),
        Question("20968380", "ntestdev.jpg", "Is it 20968380?", ("no",)),
    ]


@pytest.mark.parametrize(
    ("content", "want"),
    [
        (
            {"questions": [{"question_id": 1, "image_id": 262148, "question": "?"}]},
            Question("1", "COCO_val2014_000000262148.jpg", "?", ()),
        ),
        (
            {"data_subtype": "test-dev2015", "questions": [{"question_id": 1, "image_id": 5, "question": "?"}]},
            Question("1", "COCO_test2015_000000000005.jpg", "?", ()),
        ),
        (
            {"data_subtype": "val2017", "questions": [{"question_id": 1, "image_id": 5, "question": "?"}]},
            Question("1", "000000000005.jpg", "?", ()),
        ),
        ({"g1": {"imageId": "n5", "question": "?"}}, Question("g1", "n5.jpg", "?", ())),
        (
            [{"question_id": 1, "image": "val2014/a.jpg", "question": "?", "answer": ["x", "y"]}],
            Question("1", "val2014/a.jpg", "?", ("x", "y")),
        ),
        (
            '{"question_id": "a", "file": "a.png", "question": "?", "answers": [{"answer": "x"}]}\n',
            Question("a", "a.png", "?", ("x",)),
        ),
    ],
)
def test_layouts(tmp_path: Path, content: Any, want: Question) -> None:
    path = tmp_path / "questions_val2014.json"
    write(path, content)
    assert read_questions(path) == [want]


def test_rows_a_line(tmp_path: Path) -> None:
    rows = [{"question_id": n, "image": f"{n}.jpg", "question": "q\u2028r", "answers": ["x"]} for n in range(3)]
    write(tmp_path / "q.jsonl", "\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n")
    assert read_questions(tmp_path / "q.jsonl") == [Question(f"{n}", f"{n}.jpg", "q\u2028r", ("x",)) for n in range(3)]


Q = {"question_id": 1, "image": "a.jpg", "question": "?"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([Q, {**Q}], "q.json entry 2: question 1 is there twice (keep one of the two)"),
        ([{**Q, "question_id": None}], "q.json entry 1: question_id is null, expected a name or a whole number"),
        ([{**Q, "question": " "}], "q.json entry 1: question is ' ', expected text"),
        ([{**Q, "answers": ["x", 3]}], "q.json entry 1: answers holds 3, expected text"),
        ([{**Q, "image": ""}], "q.json entry 1: names no picture (expected image (a file name), or COCO's image_id)"),
        (
            [{**Q, "image": None, "image_id": 7}],
            "q.json entry 1: image_id 7 is of an unknown part of COCO (expected data_subtype in the file, such as "
            "val2014, or val2014 in its name)",
        ),
        ([3], "q.json entry 1: expected an object, found 3"),
        ([], "q.json has no questions (KNOWN)"),
        ({"a": 1}, "q.json is JSON of no known layout: it has 'a' (KNOWN)"),
        ("{", "q.json is not JSON: expecting property name enclosed in double quotes at line 1, column 2 (is it a "
              "whole file?)"),
        (f"{json.dumps(Q)}\n{{", "q.json line 2 is not JSON: expecting property name enclosed in double quotes at "
                                 "line 1, column 2 (is it a whole file?)"),
        ("[" * 100_000, "q.json holds JSON that is nested too deeply"),
        (f"{json.dumps(Q)}\n{'[' * 100_000}", "q.json line 2 holds JSON that is nested too deeply"),
        (f'{{"question_id": {"9" * 10_000}}}', "q.json holds a number of more than 300 digits"),
    ],
)  # fmt: skip
def test_bad_questions_are_one_line(tmp_path: Path, content: Any, says: str) -> None:
    write(tmp_path / "q.json", content)
    with pytest.raises(UsageError) as error:
        read_questions(tmp_path / "q.json")
    known = (
        "known are questions and annotations of VQAv2 and OK-VQA, questions of GQA, and rows of {question_id, image, "
        "question, answers}"
    )
    assert str(error.value) == f"{tmp_path}/{says.replace('KNOWN', known)}"


def test_bad_answers_are_one_line(tmp_path: Path) -> None:
    questions, answers = tmp_path / "q.json", tmp_path / "a.json"
    write(questions, [Q, {**Q, "question_id": 2}])
    one = {"question_id": 1, "answers": [{"answer": "x"}]}
    for content, says in (
        (
            {"annotations": [one]},
            f"1 of 2 questions of {questions} have no answers in {answers}, such as 2 (are the two",
        ),
        ({"annotations": [one, one]}, f"{answers} annotations entry 2: question 1 is there twice"),
        (
            {"annotations": [{"question_id": 1}]},
            f"{answers} annotations entry 1: no answers, only 'question_id' (known are",
        ),
        ({"questions": []}, f"{answers} has no questions (known are"),
    ):
        write(answers, content)
        with pytest.raises(UsageError) as error:
            read_questions(questions, answers)
        assert str(error.value).startswith(says)
    with pytest.raises(UsageError, match=r"no such file: .*none.json"):
        read_questions(tmp_path / "none.json")
    with pytest.raises(UsageError, match=r"is a folder, expected a file"):
        read_questions(tmp_path)
