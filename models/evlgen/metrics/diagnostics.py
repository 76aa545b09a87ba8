"""What a set of captions looks like, references aside: length, variety, bad endings, repeats.

A falling share of distinct captions and a rising share of bad endings ("a man riding a") are how self-critical training
goes wrong while CIDEr still rises (arXiv 1612.00563 and its many re-implementations).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BAD_ENDINGS = frozenset(
    # determiners
    "a an the this that these those my your his her its our their some any no every each another "
    # prepositions
    "about above across after against along among around as at before behind below beneath beside between beyond by "
    "despite during for from in inside into like near of off on onto out over past since through throughout to toward "
    "towards under until up upon via while with within without "
    # conjunctions
    "and or but nor so yet because although if than when where whereas "
    # auxiliaries that promise a verb
    "is are was were be being been am has have had does do did will would can could should may might must".split()
)
"""A caption whose last word is one of these stops in the middle. Some are fine now and then ("looks up", "turns it
on"), so the share is compared between runs and with the references' own, not read as a count of errors."""


@dataclass(frozen=True)
class Diagnostics:
    """Figures about a set of captions.

    Attributes:
        captions: how many.
        mean_words: mean length in words (tokens without punctuation).
        distinct_captions: different captions.
        vocabulary: different words.
        bad_ending_share: share that ends in one of BAD_ENDINGS.
        repeat_share: share of captions that say exactly what an earlier one says: 1 - distinct_captions / captions.
        empty: captions without any word.
    """

    captions: int
    mean_words: float
    distinct_captions: int
    vocabulary: int
    bad_ending_share: float
    repeat_share: float
    empty: int


def ends_badly(caption: str) -> bool:
    """Whether a tokenized caption stops at a determiner, preposition, conjunction or auxiliary."""
    words = caption.split()
    return bool(words) and words[-1] in BAD_ENDINGS


def diagnose(captions: Sequence[str]) -> Diagnostics:
    """Figures about tokenized captions; all zero for none."""
    count = len(captions)
    words = [caption.split() for caption in captions]
    distinct = len(set(captions))
    return Diagnostics(
        captions=count,
        mean_words=sum(map(len, words)) / count if count else 0.0,
        distinct_captions=distinct,
        vocabulary=len({word for caption in words for word in caption}),
        bad_ending_share=sum(map(ends_badly, captions)) / count if count else 0.0,
        repeat_share=1 - distinct / count if count else 0.0,
        empty=sum(not caption for caption in words),
    )
