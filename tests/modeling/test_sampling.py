"""Shared-prefix sampling against transformers' generate and against the enumerated caption space of a tiny model."""

from collections import Counter
from typing import Any

import pytest
import torch

from evlgen.errors import UsageError
from evlgen.modeling.distribution import SamplingDistribution, draw
from evlgen.modeling.packing import pack_captions
from evlgen.modeling.prefix_cache import SharedPrefix
from evlgen.modeling.rescoring import sampled_log_probabilities
from evlgen.modeling.sampling import sample_captions
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config, tiny_model
from tests.modeling.sampling_space import END, caption_space, enumerable_model

# larger weights than at the start of training: captions that depend on the picture and on their own words
LLAMA: dict[str, object] = {**TINY_LLAMA, "initializer_range": 0.2}
OPT: dict[str, object] = {**TINY_OPT, "init_std": 0.2, "tie_word_embeddings": False}
LANGUAGE_MODELS = pytest.mark.parametrize("llm", [LLAMA, OPT], ids=["llama", "opt"])
SETTINGS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.7},
    {"top_p": 0.9},
    {"min_new_tokens": 2},
    {"temperature": 1.5, "top_p": 0.9, "min_new_tokens": 1},
]
DISTRIBUTIONS = pytest.mark.parametrize("setting", SETTINGS, ids=str)


