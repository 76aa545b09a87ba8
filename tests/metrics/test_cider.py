"""CIDEr-D against pycocoevalcap, CIDEr against a slow loop written from the paper, and document frequencies."""

from __future__ import annotations

import gzip
import json
import math
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from pycocoevalcap.cider.cider import Cider

from evlgen.errors import EvlgenError, UsageError
from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.ngrams import count_ngrams

from .caption_sets import KINDS, Captions, References, items, make, pycocoevalcap, pycocoevalcap_cider


def assert_equals_pycocoevalcap(predictions: Captions, references: References) -> None:
    scores = CiderScorer(references).score(predictions)
    if not any(caption.split() for captions in references for caption in captions):
        np.testing.assert_array_equal(scores, 0)  # without a single word in the references theirs fails
        return
    corpus, single = pycocoevalcap(Cider(), predictions, references)
    np.testing.assert_allclose(scores, single, rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.mean(), corpus, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pycocoevalcap(kind: str) -> None:
    assert_equals_pycocoevalcap(*make(kind))


@given(items)
def test_equals_pycocoevalcap_on_anything(rows: list[tuple[str, list[str]]]) -> None:
    assert_equals_pycocoevalcap([p for p, _ in rows], [r for _, r in rows])


def test_one_reference_set_scores_nothing() -> None:
    predictions, references = ["a man runs"], [["a man runs", "someone runs"]]
    assert pycocoevalcap(Cider(), predictions, references)[0] == 0
    assert CiderScorer(references).score(predictions).tolist() == [0]


def test_an_ngram_of_all_documents_weighs_nothing() -> None:
    # log(3) - log(3) must be zero to the last bit, or its tiny norm makes a perfect match of it
    references = [["a man"], ["a dog"], ["a cat"]]
    assert CiderScorer(references).score(["a", "a", "a a"]).tolist() == [0, 0, 0]


def test_one_word_worked_by_hand() -> None:
    # unigrams only; of "b c" both words weigh log 2 and half of the vector is matched: cosine 1 / sqrt 2;
    # bigrams: 0 against 1, so the penalty is exp(-1 / 72); a quarter each for n = 1 to 4, times 10
    scores = CiderScorer([["b c"], ["d"]]).score(["b", "d"])
    np.testing.assert_allclose(scores, [10 / 4 / math.sqrt(2) * math.exp(-1 / 72), 10 / 4], rtol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_of_another_corpus(kind: str) -> None:
    predictions, references = make(kind)
    elsewhere = DocumentFrequencies.from_references(make("good", items=100)[1] + [["thing"], ["lorem ipsum"]])
    ours = CiderScorer(references, elsewhere).score(predictions)
    np.testing.assert_allclose(ours, pycocoevalcap_cider(predictions, references, elsewhere), rtol=0, atol=1e-9)


@given(items, items)
def test_frequencies_of_any_other_corpus(
    rows: list[tuple[str, list[str]]], others: list[tuple[str, list[str]]]
) -> None:
    predictions, references = [p for p, _ in rows], [r for _, r in rows]
    elsewhere = DocumentFrequencies.from_references([r for _, r in others])
    ours = CiderScorer(references, elsewhere).score(predictions)
    np.testing.assert_allclose(ours, pycocoevalcap_cider(predictions, references, elsewhere), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["cider-d", "cider"])
def test_pairs_in_any_order_are_the_single_scores(kind: str, form: str) -> None:
    predictions, references = make(kind)
    frequencies = DocumentFrequencies.from_references(references)
    rng = np.random.default_rng(0)
    pairs = rng.integers(len(references), size=(200, 2))
    pairs[50:, 1] = pairs[50:, 0]
    captions = [predictions[b] for _, b in pairs]
    ours = CiderScorer(references, form=form).score_pairs(pairs[:, 0], captions)
    with_frequencies = CiderScorer(references, frequencies, form=form).score_pairs(pairs[:, 0].tolist(), captions)
    np.testing.assert_array_equal(with_frequencies, ours)
    one_by_one = [CiderScorer([references[a]], frequencies, form=form).score([predictions[b]])[0] for a, b in pairs]
    np.testing.assert_allclose(ours, one_by_one, rtol=0, atol=1e-12)
    if form == "cider-d":
        theirs = pycocoevalcap_cider(captions, [references[a] for a, _ in pairs], frequencies)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)


def paper_cider(predictions: Captions, references: References) -> list[float]:
    """Section 4 of arXiv 1411.5726, equations 1 to 3, one loop an equation; times 10."""

    def ngrams(text: str, n: int) -> list[tuple[str, ...]]:
        words = text.split()
        return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]

    scores = []
    for candidate, captions in zip(predictions, references, strict=True):
        total = 0.0
        for n in range(1, 5):

            def g(text: str, n: int = n) -> dict[tuple[str, ...], float]:
                h = Counter(ngrams(text, n))
                vector = {}
                for k in h:
                    images = sum(min(1, sum(ngrams(s, n).count(k) for s in refs)) for refs in references)
                    vector[k] = h[k] / sum(h.values()) * math.log(len(references) / max(1, images))
                return vector

            def length(vector: dict[tuple[str, ...], float]) -> float:
                return math.sqrt(sum(v * v for v in vector.values()))

            c = g(candidate)
            for s in map(g, captions):
                if length(c) and length(s):
                    dot = sum(c[k] * s[k] for k in c if k in s)
                    total += dot / (length(c) * length(s)) / len(captions) / 4
        scores.append(10 * total)
    return scores


