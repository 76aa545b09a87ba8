"""METEOR 1.5 (Denkowski and Lavie 2014, "Meteor Universal"), by the jar that pycocoevalcap carries.

pycocoevalcap talks to the jar line by line: a caption with a line feed shifts all answers after it, and a Java that
dies leaves a broken pipe. Here one run answers the whole set. It yields statistics; the scores are computed from these
in Python by the published formula (Denkowski and Lavie 2011, with the function words of version 1.5), which also makes
resampling cheap. tests/metrics/test_meteor.py compares it with the jar's own scores.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evlgen.metrics.java import INSTALL_JARS, Unavailable, carried_file, check_captions, run_java

# for English, tuned to rank translations: the defaults of the jar
ALPHA, BETA, GAMMA, DELTA = 0.85, 0.2, 0.6, 0.75
MATCHER_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])
"""Exact, stem, synonym, paraphrase."""

LENGTHS = slice(0, 4)
"""Words of the hypothesis and of the reference, then those of them that are function words."""
MATCHES = slice(4, 20)
"""Per matcher: content words matched in hypothesis and reference, function words matched in both."""
CHUNKS, MATCHED_HYPOTHESIS, MATCHED_REFERENCE = 20, 21, 22
STATISTICS = 23

Floats = NDArray[np.float64]


def meteor_statistics(
    predictions: Sequence[str], references: Sequence[Sequence[str]], *, deadline_seconds: float = 600.0
) -> Floats:
    """The statistics from which `meteor_of` makes scores that equal pycocoevalcap's to the last digits of a float.

    Args:
        predictions: N tokenized captions.
        references: N sets of at least one tokenized reference.
        deadline_seconds: for the whole set; a few seconds of it are Java loading the table of paraphrases.

    Returns:
        (N, 23) counts of each caption with its best reference, which add up over captions.

    Raises:
        UsageError: nothing to score, or a caption without references.
        Unavailable: no Java, no jar, no answer in time.
    """
    check_captions(predictions, references)
    lines = [_score_line(hypothesis, refs) for hypothesis, refs in zip(predictions, references, strict=True)]
    jar = carried_file("meteor", "meteor-1.5.jar")
    carried_file("meteor", "data", "paraphrase-en.gz")  # the jar finds it by its own place
    # A fixed language: the jar reads its numbers in the user's, and a German one expects 0,5. The flags after the jar
    # are pycocoevalcap's.
    fixed = ["-Xmx2G", "-Dfile.encoding=UTF-8", "-Duser.language=en", "-Duser.country=US"]
    arguments = [*fixed, "-jar", str(jar), "-", "-", "-stdio", "-l", "en", "-norm"]
    answer = run_java(arguments, stdin="".join(lines), deadline_seconds=deadline_seconds)
    return parse_statistics(answer, len(lines))


def meteor_of(sums: Floats) -> Floats:
    """METEOR of summed statistics; that of a set is of all its rows' sum, which is not the mean of their scores.

    Args:
        sums: (..., 23) rows of `meteor_statistics`, or sums of some of them.

    Returns:
        (...) scores in [0, 1].
    """
    hypothesis_words, reference_words, hypothesis_function, reference_function = np.moveaxis(sums[..., LENGTHS], -1, 0)
    matches = np.tensordot(sums[..., MATCHES].reshape(*sums.shape[:-1], 4, 4), MATCHER_WEIGHTS, axes=([-2], [0]))
    precision = _ratio(
        _weigh(matches[..., 0], matches[..., 2]), _weigh(hypothesis_words - hypothesis_function, hypothesis_function)
    )
    recall = _ratio(
        _weigh(matches[..., 1], matches[..., 3]), _weigh(reference_words - reference_function, reference_function)
    )
    mean = _ratio(precision * recall, ALPHA * precision + (1 - ALPHA) * recall)
    matched = (sums[..., MATCHED_HYPOTHESIS] + sums[..., MATCHED_REFERENCE]) / 2
    score: Floats = mean * (1 - GAMMA * _ratio(sums[..., CHUNKS], matched) ** BETA)
    return score


def parse_statistics(answer: str, count: int) -> Floats:
    """(count, 23) statistics from the jar's answers to SCORE lines.

    A caption that is matched as a whole in one chunk counts as no chunk: the jar does not fine it for being in one
    piece, neither by itself nor in a sum.

    Raises:
        Unavailable: not `count` lines of 23 numbers.
    """
    lines = answer.splitlines()
    try:
        rows = np.array([[float(value) for value in line.split()] for line in lines], dtype=np.float64)
        if rows.shape != (count, STATISTICS) or not np.isfinite(rows).all():
            raise ValueError
    except ValueError:
        what = f"METEOR's answer cannot be read: {len(lines)} lines for {count} captions"
        raise Unavailable(what, INSTALL_JARS) from None
    whole = (rows[:, MATCHED_HYPOTHESIS] == rows[:, 0]) & (rows[:, MATCHED_REFERENCE] == rows[:, 1])
    rows[whole & (rows[:, CHUNKS] == 1), CHUNKS] = 0
    return rows


def _score_line(hypothesis: str, references: Sequence[str]) -> str:
    """One question to the jar. As in pycocoevalcap, ||| is cut out of the caption but splits a reference in two."""
    hypothesis = hypothesis.replace("|||", "").replace("  ", " ")
    line = " ||| ".join(("SCORE", *references, hypothesis))
    return line.replace("\r", " ").replace("\n", " ") + "\n"


def _weigh(content: Floats, function: Floats) -> Floats:
    return DELTA * content + (1 - DELTA) * function


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0)
