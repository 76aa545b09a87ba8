"""What keeps captions from repeating themselves, and several captions of one search: against transformers, by hand."""

from typing import Any

import pytest
import torch

from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration

from .conftest import TINY_LLAMA, TINY_OPT
from .test_prompts import PROMPTS, by_hand, decided

SEARCHES = pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 1, "no_repeat_ngram": 2},
        {"num_beams": 1, "repetition_penalty": 1.5},
        {"num_beams": 4, "num_captions": 3},
        {"num_beams": 4, "num_captions": 2, "no_repeat_ngram": 1, "length_penalty": -1.0},
        {"num_beams": 3, "num_captions": 3, "repetition_penalty": 1.3, "no_repeat_ngram": 2, "length_penalty": 2.0},
    ],
    ids=lambda options: ",".join(options),
)


@pytest.fixture(params=[TINY_LLAMA, TINY_OPT], ids=["llama", "opt"])
def model(request: pytest.FixtureRequest) -> EVLGenForConditionalGeneration:
    return decided(request.param)


@SEARCHES
def test_every_option_is_that_of_transformers(model: EVLGenForConditionalGeneration, options: dict[str, Any]) -> None:
    """A padded batch against every item by itself, in transformers' own names; log-probabilities a pass a token."""
    soft = model.soft_prompts(model.encode(torch.randn(4, 1, 3, 48, 48)))
    count, end = options.get("num_captions", 1), model.language.end_token_id
    found = model.generate_from(soft, prompt=PROMPTS, max_new_tokens=7, min_new_tokens=5, **options)
    names = {"no_repeat_ngram": "no_repeat_ngram_size", "num_captions": "num_return_sequences"}
    for i, prompt in enumerate(PROMPTS):
        given = by_hand(model, soft[i], prompt)
        theirs = model.language.model.generate(
            inputs_embeds=given[None], max_new_tokens=7, min_new_tokens=5, do_sample=False, eos_token_id=end,
            pad_token_id=end, early_stopping=False if options["num_beams"] > 1 else None,
            **{names.get(key, key): value for key, value in options.items()},
        )  # fmt: skip
        for place in range(count):
            ids = found.token_ids()[i * count + place]
            assert ids == theirs[place].tolist()[: len(ids)]
            total = 0.0
            for n, token in enumerate(ids):
                inputs = torch.cat([given, model.language.embed(torch.tensor(ids[:n], dtype=torch.int64))])[None]
                total += model.language.model(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)[token].item()
            assert found.log_probabilities[i * count + place].item() == pytest.approx(total, abs=3e-4)
        assert len({tuple(ids) for ids in found.token_ids()[i * count :][:count]}) == count
    assert len(found.texts) == len(found.token_counts) == 4 * count


def test_repeats_are_what_is_prevented(model: EVLGenForConditionalGeneration) -> None:
    """Greedy by hand: a token that would end a pair seen before is out, one that was seen pays the penalty."""
    soft = model.soft_prompts(model.encode(torch.randn(1, 1, 3, 48, 48)))
    given, size, factor = by_hand(model, soft[0], ""), 2, 1.2
    ids: list[int] = []
    while len(ids) < 12:
        inputs = torch.cat([given, model.language.embed(torch.tensor(ids, dtype=torch.int64))])[None]
        logits = model.language.model(inputs_embeds=inputs).logits[0, -1]
        for token in set(ids):
            logits[token] = logits[token] / factor if logits[token] > 0 else logits[token] * factor
        for start in range(len(ids) - size + 1):
            if ids[start : start + size - 1] == ids[len(ids) - size + 1 :]:
                logits[ids[start + size - 1]] = -torch.inf
        logits[model.language.end_token_id] = -torch.inf
        ids.append(int(logits.argmax()))
    options: dict[str, Any] = {"num_beams": 1, "max_new_tokens": 12, "min_new_tokens": 12}
    found = model.generate_from(soft, no_repeat_ngram=size, repetition_penalty=factor, **options)
    assert found.token_ids()[0] == ids
    assert model.generate_from(soft, **options).token_ids()[0] != ids, "or the test shows nothing"


def test_more_captions_than_beams(model: EVLGenForConditionalGeneration) -> None:
    with pytest.raises(UsageError, match="3 captions of one search need as many beams, not 2"):
        model.generate(torch.randn(1, 1, 3, 48, 48), num_beams=2, num_captions=3)
    drawn = model.generate(torch.randn(1, 1, 3, 48, 48), do_sample=True, num_captions=5, seed=0, max_new_tokens=4)
    assert len(drawn.texts) == len(drawn.log_probabilities) == 5


def test_transformers_names_mean_our_options(model: EVLGenForConditionalGeneration) -> None:
    pixels = torch.randn(1, 1, 3, 48, 48)
    theirs = model.generate(pixels, num_beams=3, max_length=6, min_length=2, num_return_sequences=2)
    ours = model.generate(pixels, num_beams=3, max_new_tokens=6, min_new_tokens=2, num_captions=2)
    assert len(theirs.texts) == 2
    assert theirs.token_ids() == ours.token_ids()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_length": 5, "max_new_tokens": 6}, "max_length=5 and max_new_tokens=6 contradict each other"),
        ({"num_return_sequences": 2, "num_captions": 3}, "num_return_sequences=2 and num_captions=3 contradict"),
        ({"max_lenght": 5}, r"no option max_lenght \(did you mean max_length\?\)"),
        ({"stopping_criteria": []}, "no option stopping_criteria"),
    ],
)
def test_options_that_contradict_each_other_or_are_none(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DecodingOptions.named(**options)


def test_the_same_twice_is_no_contradiction() -> None:
    assert DecodingOptions.named(max_length=7, max_new_tokens=7).max_new_tokens == 7
