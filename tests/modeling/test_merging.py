"""Merging against a slow loop version written from the paper's words (arXiv 2210.09461, section 3)."""

import math
import random

import pytest
import torch
from torch import Tensor

from evlgen.modeling.merging import match_tokens, merge_limit, merge_tokens


def cosine(a: list[float], b: list[float]) -> float:
    norm = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0


def loop_merge(
    x: list[list[float]], metric: list[list[float]], sizes: list[float], r: int, protect: bool, weighted: bool
) -> tuple[list[list[float]], list[float]]:
    """One sequence, token by token."""
    r = min(r, (len(x) - 1) // 2)
    set_a, set_b = range(0, len(x), 2), range(1, len(x), 2)
    partner = {a: max(set_b, key=lambda b, a=a: cosine(metric[a], metric[b])) for a in set_a} if set_b else {}
    proposals = [a for a in set_a if not (protect and a == 0)] if r else []
    proposals.sort(key=lambda a: -cosine(metric[a], metric[partner[a]]))
    merging = set(proposals[:r])
    out, out_sizes = [x[a] for a in set_a if a not in merging], [sizes[a] for a in set_a if a not in merging]
    for b in set_b:
        group = [b] + [a for a in sorted(merging) if partner[a] == b]
        weights = [sizes[t] if weighted else 1.0 for t in group]
        out.append(
            [sum(w * x[t][d] for w, t in zip(weights, group, strict=True)) / sum(weights) for d in range(len(x[0]))]
        )
        out_sizes.append(sum(sizes[t] for t in group))
    return out, out_sizes


def merge(x: Tensor, metric: Tensor, sizes: Tensor, r: int, protect: bool, weighted: bool) -> tuple[Tensor, Tensor]:
    destination = match_tokens(metric, r, protect_first=protect)
    remaining = x.shape[1] - min(r, merge_limit(x.shape[1]))
    return merge_tokens(x, sizes, destination, remaining, size_weighted=weighted)


@pytest.mark.parametrize("seed", range(300))
def test_equals_the_loop_version(seed: int) -> None:
    draw = random.Random(seed)
    torch.manual_seed(seed)
    batch, tokens, width = draw.randint(1, 3), draw.randint(1, 21), draw.randint(1, 6)
    r, protect, weighted = draw.randint(0, 12), draw.random() < 0.5, draw.random() < 0.5
    x, metric = torch.randn(batch, tokens, width).double(), torch.randn(batch, tokens, 5)
    sizes = torch.randint(1, 5, (batch, tokens)).double()
    merged, merged_sizes = merge(x, metric, sizes, r, protect, weighted)
    for b in range(batch):
        want, want_sizes = loop_merge(x[b].tolist(), metric[b].tolist(), sizes[b].tolist(), r, protect, weighted)
        torch.testing.assert_close(merged[b], torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-9)
        assert merged_sizes[b].tolist() == want_sizes


def test_first_token_stays_first_and_alone_when_protected() -> None:
    x = torch.ones(1, 9, 4)  # everything is equally similar: the worst case for token 0
    destination = match_tokens(x, 4, protect_first=True)
    assert destination[0, 0] == 0
    assert (destination[0] == 0).sum() == 1


def test_zero_tokens_and_one_token_give_no_nan() -> None:
    merged, sizes = merge(torch.zeros(1, 5, 3), torch.zeros(1, 5, 3), torch.ones(1, 5), 2, True, False)
    assert merged.isfinite().all()
    assert sizes.sum() == 5
    assert merge(torch.ones(1, 1, 3), torch.ones(1, 1, 3), torch.ones(1, 1), 3, True, False)[0].shape == (1, 1, 3)


def test_weighted_merge_conserves_size_and_mass() -> None:
    torch.manual_seed(1)
    x, sizes = torch.randn(2, 12, 4), torch.ones(2, 12)
    for _ in range(3):
        before = (x * sizes.unsqueeze(-1)).sum(1)
        x, sizes = merge(x, x, sizes, 2, True, True)
        torch.testing.assert_close((x * sizes.unsqueeze(-1)).sum(1), before)
        assert sizes.sum(1).tolist() == [12, 12]


def drawn(tokens: int = 9, batch: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of which several join one, their sizes and where they go."""
    torch.manual_seed(3)
    x, sizes = torch.randn(batch, tokens, 4).double(), torch.randint(1, 5, (batch, tokens)).double()
    alike = torch.ones(batch, tokens, 2) + 0.1 * torch.randn(batch, tokens, 2)
    destination = match_tokens(alike, (tokens - 1) // 2)
    assert max(destination[0].tolist().count(place) for place in destination[0]) >= 3
    return x, sizes, destination


@pytest.mark.parametrize("weighted", [False, True])
def test_gradients_are_those_of_finite_differences(weighted: bool) -> None:
    x, sizes, destination = drawn()
    assert torch.autograd.gradcheck(
        lambda x: merge_tokens(x, sizes, destination, 5, size_weighted=weighted)[0], x.requires_grad_()
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_an_item_is_merged_in_a_batch_as_alone_bit_for_bit(weighted: bool) -> None:
    x, sizes, destination = drawn()
    merged, merged_sizes = merge_tokens(x, sizes, destination, 5, size_weighted=weighted)
    for b in range(3):
        alone = merge_tokens(x[b : b + 1], sizes[b : b + 1], destination[b : b + 1], 5, size_weighted=weighted)
        assert torch.equal(alone[0][0], merged[b])
        assert torch.equal(alone[1][0], merged_sizes[b])


def test_autocast_leaves_tokens_as_they_are() -> None:
    x, sizes, destination = drawn()
    want, _ = merge_tokens(x.float(), sizes, destination, 5)
    with torch.autocast("cpu", torch.bfloat16):
        merged, _ = merge_tokens(x.float(), sizes, destination, 5)
    assert merged.dtype == torch.float32
    assert torch.equal(merged, want)


def test_the_backward_pass_needs_places_alone() -> None:
    """Some numbers a token, whatever its width: neither the tokens nor a matrix of inputs and outputs are kept."""
    _, sizes, destination = drawn(tokens=64)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()), lambda none: none):
        merge_tokens(torch.randn(3, 64, 500, requires_grad=True), sizes.float(), destination, 33)
    assert sum(kept) <= 6 * 3 * 64
