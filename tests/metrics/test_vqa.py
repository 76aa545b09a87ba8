"""Accuracies against VQA's official script (golden/vqa.json, see golden/make_vqa.py) and numbers worked by hand."""

import hashlib
import json
from pathlib import Path
from statistics import fmean

import pytest

from evlgen.errors import UsageError
from evlgen.metrics.vqa import REPAIRED, gqa_accuracy, normalise_answer, vqa_accuracy

GOLDEN = json.loads((Path(__file__).parent / "golden" / "vqa.json").read_text(encoding="utf-8"))
QUESTIONS = GOLDEN["questions"]


def accuracies() -> list[float]:
    said = [[text for text, times in row["humans"].items() for _ in range(times)] for row in QUESTIONS]
    return [vqa_accuracy(row["answer"], humans) for row, humans in zip(QUESTIONS, said, strict=True)]


def test_accuracies_and_normal_forms_are_the_official_scripts():
    assert [round(100 * accuracy, 2) for accuracy in accuracies()] == [row["score"] for row in QUESTIONS]
    assert [normalise_answer(row["answer"]) for row in QUESTIONS] == [row["normal"] for row in QUESTIONS]
    assert {row["score"] for row in QUESTIONS} == {0.0, 30.0, 60.0, 90.0, 100.0}  # the file covers the formula


def test_the_table_of_contractions_is_the_official_scripts():
    table = json.dumps(sorted(REPAIRED.items()))
    assert hashlib.sha256(table.encode()).hexdigest() == GOLDEN["contractions_sha256"]


def test_means_are_the_official_scripts():
    found = list(zip(QUESTIONS, accuracies(), strict=True))
    whole = GOLDEN["accuracy"]
    assert round(100 * fmean(value for _, value in found), 2) == whole["overall"]
    for column, means in (("question_type", whole["perQuestionType"]), ("answer_type", whole["perAnswerType"])):
        for kind, mean in means.items():
            assert round(100 * fmean(value for row, value in found if row[column] == kind), 2) == mean


@pytest.mark.parametrize(("agree", "accuracy"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (9, 1)])
def test_leaving_out_each_of_ten_people(agree, accuracy):
    humans = ["red"] * agree + [f"other {index}" for index in range(10 - agree)]
    assert vqa_accuracy("Red.", humans) == pytest.approx(accuracy, abs=1e-12)


def test_nothing_is_normalised_where_all_people_agree():
    assert vqa_accuracy("yes", ["yes"] * 10) == 1
    assert vqa_accuracy("Yes", ["yes"] * 10) == 0
    assert vqa_accuracy(" yes\n", ["yes", "yes "] * 5) == 1  # white space goes first
    assert vqa_accuracy("Yes", ["yes"] * 9 + ["no"]) == 1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Dog", "dog"),
        ("a an the", ""),
        ("two dogs, ten cats", "2 dogs 10 cats"),
        ("none", "0"),
        ("red/white", "red white"),  # becomes a space,
        ("red/ white", "red white"),  # unless it touches one,
        ("black-and-white - mostly", "blackandwhite mostly"),  # anywhere,
        ("1,000-2", "10002"),  # or a number has a comma
        ("3. 5.5 p.m.", "3 5.5 pm"),
        ("." * 40 + "x", "." * 8 + "x"),  # 32 are removed
        ("dont", "don't"),
        ("couldnt've couldn'tve", "couldn't've couldn't've"),
        ("somebody'd", "somebodyd"),
        ("Im", "im"),
        ("it's", "it's"),
    ],
)
def test_normal_form_by_hand(text, normal):
    assert normalise_answer(text) == normal


def test_one_person_is_nobody_to_agree_with():
    assert vqa_accuracy("red", ["red"]) == 0
    with pytest.raises(UsageError, match="the answer 'red' has no human answers to compare with"):
        vqa_accuracy("red", [])


def test_gqa_compares_strings_as_they_are():
    assert gqa_accuracy("traffic light", "traffic light") == 1
    assert gqa_accuracy("Traffic light.", "traffic light") == 0
