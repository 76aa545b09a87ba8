"""Accuracy of answers to visual questions: VQAv2 and OK-VQA (Antol et al. 2015), and GQA (Hudson and Manning 2019).

The rules of `vqa_accuracy` are those of the last revision of VQA's official script (vqaEval.py), with its quirks, since
published numbers have them. LAVIS, and BLIP-2's numbers with it, has an earlier revision: it always normalises the
answer, and people's answers only in punctuation, so that theirs must already be lower case and without articles.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evlgen.errors import UsageError

PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
COMMA_IN_NUMBER = re.compile(r"\d,\d")
# Meant to spare a point before or after a digit; the script's look-behind is misspelled, so "3." loses it.
FULL_STOP = re.compile(r"\.(?!\d)")
FULL_STOPS_REMOVED = 32
"""The script passes a flag where the number of replacements belongs; its value is 32."""

NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
CONTRACTIONS = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're
there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've
when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'd've y'all'll you'd you'd've you'll you're you've
""".split()


def _without_one_apostrophe(word: str) -> list[str]:
    return [word[:place] + word[place + 1 :] for place, character in enumerate(word) if character == "'"]


# The script's table repairs words that lack one apostrophe, and has one entry the wrong way round. Its entries with
# capitals (Im, Ive) are never met, since words are lower case by then.
REPAIRED = {wrong: word for word in CONTRACTIONS for wrong in _without_one_apostrophe(word)} | {
    "somebody'd": "somebodyd"
}


def vqa_accuracy(answer: str, human_answers: Sequence[str]) -> float:
    """Agreement with people, in [0, 1]: one of ten who says the same gives 0.3, two 0.6, three 0.9, four 1.

    An answer is right to the degree that three others gave it, min(n / 3, 1), averaged over leaving out each person.
    If all people gave the same answer, nothing is normalised: "Yes" is then wrong where ten said "yes".

    Args:
        answer: the predicted answer.
        human_answers: ten in VQAv2 and OK-VQA. Of a single one nobody is left to agree with: the accuracy is 0.

    Raises:
        UsageError: no human answers.
    """
    if not human_answers:
        raise UsageError(f"the answer {answer!r} has no human answers to compare with")
    answer, humans = _clean(answer), [_clean(human) for human in human_answers]
    if len(set(humans)) > 1:
        answer, humans = _plain_words(_punctuation(answer)), [_plain_words(_punctuation(human)) for human in humans]
    people, agree = len(humans), humans.count(answer)
    return (agree * min(1.0, (agree - 1) / 3) + (people - agree) * min(1.0, agree / 3)) / people


def normalise_answer(text: str) -> str:
    """The script's normal form: no punctuation, lower case, digits for numbers up to ten, no articles, apostrophes in
    contractions."""
    return _plain_words(_punctuation(_clean(text)))


def gqa_accuracy(answer: str, truth: str) -> float:
    """1 if the answer is the truth, else 0: GQA's official eval.py compares the strings as they are."""
    return float(answer == truth)


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def _punctuation(text: str) -> str:
    """Marks become spaces, or vanish: where they touch a space anywhere, and all of them if a number has a comma."""
    number = COMMA_IN_NUMBER.search(text) is not None
    out = text
    for mark in PUNCTUATION:
        out = out.replace(mark, "" if number or f"{mark} " in text or f" {mark}" in text else " ")
    return FULL_STOP.sub("", out, count=FULL_STOPS_REMOVED)


def _plain_words(text: str) -> str:
    words = [NUMBERS.get(word, word) for word in text.lower().split()]
    return " ".join(REPAIRED.get(word, word) for word in words if word not in ARTICLES)
