"""Rewards against pycocoevalcap with the same frequencies and end tokens, and the cases a reward must get right."""

import math
import threading
from collections import defaultdict

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider_scorer import CiderScorer as TheirCiderScorer

from evlgen.errors import UsageError
from evlgen.metrics.tokenizer import tokenize_captions
from evlgen.training.self_critical import END_TOKEN, CaptionReward

REFERENCES = [
    ["A man is riding a horse.", "a man rides a brown horse", "someone on a horse"],
    ["Two dogs play in the snow", "dogs running, playing in snow!"],
    ["a woman cooks pasta in a kitchen", "a woman is cooking", "a woman is cooking in the kitchen"],
]
ITEMS = [0, 0, 0, 0, 1, 1, 2, 2, 2]
CAPTIONS = [
    "a man is riding a", "a man is riding a horse", "A man, riding.", "", "two dogs play in the snow",
    "a cat", "a woman is cooking in the kitchen", "the the the the", "a woman is cooking in the kitchen",
]  # fmt: skip
ENDED = [False, True, True, True, True, True, True, True, False]


def their_cider(references: list[list[str]], corpus: list[list[str]]) -> list[float]:
    """pycocoevalcap's CIDEr of the captions, given document frequencies of a corpus; texts hold their end tokens."""

    class Documents(list):  # type: ignore[type-arg]
        def __len__(self) -> int:  # they take the logarithm of this
            return len(corpus)

    scorer = TheirCiderScorer()
    for item, caption, ended in zip(ITEMS, CAPTIONS, ENDED, strict=True):
        words = tokenize_captions([caption])[0]
        scorer += (f"{words} {END_TOKEN}".strip() if ended else words, references[item])
    counts: dict[tuple[str, ...], float] = defaultdict(float)
    for captions in corpus:
        grams = set()
        for caption in captions:
            words = caption.split()
            grams |= {tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1)}
        for gram in grams:
            counts[gram] += 1
    scorer.document_frequency = counts
    scorer.crefs = Documents(scorer.crefs)
    values: list[float] = scorer.compute_cider()
    return values


def ending(references: list[list[str]]) -> list[list[str]]:
    return [[f"{c} {END_TOKEN}" for c in tokenize_captions(captions)] for captions in references]


def test_cider_equals_pycocoevalcap_with_end_tokens() -> None:
    with CaptionReward(REFERENCES, {"cider": 1.0}) as reward:
        ours = reward.score(ITEMS, CAPTIONS, ENDED)
    np.testing.assert_allclose(ours.total, their_cider(ending(REFERENCES), ending(REFERENCES)), atol=1e-12)
    assert ours.total[6] > ours.total[8], "a caption that was cut off lacks the end that its references have"


def test_bleu_equals_pycocoevalcap() -> None:
    ours = CaptionReward(REFERENCES, {"bleu4": 1.0}).score(ITEMS, CAPTIONS, ENDED)
    truth = {k: tokenize_captions(REFERENCES[item]) for k, item in enumerate(ITEMS)}
    _, theirs = Bleu(4).compute_score(
        truth, {k: [tokenize_captions([c])[0]] for k, c in enumerate(CAPTIONS)}, verbose=0
    )
    np.testing.assert_allclose(ours.total, theirs[3], rtol=1e-12)


def test_weighted_sum_and_parts() -> None:
    both = CaptionReward(REFERENCES, {"bleu4": 0.5, "cider": 2.0}).score(ITEMS, CAPTIONS, ENDED)
    for name in ("cider", "bleu4"):
        alone = CaptionReward(REFERENCES, {name: 1.0}).score(ITEMS, CAPTIONS, ENDED)
        np.testing.assert_array_equal(both.parts[name], alone.total)
    np.testing.assert_allclose(both.total, 2 * both.parts["cider"] + 0.5 * both.parts["bleu4"], rtol=1e-15)
    assert list(CaptionReward(REFERENCES, {"bleu4": 0, "cider": 1}).score([0], ["a"]).parts) == ["cider"]


