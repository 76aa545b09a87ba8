"""Layers of the language model that look at soft prompts, against torch's own attention and token by token."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evlgen.configuration import CrossAttentionConfig, EVLGenConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.beams import beam_captions
from evlgen.modeling.rescoring import sampled_log_probabilities
from evlgen.modeling.sampling import sample_captions
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config, tiny_model

KINDS = pytest.mark.parametrize("llm", [TINY_LLAMA, TINY_OPT], ids=["llama", "opt"])


def looking(llm: dict[str, object], **settings: Any) -> EVLGenForConditionalGeneration:
    """A model whose words depend on the picture: every layer looks, and what it finds weighs something."""
    config = tiny_config(llm={**llm, "init_std": 0.2, "initializer_range": 0.2})
    changes = {"cross_attention": CrossAttentionConfig(**{"every": 1, "heads": 4, **settings})}
    language = config.language.model_copy(update=changes)
    model = tiny_model(EVLGenConfig(**{**dict(config), "language": language}))
    attention = model.language.cross_attention
    assert attention is not None
    with torch.no_grad():
        for look in attention.looks:
            look.output.weight.normal_(std=0.5)
    return model


def soft_prompts(model: EVLGenForConditionalGeneration, items: int) -> Tensor:
    torch.manual_seed(1)
    return model.soft_prompts(model.encode(torch.randn(items, 1, 3, 48, 48))).detach()


@KINDS
def test_at_first_the_model_is_the_frozen_one_without_soft_prompts(llm: dict[str, object]) -> None:
    model = looking(llm)
    attention = model.language.cross_attention
    assert attention is not None
    for look in attention.looks:
        nn.init.zeros_(look.output.weight)
    loss = model.caption_loss(soft_prompts(model, 1), [[[7, 8, model.language.end_token_id]]]).loss
    ids = torch.tensor([[*model.language.encode("<>"), 7, 8]])
    labels = torch.tensor([7, 8, model.language.end_token_id])
    logits = looked_away(model, ids)[0, -3:]
    torch.testing.assert_close(loss, nn.functional.cross_entropy(logits, labels))


def looked_away(model: EVLGenForConditionalGeneration, ids: Tensor) -> Tensor:
    """Logits of the language model where what it finds is nothing."""
    attention = model.language.cross_attention
    assert attention is not None
    with attention.looking_at(attention.seen(torch.zeros(len(ids), 1, 32))):
        return model.language.model(input_ids=ids).logits


@KINDS
def test_a_layer_finds_what_torchs_attention_finds(llm: dict[str, object]) -> None:
    model = looking(llm)
    attention = model.language.cross_attention
    assert attention is not None
    soft, x = soft_prompts(model, 2), torch.randn(2, 5, 32)
    seen = attention.seen(soft)
    for number, look in enumerate(attention.looks):
        keys, values = attention.keys_values.weight.view(2, 2, 32, 32)[number]
        theirs = nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
        with torch.no_grad():
            look.norm.weight.uniform_(0.5, 2.0)
            theirs.in_proj_weight.copy_(torch.cat([look.query.weight, keys, values]))
            theirs.out_proj.weight.copy_(look.output.weight)
        normed = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * look.norm.weight
        found, weights = theirs(normed, soft, soft, average_attn_weights=False)
        torch.testing.assert_close(look(x, *seen.keys_values[number]), x + found)
        torch.testing.assert_close(look.attention(x, seen.keys_values[number][0]), weights)


@KINDS
def test_captions_depend_on_the_picture_and_not_on_the_batch(llm: dict[str, object]) -> None:
    model = looking(llm)
    soft = soft_prompts(model, 6)
    many = model.generate_from(soft, num_beams=3, max_new_tokens=7, prompt=["a", "", "of a dog", "", "", "b"])
    assert len({tuple(ids) for ids in many.token_ids()}) == 6
    for i, prompt in enumerate(["a", "", "of a dog", "", "", "b"]):
        one = model.generate_from(soft[i : i + 1], num_beams=3, max_new_tokens=7, prompt=prompt)
        assert one.token_ids()[0] == many.token_ids()[i]


@KINDS
def test_searched_and_sampled_log_probabilities_are_those_of_the_packed_pass(llm: dict[str, object]) -> None:
    """The search runs one token a step behind a cache, the packed pass all captions at once with a gradient."""
    model = looking(llm)
    prefix = model.prefix(soft_prompts(model, 5))
    searched = beam_captions(model.language, prefix, beams=3, max_new_tokens=7)
    sampled, _ = sample_captions(model.language, prefix, samples=3, max_new_tokens=7, seed=0)
    for captions in (searched, sampled):
        again = sampled_log_probabilities(model, prefix, captions)
        torch.testing.assert_close(again.detach(), captions.log_probabilities, atol=1e-4, rtol=0)


@KINDS
def test_items_in_one_row_learn_what_they_learn_alone(llm: dict[str, object]) -> None:
    model = looking(llm)
    soft = soft_prompts(model, 5).requires_grad_()
    end = model.language.end_token_id
    captions = [[[*range(20, 20 + n), end]] for n in (2, 9, 1, 4, 3)]
    together = model.caption_loss(soft, captions).log_probabilities
    alone = torch.cat([model.caption_loss(soft[b : b + 1], captions[b : b + 1]).log_probabilities for b in range(5)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(*(torch.autograd.grad(one.sum(), soft)[0] for one in (together, alone)))


def test_gradients_reach_all_that_is_trained() -> None:
    model = looking(TINY_LLAMA)
    names = model.trainable_names()
    assert sum(".cross_attention." in name for name in names) == 7
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names and "prompt_" not in name)
    model.caption_loss(
        model.soft_prompts(model.encode(torch.randn(2, 1, 3, 48, 48))), [[[7, 8, 10]], [[9, 10]]]
    ).loss.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert without == []


def test_what_is_trained_is_saved_and_read(tmp_path: Any) -> None:
    model = looking(TINY_LLAMA)
    model.save_pretrained(tmp_path)
    again = EVLGenForConditionalGeneration.from_config(model.config)
    again.load_trained(tmp_path / "model.safetensors")
    for name, tensor in model.trained_tensors().items():
        assert torch.equal(again.trained_tensors()[name], tensor), name


def test_a_model_that_reads_soft_prompts_is_a_start(tmp_path: Any) -> None:
    """Its connector is taken over, its learned prompts are not: another text stands in front of captions here."""
    config = tiny_config()
    reading = config.model_copy(update={"language": config.language.model_copy(update={"learned_prompt": True})})
    start = tiny_model(reading, seed=5)
    start.save_pretrained(tmp_path)
    model = looking(TINY_LLAMA)
    before = model.trained_tensors()
    model.load_trained(tmp_path / "model.safetensors", start=True)
    taken = {name: tensor for name, tensor in start.trained_tensors().items() if not name.startswith("prompt_")}
    assert len(taken) < len(start.trained_tensors())
    for name, tensor in model.trained_tensors().items():
        assert torch.equal(tensor, taken[name] if name in taken else before[name]), name
    assert not torch.equal(before["lm_proj.weight"], taken["lm_proj.weight"])


def test_what_cannot_be_is_said() -> None:
    config = tiny_config().language.model_dump()
    with pytest.raises(ValueError, match=r"language.width 32 is not divisible by language.cross_attention.heads"):
        type(tiny_config().language)(**{**config, "cross_attention": {"heads": 5}})
    with pytest.raises(ValueError, match="leaves nothing to read in front of a caption: set prompt_before"):
        type(tiny_config().language)(
            **{**config, "prompt_before": "", "prompt_after": "", "cross_attention": {"heads": 4}}
        )