@pytest.mark.parametrize("kind", KINDS)
def test_first_form_equals_the_papers_equations(kind: str) -> None:
    predictions, references = make(kind, items=6)
    ours = CiderScorer(references, form="cider").score(predictions)
    np.testing.assert_allclose(ours, paper_cider(predictions, references), rtol=0, atol=1e-9)


@given(items)
def test_first_form_equals_the_papers_equations_on_anything(rows: list[tuple[str, list[str]]]) -> None:
    predictions, references = [p for p, _ in rows], [r for _, r in rows]
    ours = CiderScorer(references, form="cider").score(predictions)
    np.testing.assert_allclose(ours, paper_cider(predictions, references), rtol=0, atol=1e-9)


def test_sigma_is_the_width_of_the_penalty() -> None:
    references = [["b c d e"], ["f"]]
    wide, narrow = (CiderScorer(references, sigma=sigma).score(["b", "x"])[0] for sigma in (1e9, 1.0))
    np.testing.assert_allclose(narrow / wide, math.exp(-(3**2) / 2), rtol=1e-12)


def test_counted_references_can_be_shared() -> None:
    predictions, references = make("good")
    shared = CiderScorer(count_ngrams(references)).score(predictions)
    np.testing.assert_array_equal(shared, CiderScorer(references).score(predictions))


def test_frequencies_count_documents() -> None:
    frequencies = DocumentFrequencies.from_references([["a b a b", "a"], ["b\u00a0a", ""], ["c"]])
    assert frequencies.documents == 3
    assert frequencies.counts == {"a": 2, "b": 2, "c": 1, "a b": 1, "b a": 2, "a b a": 1, "b a b": 1, "a b a b": 1}
    with pytest.raises(TypeError):
        frequencies.counts["a"] = 3


@pytest.mark.parametrize("name", ["frequencies.json", "frequencies.json.gz"])
def test_frequencies_survive_a_file(tmp_path: Path, name: str) -> None:
    frequencies = DocumentFrequencies.from_references(make("odd")[1] + [["naïve 東京 \udc80"]])
    frequencies.save(tmp_path / name)
    assert DocumentFrequencies.load(tmp_path / name) == frequencies
    assert pickle.loads(pickle.dumps(frequencies)) == frequencies
    content = (tmp_path / name).read_bytes()
    assert (content[:2] == b"\x1f\x8b") == name.endswith(".gz")
    frequencies.save(tmp_path / name)  # over the old one
    assert (tmp_path / name).read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_files_that_are_no_frequencies_are_named(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    hint = r" \(expected a file written by DocumentFrequencies.save\)$"
    with pytest.raises(UsageError, match=rf"f\.json cannot be read: No such file or directory{hint}"):
        DocumentFrequencies.load(path)
    with pytest.raises(UsageError, match=rf"cannot be read: Is a directory{hint}"):
        DocumentFrequencies.load(tmp_path)
    whole = gzip.compress(b"{}" * 1000)
    for content in (
        b"",
        b"{",
        b"\x80\x04pickle",
        b"\xff\xfe",
        whole[:-10],
        whole[:12] + b"x" + whole[13:],
        b"[" * 99999,
    ):
        path.write_bytes(content)
        with pytest.raises(UsageError, match=rf"f\.json is not a whole JSON file of document frequencies{hint}"):
            DocumentFrequencies.load(path)
    for content in ("[]", "{}", '{"format": "other"}', '"text"'):
        path.write_text(content)
        with pytest.raises(UsageError, match=rf"f\.json holds no document frequencies{hint}"):
            DocumentFrequencies.load(path)
    DocumentFrequencies(2, {"a": 1}).save(path)
    good = json.loads(path.read_text())
    path.write_text(json.dumps(good | {"version": 2}))
    with pytest.raises(UsageError, match=r"f\.json holds document frequencies of version 2, expected 1 \(count them"):
        DocumentFrequencies.load(path)
    for change in (
        {"documents": 0},
        {"documents": "2"},
        {"documents": True},
        {"max_n": None},
        {"max_n": 3},
        {"end_token": "<eos>"},
        {"counts": []},
        {"counts": {"a": 3}},
        {"counts": {"a": 0}},
        {"counts": {"a": 1.5}},
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(UsageError, match=r"f\.json holds damaged document frequencies \(count them again"):
            DocumentFrequencies.load(path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    frequencies = DocumentFrequencies(2, {"a": 1})
    (tmp_path / "folder").mkdir()
    with pytest.raises(EvlgenError, match=r"folder cannot be written: Is a directory"):
        frequencies.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_what_does_not_fit_is_said() -> None:
    references = [["a man"], ["a dog"]]
    with pytest.raises(UsageError, match=r"^there is no form 'cider-e' of CIDEr \(use cider-d or cider\)$"):
        CiderScorer(references, form="cider-e")
    with pytest.raises(UsageError, match=r"^CIDEr needs at least one item"):
        CiderScorer([])
    with pytest.raises(UsageError, match=r"^document frequencies need at least one item"):
        DocumentFrequencies.from_references([])
    scorer = CiderScorer(references)
    with pytest.raises(UsageError, match=r"^1 predictions for 2 items"):
        scorer.score(["a"])
    with pytest.raises(UsageError, match=r"^1 captions for 2 items \(name one item for each caption\)$"):
        scorer.score_pairs([0, 1], ["a"])
    for item in (-1, 2):
        with pytest.raises(IndexError, match=r"^items must lie between 0 and 1$"):
            scorer.score_pairs([item], ["a"])
    assert scorer.score_pairs([], []).shape == (0,)
