"""The caption tokenizer against the reference: its answers to hostile strings, and itself where there is Java."""

import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, PTBTokenizer

from evlgen.metrics.tokenizer import PUNCTUATION, ptb_tokens, tokenize_captions, words
from tests.metrics.remake_tokenizer_golden import GOLDEN, GUARD

ROWS: list[Any] = [json.loads(line) for line in GOLDEN.read_text(encoding="utf-8").split("\n") if line]
STRINGS = [row for row in ROWS if isinstance(row, list)]
FILES = [row for row in ROWS if isinstance(row, dict) and "captions" in row]


def without_punctuation(tokens: str) -> str:
    return " ".join(token for token in tokens.rstrip().split(" ") if token not in PUNCTUATIONS)


def test_the_golden_file_says_where_it_comes_from() -> None:
    assert ROWS[0]["jar"] == "stanford-corenlp-3.4.1.jar"
    assert ROWS[0]["sha256"] == "2fcb91bb7a111f93d71e264f4ee0e3afd19ba0dde6d21b38605088df9e940399"
    assert len(STRINGS) >= 2000


def test_the_punctuation_is_pycocoevalcaps() -> None:
    assert frozenset(PUNCTUATIONS) == PUNCTUATION


def test_every_hostile_string_has_the_references_tokens() -> None:
    wrong = [
        (string, expected, ours)
        for string, expected in STRINGS
        if (ours := " ".join(ptb_tokens(string, f"\n{GUARD}\n"))) != expected
    ]
    assert wrong == []


def test_a_list_of_hostile_captions_keeps_its_order_and_length() -> None:
    captions = [line for string, _ in STRINGS for line in (GUARD, string)]
    expected = [line for _, tokens in STRINGS for line in (GUARD, without_punctuation(tokens))]
    assert tokenize_captions([*captions, GUARD]) == [*expected, GUARD]


@pytest.mark.parametrize("row", FILES, ids=lambda row: repr(row["captions"])[:40])
def test_a_file_is_read_in_order(row: dict[str, list[str]]) -> None:
    # the reference writes no line for what is blank at the end of the file
    lines = row["lines"] + [""] * (len(row["captions"]) - len(row["lines"]))
    assert tokenize_captions(row["captions"]) == [without_punctuation(line) for line in lines]


@pytest.mark.parametrize("line_break", ["\r", "\r\n", "\x0b", "\x0c", "\u2028", "\u2029"])
def test_a_line_break_within_a_caption_shifts_no_other(line_break: str) -> None:
    assert tokenize_captions([f"A dog{line_break}runs.", "A cat"]) == ["a dog runs", "a cat"]


def test_a_tag_over_two_captions_shifts_no_other() -> None:
    assert tokenize_captions(['<a b="one', 'two"> three', "four"]) == ["< a b = one", "two > three", "four"]


def test_no_captions() -> None:
    assert tokenize_captions([]) == []


def test_ordinary_captions_are_read_chunk_by_chunk_as_in_one_piece() -> None:
    words = (
        "a The dog's don't 2 10 t-shirt, w/ no b plan. art. b. st. \"hi\" 'tis 3-d it's: (x) 1/2 &amp; cannot".split()
    )
    chance = random.Random(7)
    captions = [" ".join(chance.choices(words, k=chance.randint(1, 8))) for _ in range(1500)]
    short = tokenize_captions([line for caption in captions for line in (caption, GUARD)])[::2]
    long = [without_punctuation(" ".join(ptb_tokens(caption, f"\n{GUARD}\n"))) for caption in captions]
    assert short == long


def test_no_rule_looks_past_letters_without_a_full_stop() -> None:
    chance = random.Random(11)
    listed = [w for name in dir(words) if name.isupper() for w in getattr(words, name) if w.isalpha()]
    alone = {v for w in listed for v in (w, w.upper(), w.capitalize(), f"x{w}", f"{w}s")}
    alone |= {"".join(chance.choices("abcdenostwxABCIMX", k=chance.randint(1, 6))) for _ in range(1000)}
    for word in sorted(alone):
        expected = 2 if word.lower() in words.SPLIT_WORDS else 1
        for following in (" a", " The", " 5", " A.", " . .", " <a>", "\nThe a", "\n5", ""):
            tokens = ptb_tokens(word, following)
            assert len(tokens) == expected, (word, following)
            assert "".join(tokens) == word.lower()


needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="the reference tokenizer needs Java")


@needs_java
@pytest.mark.data
def test_every_caption_of_the_data_sets_has_the_references_tokens() -> None:
    folder = os.environ.get("EVLGEN_DATA")
    if not folder:
        pytest.skip("EVLGEN_DATA is not set")
    captions: list[str] = []
    for file in sorted(Path(folder).rglob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").split("\n"):
            captions += json.loads(line).get("captions", []) if line.strip() else []
    assert len(captions) > 1000
    reference = PTBTokenizer().tokenize({0: [{"caption": caption} for caption in captions]})[0]
    assert tokenize_captions(captions) == reference