def prefixes(model: Any, items: int, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    pixels = torch.randn(items, 1, 3, 48, 48, dtype=model.lm_proj.weight.dtype)
    with torch.no_grad():
        return model.prefix(model.soft_prompts(model.encode(pixels)))


@LANGUAGE_MODELS
@pytest.mark.parametrize("shortest", [0, 4])
def test_greedy_equals_transformers(llm: dict[str, object], shortest: int) -> None:
    model = tiny_model(tiny_config(llm=llm))
    prefix = prefixes(model, 12)
    choose_end(model, prefix, shortest)
    end = model.language.end_token_id
    samples, best = sample_captions(
        model.language, prefix, samples=2, greedy=True, max_new_tokens=9, min_new_tokens=shortest, seed=0
    )
    want = model.language.model.generate(
        inputs_embeds=prefix, attention_mask=torch.ones(prefix.shape[:2]), max_new_tokens=9, min_new_tokens=shortest,
        do_sample=False, num_beams=1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    assert best is not None
    assert len(set(best.token_counts.flatten().tolist())) > 1, "lengths differ, or the test shows little"
    longest = want.shape[1]
    assert best.sequences[:, 0, :longest].tolist() == want.tolist()
    assert (best.sequences[:, 0, longest:] == end).all()
    alone, _ = sample_captions(model.language, prefix, samples=2, max_new_tokens=9, min_new_tokens=shortest, seed=0)
    assert alone.sequences.shape[:2] == samples.sequences.shape[:2]


def choose_end(model: Any, prefix: torch.Tensor, after: int) -> None:
    """Make a token the end token with which some greedy captions end, not all, and after so many tokens."""
    ids = model.language.model.generate(
        inputs_embeds=prefix, attention_mask=torch.ones(prefix.shape[:2]), max_new_tokens=9, do_sample=False,
        num_beams=1, eos_token_id=255, pad_token_id=255,
    )  # fmt: skip
    counts = Counter(t for row in ids.tolist() for t in set(row[after:]))
    model.language.end_token_id = next(t for t, n in counts.most_common() if n < len(ids) and t != 255)


@LANGUAGE_MODELS
@DISTRIBUTIONS
def test_reported_log_probabilities_are_those_of_the_caption_space(
    llm: dict[str, object], setting: dict[str, Any]
) -> None:
    model = enumerable_model(llm)
    prefix = prefixes(model, 3)
    captions, best = sample_captions(
        model.language, prefix, samples=20, greedy=True, max_new_tokens=4, seed=5, **setting
    )
    assert best is not None
    for b in range(len(prefix)):
        space = caption_space(model.language, prefix[b], max_new_tokens=4, **setting)
        torch.testing.assert_close(space.log_p.exp().sum(), torch.ones((), dtype=torch.float64))
        want = {tuple(ids): p.item() for ids, p in zip(space.ids, space.log_p, strict=True)}
        for output in (captions, best):
            for ids, p, ended in zip(output.token_ids()[b], output.log_probabilities[b], output.ended[b], strict=True):
                assert p.item() == pytest.approx(want[tuple(ids)], abs=1e-5)
                assert bool(ended) == (ids[-1] == END)


@LANGUAGE_MODELS
@DISTRIBUTIONS
def test_frequencies_are_those_of_the_caption_space(llm: dict[str, object], setting: dict[str, Any]) -> None:
    model = enumerable_model(llm, torch.float32)
    one = prefixes(model, 1)
    copies, samples = 100, 40
    captions, _ = sample_captions(
        model.language, one.expand(copies, -1, -1), samples=samples, max_new_tokens=3, seed=3, **setting
    )
    seen = Counter(tuple(ids) for item in captions.token_ids() for ids in item)
    space = caption_space(model.language, one[0], max_new_tokens=3, **setting)
    expected = {tuple(i): p.exp().item() * copies * samples for i, p in zip(space.ids, space.log_p, strict=True)}
    assert seen.keys() <= expected.keys(), "nothing outside the nucleus, nothing too short"
    common = {ids: n for ids, n in expected.items() if n >= 5}
    rare = sum(expected.values()) - sum(common.values())
    statistic = sum((seen[ids] - n) ** 2 / n for ids, n in common.items())
    freedom = len(common) - 1
    if rare >= 5:
        statistic += (sum(seen.values()) - sum(seen[ids] for ids in common) - rare) ** 2 / rare
        freedom += 1
    assert statistic < freedom + 4 * (2 * max(freedom, 1)) ** 0.5


@LANGUAGE_MODELS
@pytest.mark.parametrize("setting", [{}, {"temperature": 0.8, "top_p": 0.95, "min_new_tokens": 3}], ids=str)
def test_the_gradient_pass_finds_what_the_sampler_reports(llm: dict[str, object], setting: dict[str, Any]) -> None:
    model = tiny_model(tiny_config(llm=llm)).double()
    with torch.no_grad():
        model.language.head_weight.mul_(10)  # far from uniform, so that some captions end
    prefix = prefixes(model, 5)
    choose_end(model, prefix, setting.get("min_new_tokens", 0))
    captions, _ = sample_captions(model.language, prefix, samples=6, max_new_tokens=12, seed=2, **setting)
    assert captions.ended.any()
    assert not captions.ended.all()
    log_p = sampled_log_probabilities(model, prefix.requires_grad_(True), captions, **setting)
    torch.testing.assert_close(log_p.detach().float(), captions.log_probabilities, atol=1e-5, rtol=1e-6)


def test_unwanted_and_repeated_captions_change_no_gradient() -> None:
    model = enumerable_model(OPT)  # Llama's norms round to float32
    prefix = prefixes(model, 4).requires_grad_(True)
    captions, _ = sample_captions(model.language, prefix, samples=8, max_new_tokens=3, seed=0)
    assert any(len({tuple(i) for i in item}) < 8 for item in captions.token_ids())
    weight = torch.randn(4, 8, dtype=torch.float64)
    weight[1] = 0  # a whole item
    weight[2, ::2] = 0
    ours = sampled_log_probabilities(model, prefix, captions, wanted_BK=weight != 0)
    torch.testing.assert_close(ours.detach().float(), captions.log_probabilities, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), prefix)
    total = torch.zeros((), dtype=torch.float64)
    for b, item in enumerate(captions.token_ids()):
        for k, ids in enumerate(item):  # one sequence a caption
            token_log_p = model.log_probabilities(prefix[b : b + 1], pack_captions([[ids]]))
            total = total + weight[b, k] * token_log_p.sum()
    (want,) = torch.autograd.grad(total, prefix)
    torch.testing.assert_close(gradient, want, rtol=1e-9, atol=1e-12)
    none = sampled_log_probabilities(model, prefix, captions, wanted_BK=torch.zeros(4, 8, dtype=torch.bool))
    assert not none.requires_grad


def test_what_is_sampled_depends_neither_on_the_greedy_caption_nor_on_items_that_end() -> None:
    model = enumerable_model()
    prefix = prefixes(model, 9)
    together, _ = sample_captions(model.language, prefix, samples=3, max_new_tokens=6, seed=7)
    again, _ = sample_captions(model.language, prefix, samples=3, max_new_tokens=6, seed=7)
    assert together.token_ids() == again.token_ids()
    other, _ = sample_captions(model.language, prefix, samples=3, max_new_tokens=6, seed=8)
    assert together.token_ids() != other.token_ids()
    changed = prefix.clone()
    changed[4:] = prefix[:1]
    partly, _ = sample_captions(model.language, changed, samples=3, max_new_tokens=6, seed=7)
    assert partly.token_ids()[:4] == together.token_ids()[:4]


@LANGUAGE_MODELS
def test_reordered_continuations_equal_whole_sequences(llm: dict[str, object]) -> None:
    model = tiny_model(tiny_config(llm=llm))
    language, prefix = model.language, prefixes(model, 3)
    shared = SharedPrefix(language, prefix)
    shared.step(torch.tensor([[5, 6], [7, 8], [9, 10]]))
    shared.select(torch.tensor([[1, 1, 0], [0, 1, 1], [0, 0, 0]]))
    shared.step(torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]]))
    shared.keep(torch.tensor([0, 2]))
    shared.select(torch.tensor([[2, 1], [0, 2]]))
    hidden = shared.step(torch.tensor([[11, 12], [13, 14]]))
    for b, q, item, ids in [(0, 0, 0, [5, 3, 11]), (0, 1, 0, [6, 2, 12]), (1, 0, 2, [9, 7, 13]), (1, 1, 2, [9, 9, 14])]:
        inputs = torch.cat([prefix[item], language.embed(torch.tensor(ids))])[None]
        want = language.model.base_model(inputs_embeds=inputs).last_hidden_state[0, -1]
        torch.testing.assert_close(hidden[b, q], want, atol=1e-5, rtol=1e-4)


