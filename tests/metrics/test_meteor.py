"""METEOR's formula against the jar's own scores (golden/meteor.json, see golden/make_meteor.py), and the jar's run."""

import json
from pathlib import Path

import numpy as np
import pytest

from evlgen.errors import UsageError
from evlgen.metrics.java import Unavailable, find_java
from evlgen.metrics.meteor import meteor_of, meteor_statistics, parse_statistics

GOLDEN = json.loads((Path(__file__).parent / "golden" / "meteor.json").read_text(encoding="utf-8"))
CAPTIONS = [row["caption"] for row in GOLDEN["captions"]]
REFERENCES = [row["references"] for row in GOLDEN["captions"]]
ANSWER = "".join(f"{row['statistics']}\n" for row in GOLDEN["captions"])


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """A shell script in Java's place."""

    def make(body: str) -> Path:
        program = tmp_path / "java"
        program.write_text(f'#!/bin/sh\nif [ "$1" = -version ]; then exit 0; fi\n{body}\n', encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("EVLGEN_JAVA", str(program))
        return program

    return make


def test_the_formula_gives_the_jars_scores_of_captions():
    statistics = parse_statistics(ANSWER, len(CAPTIONS))
    expected = [row["score"] for row in GOLDEN["captions"]]
    np.testing.assert_allclose(meteor_of(statistics), expected, rtol=0, atol=1e-14)
    assert float(meteor_of(statistics.sum(axis=0))) == pytest.approx(GOLDEN["corpus"], abs=1e-14)
    assert {0.0, 1.0} < set(expected)


def test_the_formula_gives_the_jars_scores_of_any_statistics_and_their_sums():
    for one in GOLDEN["sets"]:
        statistics = parse_statistics("\n".join(one["rows"]), len(one["rows"]))
        got = np.append(meteor_of(statistics), meteor_of(statistics.sum(axis=0)))
        np.testing.assert_allclose(got, one["scores"], rtol=0, atol=1e-14)


def test_sums_may_have_any_shape():
    statistics = parse_statistics(ANSWER, len(CAPTIONS))
    choices = np.random.default_rng(0).integers(0, len(CAPTIONS), (3, 2, 7))
    scores = meteor_of(statistics[choices].sum(axis=2))
    assert scores.shape == (3, 2)
    alone = meteor_of(statistics[choices[2, 1]].sum(axis=0))
    assert scores[2, 1] == pytest.approx(alone, rel=1e-14), "NumPy's vector and scalar powers may part in the last bit"


def test_one_line_a_caption_whatever_is_in_it(fake_java, tmp_path):
    fake_java(f"cat > {tmp_path}/given; echo \"$@\" > {tmp_path}/arguments; printf '{'0 ' * 23}\\n{'0 ' * 23}\\n'")
    rows = meteor_statistics(["a\nb\r\nc ||| d  e", ""], [["x\ny", "SCORE ||| z"], ["\ud800 é"]], deadline_seconds=60)
    given = (tmp_path / "given").read_text(encoding="utf-8")
    assert given == "SCORE ||| x y ||| SCORE ||| z ||| a b  c d e\nSCORE ||| ? é ||| \n"
    assert (tmp_path / "arguments").read_text().endswith("meteor-1.5.jar - - -stdio -l en -norm\n")
    assert meteor_of(rows).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("answer", "lines"),
    [("", 0), ("5.0 1.0\n1.0 2.0", 2), ("1 2 3\nError: specify SCORE", 2), ("0 " * 23, 1), ("nan " * 23 + "\n", 1)],
)
def test_half_an_answer_and_garbage(fake_java, answer, lines):
    fake_java(f"printf '{answer}'")
    with pytest.raises(Unavailable, match=f"METEOR's answer cannot be read: {lines} lines for 2 captions"):
        meteor_statistics(["a", "b"], [["a"], ["b"]], deadline_seconds=60)


def test_the_deadline_and_what_cannot_be_scored(fake_java):
    fake_java("sleep 1000")
    with pytest.raises(Unavailable, match=r"deadline of 0\.5 s"):
        meteor_statistics(["a"], [["a"]], deadline_seconds=0.5)
    with pytest.raises(UsageError, match="caption 0 has no references"):
        meteor_statistics(["a"], [[]])


@pytest.mark.slow
def test_the_jar_says_what_it_said_through_pycocoevalcap():
    try:
        find_java()
    except Unavailable as error:
        pytest.skip(str(error))
    rows = meteor_statistics(CAPTIONS, REFERENCES)
    np.testing.assert_array_equal(rows, parse_statistics(ANSWER, len(CAPTIONS)))
    np.testing.assert_allclose(meteor_of(rows), [row["score"] for row in GOLDEN["captions"]], rtol=0, atol=1e-14)
    assert float(meteor_of(rows.sum(axis=0))) == pytest.approx(GOLDEN["corpus"], abs=1e-14)
