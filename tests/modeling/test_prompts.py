"""Text prompts behind the soft prompts, against sequences put together by hand and transformers' own generate."""

from typing import Any

import pytest
import torch
from torch import Tensor

from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.packing import PromptedIds, pack_captions
from evlgen.modeling.sampling import sample_captions
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config, tiny_model

PROMPTS = ["Question: how many? Short answer:", "a photo of", "", "Question: is it a dog or a cat? Short answer:"]
KINDS = pytest.mark.parametrize("llm", [TINY_LLAMA, TINY_OPT], ids=["llama", "opt"])


def decided(llm: dict[str, object]) -> EVLGenForConditionalGeneration:
    """A model whose next token depends on what it has read: larger random weights."""
    return tiny_model(tiny_config(llm={**llm, "init_std": 0.2, "initializer_range": 0.2}))


def by_hand(model: EVLGenForConditionalGeneration, soft: Tensor, prompt: str) -> Tensor:
    """Input embeddings (T, W) of "<", the soft prompts, ">" and a prompt, one after the other."""

    def text(words: str) -> Tensor:
        return model.language.embed(torch.tensor(model.language.tokenizer.encode(words), dtype=torch.int64))

    return torch.cat([text("<"), soft, text(">"), text(prompt)])


@KINDS
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_is_transformers_own_on_the_same_embeddings(llm: dict[str, object], beams: int) -> None:
    """Every item by itself, without any padding; and its log-probability one forward pass a token."""
    model = decided(llm)
    soft = model.soft_prompts(model.encode(torch.randn(4, 1, 3, 48, 48)))
    many = model.generate_from(soft, prompt=PROMPTS, num_beams=beams, max_new_tokens=6)
    end = model.language.end_token_id
    for i, prompt in enumerate(PROMPTS):
        given = by_hand(model, soft[i], prompt)
        theirs = model.language.model.generate(
            inputs_embeds=given[None], num_beams=beams, max_new_tokens=6, do_sample=False, eos_token_id=end,
            pad_token_id=end, early_stopping=False if beams > 1 else None,
        )  # fmt: skip
        ids = many.token_ids()[i]
        assert ids == theirs[0].tolist()[: len(ids)]
        total = 0.0
        for n, token in enumerate(ids):
            inputs = torch.cat([given, model.language.embed(torch.tensor(ids[:n], dtype=torch.int64))])[None]
            total += model.language.model(inputs_embeds=inputs).logits[0, -1].log_softmax(-1)[token].item()
        assert many.log_probabilities[i].item() == pytest.approx(total, abs=2e-4)
    assert len({tuple(ids) for ids in many.token_ids()}) == 4


@KINDS
@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompted_batch_of_one_equals_a_batch_of_many(llm: dict[str, object], beams: int) -> None:
    model = decided(llm)
    pixels = torch.randn(4, 1, 3, 48, 48)
    settings: dict[str, Any] = {"num_beams": beams, "max_new_tokens": 6, "min_new_tokens": 2, "length_penalty": -1.0}
    many = model.generate(pixels, prompt=PROMPTS, **settings)
    for i, prompt in enumerate(PROMPTS):
        one = model.generate(pixels[i : i + 1], prompt=prompt, **settings)
        assert one.token_ids()[0] == many.token_ids()[i]
        assert one.texts[0] == many.texts[i]
        torch.testing.assert_close(one.log_probabilities[0], many.log_probabilities[i], rtol=1e-4, atol=1e-4)
    without = model.generate(pixels, **settings)
    assert without.token_ids()[2] == many.token_ids()[2], "an empty prompt is none"
    assert without.token_ids()[0] != many.token_ids()[0]