def test_positions_of_targets() -> None:
    packed = pack_captions([[[5, 6, 3], [3]], [[7, 3]]])
    assert packed.place.tolist() == [0, 1, 2, 0, 0, 1]


def test_nucleus_of_many_tokens_and_ties() -> None:
    torch.manual_seed(0)
    flat = torch.zeros(1, 5000)  # every token ties: the nucleus is everything
    shaped = torch.randn(3, 5000, dtype=torch.float64)
    made = SamplingDistribution(0, top_p=0.5)
    assert (made.restrict_(flat, torch.zeros(1)) == 0).all()
    kept = made.restrict_(shaped.clone(), torch.zeros(3)) > -torch.inf
    for row, mask in zip(shaped, kept, strict=True):
        order = row.softmax(0).sort(descending=True)
        count = int((order.values.cumsum(0) < 0.5).sum()) + 1
        assert count > 128, "more than the first candidates"
        assert set(order.indices[:count].tolist()) == set(mask.nonzero().flatten().tolist())


def test_draws_at_the_ends_of_the_interval() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 4)
    uniform = torch.tensor([0.0, 0.499999, 0.5, 1 - 2**-53], dtype=torch.float64)
    token, log_p = draw(logits, uniform)
    assert token.tolist() == [1, 1, 2, 2]
    torch.testing.assert_close(log_p, torch.full((4,), 0.5).log())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "0 samples and no greedy caption"),
        ({"samples": 1, "max_new_tokens": 0}, "max_new_tokens is 0, expected 1 or more"),
        ({"samples": 1, "temperature": 0.0}, "temperature is 0.0, expected more than 0"),
        ({"samples": 1, "top_p": 0.0}, "top_p is 0.0, expected more than 0 and at most 1"),
        ({"samples": 1, "min_new_tokens": -1}, "min_new_tokens is -1, expected 0 or more"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], message: str) -> None:
    model = enumerable_model()
    with pytest.raises(UsageError, match=message):
        sample_captions(model.language, prefixes(model, 1), **options)
