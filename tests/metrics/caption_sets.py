"""Captions to score, written by a small grammar, and what pycocoevalcap says about them."""

from __future__ import annotations

import random
from collections import defaultdict

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.cider.cider_scorer import CiderScorer as TheirScorer
from pycocoevalcap.rouge.rouge import Rouge

from evlgen.metrics.frequencies import DocumentFrequencies

Captions = list[str]
References = list[list[str]]

WHO = "a man|a woman|two boys|the old dog|a group of people|someone|a very small cat|a".split("|")
DOES = "is|is slowly|are|was just|seems to be".split("|")
WHAT = "playing|cutting up|looking at|running past|talking about talking about|showing".split("|")
WITH = "a ball|some vegetables|the the camera|a red car|a car and a car|music|it".split("|")
WHERE = "in a park|on the street|in the kitchen|while it rains||on stage in front of people|in a a park".split("|")


def sentence(rng: random.Random) -> str:
    return " ".join(part for part in map(rng.choice, (WHO, DOES, WHAT, WITH, WHERE)) if part)


def varied(rng: random.Random, caption: str) -> str:
    """The same with a few words dropped, doubled or replaced."""
    tokens = []
    for token in caption.split(" "):
        tokens += rng.choices([[token], [], [token, token], ["thing"]], weights=[16, 1, 1, 2])[0]
    return " ".join(tokens)


def make(kind: str, items: int = 30) -> tuple[Captions, References]:
    rng = random.Random(kind)
    predictions, references = [], []
    for number in range(items):
        scene = sentence(rng)
        count = {"one reference": 1, "twenty references": 20}.get(kind, rng.randint(2, 6))
        references.append([varied(rng, scene) for _ in range(count)])
        if kind == "bad":
            predictions.append(" ".join(rng.choices(["lorem", "ipsum", "dolor", "a"], k=rng.randint(1, 15))))
        elif kind == "empty predictions":
            predictions.append("" if number % 3 else varied(rng, scene))
        else:
            predictions.append(varied(rng, scene))
    if kind == "odd":
        predictions[:6] = ["", "a\u00a0man runs", "man", "a man  runs", "\u00a0", references[5][0]]
        references[:6] = [
            ["a man"],
            ["a man runs", "a\u00a0man"],
            [""],
            ["", "a man runs"],
            ["\u00a0", ""],
            references[5],
        ]
        references[5] = [references[5][0]] * 3
    return predictions, references


KINDS = ["good", "bad", "empty predictions", "one reference", "twenty references", "odd"]

token = st.sampled_from(["a", "b", "c", "d", "a\u00a0b", "\u00a0", ""])
caption = st.lists(token, max_size=9).map(" ".join)
items = st.lists(st.tuples(caption, st.lists(caption, min_size=1, max_size=4)), min_size=1, max_size=6)


def pycocoevalcap(scorer: Bleu | Rouge | Cider, predictions: Captions, references: References) -> tuple[object, object]:
    """Their corpus score and scores of single captions, from strings that are tokenized already."""
    theirs = dict(enumerate(references)), {i: [p] for i, p in enumerate(predictions)}
    return scorer.compute_score(*theirs, verbose=0) if isinstance(scorer, Bleu) else scorer.compute_score(*theirs)


class Documents(list):  # type: ignore[type-arg]
    """Reference sets that say to be as many as the documents of another corpus; the logarithm is taken of that."""

    documents: int

    def __len__(self) -> int:
        return self.documents


def pycocoevalcap_cider(
    predictions: Captions, references: References, frequencies: DocumentFrequencies
) -> NDArray[np.float64]:
    """Their CIDEr with document frequencies from elsewhere."""
    scorer = TheirScorer()
    for prediction, captions in zip(predictions, references, strict=True):
        scorer += (prediction, captions)
    scorer.document_frequency = defaultdict(
        float, {tuple(ngram.split(" ")): float(count) for ngram, count in frequencies.counts.items()}
    )
    scorer.crefs = Documents(scorer.crefs)
    scorer.crefs.documents = frequencies.documents
    return np.array(scorer.compute_cider())