@KINDS
def test_samples_behind_prompts_are_those_of_the_prefix_put_together_by_hand(llm: dict[str, object]) -> None:
    """Prompts of different lengths in one batch, against every item alone, its prompt a part of its prefix.

    What is drawn behind a prefix is compared with the enumerated distribution in test_sampling.py.
    """
    model = decided(llm)
    soft = model.soft_prompts(model.encode(torch.randn(4, 1, 3, 48, 48)))
    prompts = [model.language.encode_prompt(prompt) for prompt in PROMPTS]
    settings: dict[str, Any] = {"samples": 3, "max_new_tokens": 8}
    many, _ = sample_captions(model.language, model.prefix(soft), prompts=prompts, seed=[5, 6, 7, 8], **settings)
    for i, prompt in enumerate(PROMPTS):
        alone, _ = sample_captions(model.language, by_hand(model, soft[i], prompt)[None], seed=[5 + i], **settings)
        assert many.token_ids()[i] == alone.token_ids()[0]
        torch.testing.assert_close(many.log_probabilities[i], alone.log_probabilities[0], rtol=1e-4, atol=1e-4)


def test_blanks_at_the_end_of_a_prompt_are_dropped_and_words_are_not() -> None:
    encode = tiny_model().language.encode_prompt
    assert encode("Answer:  ") == encode("Answer:") != encode("Answer:\n") != encode("Answer")
    assert encode("  ") == []


def test_what_does_not_fit_is_said() -> None:
    model = tiny_model()
    pixels = torch.randn(2, 1, 3, 48, 48)
    with pytest.raises(UsageError, match="3 prompts for 2 items"):
        model.generate(pixels, prompt=["a", "b", "c"])
    with pytest.raises(UsageError, match=r"a prompt of 115 tokens is too long: with 8 tokens .* 128 positions: 'bbbbb"):
        model.generate(pixels, prompt=["a", "b" * 115], max_new_tokens=6)
    with pytest.raises(UsageError, match=r"captions of up to 121 tokens behind 8 others do not fit .* 128 positions"):
        model.generate(pixels, max_new_tokens=121)
    model.generate(pixels, prompt="b" * 114, max_new_tokens=6)
    model.check_prompt("b" * 114, 6)
    with pytest.raises(UsageError, match=r"a prompt of 115 tokens is too long: with 8 tokens .* 128 positions: 'bbbbb"):
        model.check_prompt("b" * 115, 6)


@KINDS
def test_packed_prompts_equal_separate_sequences_with_the_loss_on_the_answer_alone(llm: dict[str, object]) -> None:
    """Two questions of one picture behind one prefix, and a plain caption beside an answer, with gradients."""
    model = tiny_model(tiny_config(llm=llm)).requires_grad_(True)
    model.language.requires_grad_(False)
    prompts = [[[7, 8, 9, 4], [5]], [[], [6, 6, 6]], [[3, 3]]]
    answers = [[[20, 21, 10], [10]], [[9, 3, 10], [4, 4, 10]], [[30, 10]]]
    packed = pack_captions(
        [
            [PromptedIds(i, p) if p else i for i, p in zip(*both, strict=True)]
            for both in zip(answers, prompts, strict=True)
        ]
    )
    assert packed.place.tolist() == [0, 1, 2, 0, 0, 1, 2, 0, 1, 2, 0, 1]
    assert packed.input_ids[0].tolist() == [7, 8, 9, 4, 20, 21, 5]

    soft = model.soft_prompts(model.encode(torch.randn(3, 1, 3, 48, 48)))
    ours = model.log_probabilities(model.prefix(soft), packed)
    gradient = torch.autograd.grad(ours.mean(), model.lm_proj.weight, retain_graph=True)[0]

    theirs = []
    for prefix, texts, found in zip(model.prefix(soft), prompts, answers, strict=True):
        for prompt, ids in zip(texts, found, strict=True):
            embedded = torch.cat([prefix, model.language.embed(torch.tensor(prompt + ids))])[None]
            log_p = model.language.model(inputs_embeds=embedded).logits[0].log_softmax(-1)
            theirs += [log_p[len(prefix) + len(prompt) + n - 1, token] for n, token in enumerate(ids)]
    want = torch.stack(theirs)
    torch.testing.assert_close(ours, want, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(want.mean(), model.lm_proj.weight)[0], rtol=1e-4, atol=1e-6
    )