def test_between_is_the_mean_over_other_items_of_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are held against where they are few: the mean of the scores that pycocoevalcap gives."""
    sets = [*REFERENCES, ["a cat sleeps"], ["the cat is asleep on a horse"]]
    reward = CaptionReward(sets, {"cider": 1.0, "between": 2.0}, [3, 2])
    ours = reward.score(ITEMS, CAPTIONS, ENDED)
    corpus = ending(sets)
    theirs = [their_cider([corpus[(item + step) % 3] for item in range(3)], corpus) for step in (1, 2)]
    np.testing.assert_allclose(ours.parts["between"], np.mean(theirs, 0), atol=1e-12)
    np.testing.assert_allclose(ours.total, ours.parts["cider"] - 2 * ours.parts["between"], rtol=1e-15)
    alone = reward.score([3, 4], ["a cat sleeps", "a cat sleeps"])
    assert alone.parts["cider"][0] == pytest.approx(alone.parts["between"][1]), "the other source has one other item"

    monkeypatch.setattr("evlgen.training.self_critical.OTHERS", 1)
    one = CaptionReward(sets, {"cider": 1.0, "between": 1.0}, [3, 2]).score(ITEMS, CAPTIONS, ENDED).parts["between"]
    assert all(min(a, b) - 1e-12 <= v <= max(a, b) + 1e-12 for v, a, b in zip(one, *theirs, strict=True))
    again = CaptionReward(sets, {"between": 1.0}, [3, 2]).score(ITEMS, CAPTIONS, ENDED).parts["between"]
    np.testing.assert_array_equal(one, again)


def test_scale_by_hand() -> None:
    """The only reference, repeated word for word, is worth 10: what papers would print as 1000."""
    reward = CaptionReward([["cats chase small dogs"], ["birds fly over water"]], {"cider": 1.0})
    assert reward.score([0], ["Cats chase small dogs."]).total[0] == pytest.approx(10)
    cut = reward.score([0], ["cats chase small dogs"], [False]).total[0]
    # the end token is in all documents and weighs nothing; of 4, 4, 3, 2 n-grams 4, 3, 2, 1 are there; one word shorter
    shares = [1.0, 3 / math.sqrt(3 * 4), 2 / math.sqrt(2 * 3), 1 / math.sqrt(2)]
    assert cut == pytest.approx(10 / 4 * sum(shares) * math.exp(-1 / 72))


def test_tokens_do_not_depend_on_the_caption_behind() -> None:
    references = [["this is plan b"], ["something else"]]
    alone = CaptionReward(references, {"cider": 1.0}).score([0], ["this is plan b."]).total
    for behind in ("A dog", "5 dogs", "dogs"):
        together = CaptionReward(references, {"cider": 1.0}).score([0, 1], ["this is plan b.", behind]).total
        assert together[0] == alone[0]


def test_repeated_captions_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reward = CaptionReward(REFERENCES, {"cider": 1.0})
    computed: list[int] = []
    compute = reward._compute
    monkeypatch.setattr(reward, "_compute", lambda keys: (computed.append(len(keys)), compute(keys))[1])
    first = reward.score([0, 0, 1, 0], ["a", "a", "a", "b"])
    again = reward.score([0, 1], ["b", "new"], [True, True])
    assert computed == [3, 1]
    assert first.total[3] == again.total[0]
    monkeypatch.setattr("evlgen.training.self_critical.CACHED_CAPTIONS", 4)
    assert reward.score([0, 0], ["b", "c"]).total[0] == first.total[3]
    assert computed == [3, 1, 2]


def test_submit_works_aside_in_order_and_hands_over_errors() -> None:
    reward = CaptionReward(REFERENCES, {"cider": 1.0, "bleu4": 1.0})
    threads: list[str] = []
    score = reward._compute
    reward._compute = lambda keys: (threads.append(threading.current_thread().name), score(keys))[1]  # type: ignore
    futures = [reward.submit(ITEMS, CAPTIONS, ENDED), reward.submit([7], ["a"])]
    np.testing.assert_array_equal(futures[0].result().total, reward.score(ITEMS, CAPTIONS, ENDED).total)
    with pytest.raises(IndexError, match="between 0 and 2"):
        futures[1].result()
    assert all(name.startswith("rewards") for name in threads)
    reward.close()
    assert reward.score([], []).total.shape == (0,)


def test_what_users_can_get_wrong() -> None:
    with pytest.raises(UsageError, match=r"there is no reward 'meteor'"):
        CaptionReward(REFERENCES, {"meteor": 1.0})
    with pytest.raises(UsageError, match="no reward has a weight"):
        CaptionReward(REFERENCES, {"cider": 0.0})
    with pytest.raises(UsageError, match="a source has one item"):
        CaptionReward(REFERENCES, {"cider": 1.0, "between": 1.0}, [1, 2])
    with pytest.raises(UsageError, match=r"item 1 \(from 0\) has no reference captions"):
        CaptionReward([["a"], []], {"cider": 1.0})
