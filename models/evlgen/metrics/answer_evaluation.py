"""One evaluation of answers to visual questions: accuracy with an interval, by type, nothing hidden.

The rules of a single answer are in vqa.py; here are pairing, means and what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evlgen.annotations.questions import Answers
from evlgen.errors import UsageError
from evlgen.metrics.bootstrap import mean_of
from evlgen.metrics.evaluation import BootstrapOptions, Group, Missing, Score, ScoredSet, corpus_scores
from evlgen.metrics.predictions import Predictions
from evlgen.metrics.scoring import Scored
from evlgen.metrics.vqa import gqa_accuracy, vqa_accuracy


@dataclass(frozen=True)
class ScoredAnswer:
    """One answer and its points (0 to 100)."""

    id: str
    question: str
    answer: str
    human_answers: tuple[str, ...]
    type: str
    value: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a line of JSON."""
        values = dict(vars(self))
        values["score"] = values.pop("value")
        return values


@dataclass(frozen=True, kw_only=True)
class AnswerEvaluation(ScoredSet):
    """The result for answers: one score, the accuracy in percent, and groups by answer type.

    Attributes:
        items: every scored answer, in the order of the questions.
    """

    items: tuple[ScoredAnswer, ...]

    @property
    def size(self) -> int:
        """How many answers were scored."""
        return len(self.items)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; per-item values are not in it."""
        return {"unit": "percent", **super().as_dict(), "rule": self.rule}


def evaluate_answers(
    predictions: Predictions,
    answers: Answers,
    bootstrap: BootstrapOptions,
    *,
    missing: Missing = "skip",
) -> AnswerEvaluation:
    """Accuracy of answers: GQA's exact match for a GQA file, the VQA formula otherwise.

    Args:
        predictions: question id -> answer.
        answers: question id -> what people answered.
        bootstrap: how intervals are made.
        missing: questions without an answer are left out, or count as wrong ("empty").

    Raises:
        UsageError: no question is answered.
    """
    absent = tuple(key for key in answers.answers if key not in predictions.captions)
    keys = [key for key in answers.answers if key in predictions.captions or missing == "empty"]
    if not keys or len(absent) == len(answers.answers):
        mine, theirs = next(iter(predictions.captions), "none"), next(iter(answers.answers), "none")
        raise UsageError(
            f"no answer matches a question: {predictions.path} has ids like {mine}, {answers.path} like {theirs}",
            "the answers must name question ids",
        )
    gqa = answers.layout.lower().startswith("gqa")
    # the ten-answer formula gives 0 where there is one answer to agree with
    exact = gqa or all(len(answers.answers[key]) == 1 for key in keys)
    name = "GQA accuracy" if gqa else "exact match" if exact else "VQA accuracy"
    items = []
    for key in keys:
        humans = tuple(answers.answers[key])
        answer = predictions.captions.get(key, "")
        value = 0.0
        if key in predictions.captions:
            value = 100 * (gqa_accuracy(answer, humans[0]) if exact else vqa_accuracy(answer, humans))
        kind = answers.types.get(key, ("", ""))[1]
        items.append(ScoredAnswer(key, answers.questions.get(key, ""), answer, humans, kind, value))
    values = np.array([item.value for item in items])
    return AnswerEvaluation(
        scores=tuple(corpus_scores({name: Scored(name, mean_of(values))}, bootstrap)),
        groups=tuple(_by_type(name, items)),
        items=tuple(items),
        without_references=tuple(key for key in predictions.captions if key not in answers.answers),
        without_prediction=absent,
        failed={key: why for key, why in predictions.failed.items() if key in answers.answers},
        missing=missing,
        rule="GQA: exact match"
        if gqa
        else "one answer a question: exact match"
        if exact
        else "VQA: official normalisation and the ten-answer formula",
        bootstrap=bootstrap,
    )


def _by_type(name: str, items: list[ScoredAnswer]) -> list[Group]:
    groups = []
    for kind in sorted({item.type for item in items if item.type}):
        values = np.array([item.value for item in items if item.type == kind])
        groups.append(Group(kind, len(values), (Score(name, mean_of(values).value),)))
    return groups
