"""What is written down of a model: groups against sizes of its tokens, attention against other ways to compute it."""

import math

import numpy as np
import pytest
import torch

from evlgen.configuration import EVLGenConfig
from evlgen.errors import UsageError
from evlgen.modeling.temporal import TemporalContextualization
from evlgen.visualize import trace_clip
from evlgen.visualize.word_attention import group_tokens, soft_prompt_attention
from tests.modeling.conftest import tiny_config, tiny_model

from .conftest import SHORT, model_of


def test_groups_are_partitions_and_end_in_soft_prompts(kind: str, frames: np.ndarray) -> None:
    model = model_of(kind)
    trace = trace_clip(model, frames, decoding=SHORT)
    features = model.encode(model.processor([frames]))
    tokens = model.vision.contextualize(features)
    late = kind in ("vit-concat", "vit-mean-prompts")
    out = model.connector(model.vl_proj(model.ln_vision(tokens[0] if late else tokens.mean(1))))
    assert trace.tokens == [model.config.vision.tokens, *model.config.tokens_per_layer()]
    assert trace.groups.shape == (3, 3 if late else 1, model.config.vision.tokens)
    for own, sizes in zip(trace.groups[-1], out.sizes.int().tolist(), strict=True):
        assert np.bincount(own).tolist() == sizes  # the connector counts by itself how many tokens each stands for
    assert trace.soft_prompts == model.look(features)[0].shape[1]
    assert {word.attention and len(word.attention) for word in trace.words} <= {trace.soft_prompts}
    assert math.prod(trace.grid) + trace.prefix_tokens == model.config.vision.tokens
    assert trace.prefix_tokens == (0 if kind.startswith("cnn") else 1)
    merged, prompts = trace.merged(-1), trace.prompts()
    assert set(prompts.ravel()) == set(range(trace.soft_prompts))
    distinct = trace.tokens[-1] * (3 if late else 1)
    assert set(merged.ravel()) == set(range(distinct))


def test_tracing_changes_nothing_and_a_clip_is_the_same_in_a_batch(kind: str, frames: np.ndarray) -> None:
    model = model_of(kind)
    features = model.encode(model.processor([frames, 255 - frames]))
    soft, tags = model.look(features)
    before = model.generate_from(soft, tags=tags, num_beams=2, max_new_tokens=6)
    trace = trace_clip(model, frames, decoding=SHORT)
    assert trace.caption == before.texts[0]
    assert trace.log_probability == pytest.approx(before.log_probabilities[0].item(), abs=1e-4)
    out = []
    handle = model.connector.register_forward_hook(lambda module, given, output: out.append(output))
    model.look(features)
    handle.remove()
    assert not model.connector._forward_hooks  # tracing leaves no hook behind either
    assert np.array_equal(trace.groups[1:], torch.stack(out[0].groups())[:, : trace.groups.shape[1]].numpy())
    again = model.generate_from(soft, tags=tags, num_beams=2, max_new_tokens=6)
    assert torch.equal(again.sequences, before.sequences)


def test_attention_of_words_is_that_of_transformers(frames: np.ndarray) -> None:
    for kind in ("vit-mean", "cnn-temporal"):  # a Llama, an OPT
        model = model_of(kind)
        soft = model.soft_prompts(model.encode(model.processor([frames])))
        ids, prompt = [70, 71, 72, model.language.end_token_id], [80, 81]
        ours = soft_prompt_attention(model, soft, ids, prompt)
        model.language.use_attention("eager")
        text = model.language.embed(torch.tensor([[*prompt, *ids[:-1]]]))
        theirs = model.language.model(inputs_embeds=torch.cat([model.prefix(soft), text], 1), output_attentions=True)
        mean = torch.stack(theirs.attentions)[:, 0].mean((0, 1))
        start, count = len(model.prompt_before), soft.shape[1]
        torch.testing.assert_close(ours, mean[-4:, start : start + count], atol=1e-5, rtol=1e-4)


def test_looks_from_inside_spend_everything_on_soft_prompts(frames: np.ndarray) -> None:
    model = model_of("cross-attention")
    soft = model.soft_prompts(model.encode(model.processor([frames])))
    attention = soft_prompt_attention(model, soft, [70, 71, model.language.end_token_id])
    torch.testing.assert_close(attention.sum(1), torch.ones(3))
    looks = model.language.cross_attention
    assert looks is not None
    with torch.no_grad():  # queries of nothing: every soft prompt is as good as any
        for look in looks.looks:
            look.query.weight.zero_()
    attention = soft_prompt_attention(model, soft, [70, model.language.end_token_id])
    torch.testing.assert_close(attention, torch.full_like(attention, 1 / soft.shape[1]))


@pytest.mark.parametrize(("kind", "modules"), [("vit-temporal", 2), ("cnn-temporal", 1), ("vit-mean", 0)])
def test_frames_that_listen(kind: str, modules: int, frames: np.ndarray) -> None:
    model = model_of(kind)
    assert len(trace_clip(model, frames, decoding=SHORT).temporal) == modules
    for module in model.modules():  # each frame is heard by all alike where queries are nothing
        if isinstance(module, TemporalContextualization):
            torch.nn.init.zeros_(module.query.weight)
            torch.nn.init.zeros_(module.query.bias)
    for one in trace_clip(model, frames, decoding=SHORT).temporal:
        assert one.gate == 0.5
        assert np.allclose(one.weights, 1 / 3)
    assert trace_clip(model, frames[:1], decoding=SHORT).temporal == []


def test_without_merging_a_patch_is_a_soft_prompt(frames: np.ndarray) -> None:
    trace = trace_clip(tiny_model(tiny_config(r=0)), frames, decoding=SHORT)
    assert trace.tokens == [10, 10, 10]
    assert trace.prompts().tolist() == [list(range(10))] * 3


def test_words_of_tokens() -> None:
    model = tiny_model()
    ids = model.language.encode(" a  dog's é tail")
    words = group_tokens(model.language.tokenizer, ids)
    assert [text for text, _ in words] == ["a", "dog's", "é", "tail"]
    taken = [place for _, places in words for place in places]
    assert taken == sorted(set(taken))
    assert group_tokens(model.language.tokenizer, []) == []


def test_a_language_model_for_captions_only_is_refused(frames: np.ndarray) -> None:
    model = tiny_model(EVLGenConfig(**dict(tiny_config())))
    model.language.use_attention = type(model.language).__mro__[1].use_attention.__get__(model.language)
    with pytest.raises(UsageError, match="loaded for captions only"):
        trace_clip(model, frames, decoding=SHORT)
