"""Packed captions against one sequence per caption, computed with transformers' own loss."""

import pytest
import torch

from evlgen.modeling.losses import target_log_probabilities
from evlgen.modeling.packing import in_rows
from tests.modeling.conftest import TINY_LLAMA, TINY_OPT, tiny_config, tiny_model

MANY = [
    [[3 + (7 * b + k + j) % 200 for j in range(1 + (5 * b + 3 * k) % 9)] + [10] for k in range(2)] for b in range(13)
]
CAPTIONS = [[[5, 6, 7, 10], [8, 10]], [[9, 3, 10], [4, 4, 4, 4, 4, 10], [10]]]


@pytest.mark.parametrize("captions_of", [CAPTIONS, MANY], ids=["two items", "three groups of length"])
@pytest.mark.parametrize("llm", [TINY_LLAMA, TINY_OPT], ids=["llama", "opt"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_packed_equals_separate_sequences(
    llm: dict[str, object], attention: str, captions_of: list[list[list[int]]]
) -> None:
    model = tiny_model(tiny_config(llm=llm)).requires_grad_(True)
    model.language.requires_grad_(False)
    model.language.use_attention(attention)
    pixels = torch.randn(len(captions_of), 1, 3, 48, 48)

    packed = model(captions_of, pixel_values=pixels)
    packed.loss.backward()
    packed_gradient = model.lm_proj.weight.grad.clone()
    model.zero_grad()

    total, tokens, each = torch.zeros(()), 0, []
    prefixes = model.prefix(model.soft_prompts(model.encode(pixels)))
    for prefix, captions in zip(prefixes, captions_of, strict=True):
        for ids in captions:  # labels -100 on the prefix, as transformers computes a causal loss
            labels = torch.tensor([[-100] * len(prefix) + ids])
            inputs = torch.cat([prefix, model.language.embed(torch.tensor(ids))])[None]
            loss = model.language.model(inputs_embeds=inputs, labels=labels).loss * len(ids)
            each.append(-loss.item())
            total, tokens = total + loss, tokens + len(ids)
    (total / tokens).backward()

    assert packed.tokens == tokens
    torch.testing.assert_close(packed.loss, total / tokens, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(packed.log_probabilities, torch.tensor(each), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(packed_gradient, model.lm_proj.weight.grad, rtol=1e-4, atol=1e-6)


def test_chunked_log_probabilities_equal_log_softmax() -> None:
    torch.manual_seed(0)
    hidden, head, weight = (torch.randn(*shape, dtype=torch.float64) for shape in ((1100, 8), (50, 8), (1100,)))
    hidden.requires_grad_(True)
    target = torch.randint(50, (1100,))
    ours = target_log_probabilities(hidden, head, target)
    (gradient,) = torch.autograd.grad((ours * weight).sum(), hidden)
    want = (hidden @ head.T).log_softmax(-1).gather(1, target[:, None]).squeeze(1)
    (want_gradient,) = torch.autograd.grad((want * weight).sum(), hidden)
    torch.testing.assert_close(ours, want)
    torch.testing.assert_close(gradient, want_gradient)


def test_rows_hold_every_token_once_and_pad_less() -> None:
    lengths = [sum(len(ids) - 1 for ids in item) for item in MANY]
    longest = max(lengths)
    rows = in_rows(lengths, longest)
    held = list(zip(rows.item[rows.filled].tolist(), rows.at[rows.filled].tolist(), strict=True))
    assert sorted(held) == [(b, k) for b, n in enumerate(lengths) for k in range(n)]
    assert rows.filled.numel() < longest * len(MANY)
    assert in_rows([4, 4, 4], 5).filled.all()
    tokens = torch.randn(len(MANY), longest, 2)
    there = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
    torch.testing.assert_close(rows.lift(rows.lay(tokens))[there], tokens[there])


def test_only_what_the_model_lists_is_trained() -> None:
    model = tiny_model().requires_grad_(True)
    model(CAPTIONS, pixel_values=torch.randn(2, 1, 3, 48, 48)).loss.backward()
    listed = set(model.trainable_names())
    unused = {"connector.embeddings.token_type_embeddings.weight"} - listed
    for name, parameter in model.named_parameters():
        if name in listed and name not in unused:
            assert parameter.grad is not None, f"{name} is listed but not reached"
            assert parameter.grad.abs().sum() > 0 or "key.bias" in name, f"{name} gets nothing"
    assert not any(n.startswith(("vision.trunk.", "language.")) for n in listed)
