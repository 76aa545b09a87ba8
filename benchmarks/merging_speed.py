"""Merging by itself, forward and backward, against the version that one writes first; and what it saves in TomeFormer.

All layers of the full-size connector one after the other: 32 items of 257 tokens of width 768, 19 merged in each of 12
layers, matched by keys of width 64 (the mean over 12 heads). "first" is bipartite soft matching as arXiv 2210.09461,
section 3 describes it, with argsort, gather and scatter_reduce; its results are held against ours before anything is
timed. "scatter" is `merge_tokens` with sums that depend on the order in which a GPU comes to them.

    python benchmarks/merging_speed.py            (a quiet machine; a few minutes on two cores)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from evlgen.bench.timing import Stopwatch, TimeLimits, Times, in_turn
from evlgen.connector_config import TomeFormerConfig
from evlgen.modeling.hardware import keep_large_allocations, machine_facts, pick_device
from evlgen.modeling.merging import match_tokens, merge_tokens
from evlgen.modeling.tomeformer import TomeFormer

TOKENS, WIDTH, KEY_WIDTH = 257, 768, 64
CONFIG = TomeFormerConfig()

Merge = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""Tokens (B, N, D), sizes (B, N), metric (B, N, K) and r to merged tokens (B, M, D) and sizes (B, M)."""


def ours(
    x_BND: Tensor, size_BN: Tensor, metric_BND: Tensor, r: int, merge: Callable[..., tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """`match_tokens`, then one of the ways to merge."""
    return merge(x_BND, size_BN, match_tokens(metric_BND, r), x_BND.shape[1] - r)


def merge_by_scatter(x_BND: Tensor, size_BN: Tensor, destination_BN: Tensor, remaining: int) -> tuple[Tensor, Tensor]:
    """Sums of rows and their counts."""
    batch, tokens, width = x_BND.shape
    rows = (destination_BN + remaining * torch.arange(batch, device=x_BND.device).unsqueeze(1)).flatten()
    count, size = (size_BN.new_zeros(batch * remaining) for _ in range(2))
    count = count.index_add(0, rows, torch.ones_like(size_BN).flatten())
    size = size.index_add(0, rows, size_BN.flatten())
    sums = x_BND.new_zeros(batch * remaining, width).scatter_add(
        0, rows.unsqueeze(1).expand(-1, width), x_BND.reshape(batch * tokens, width)
    )
    merged = sums * count.reciprocal().to(sums.dtype).unsqueeze(1)
    return merged.view(batch, remaining, width), size.view(batch, remaining)


WAYS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {"ours": merge_tokens, "scatter": merge_by_scatter}


def first_match(metric_BNK: Tensor, r: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places in A of the tokens that stay and of the r that go, and where in B these go."""
    with torch.no_grad():
        unit = metric_BNK / metric_BNK.norm(dim=-1, keepdim=True)
        similarity = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
        similarity[:, 0] = -torch.inf  # the class token proposes to nobody
        best, partner = similarity.max(dim=-1)
        order = best.argsort(dim=-1, descending=True)
        gone, stay = order[:, :r], order[:, r:]
        return stay, gone, partner.gather(1, gone)


def first_merge(x_BND: Tensor, size_BN: Tensor, stay: Tensor, gone: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens that stay, in the order of their similarity, then B tokens with what joined them; and their sizes."""

    def wide(index: Tensor) -> Tensor:
        return index.unsqueeze(2).expand(-1, -1, x_BND.shape[2])

    a, b = x_BND[:, ::2], x_BND[:, 1::2]
    b = b.scatter_reduce(1, wide(partner), a.gather(1, wide(gone)), reduce="mean")
    size_a, size_b = size_BN[:, ::2], size_BN[:, 1::2]
    size_b = size_b.scatter_add(1, partner, size_a.gather(1, gone))
    return torch.cat([a.gather(1, wide(stay)), b], 1), torch.cat([size_a.gather(1, stay), size_b], 1)


def first(x_BND: Tensor, size_BN: Tensor, metric_BND: Tensor, r: int) -> tuple[Tensor, Tensor]:
    """Matching and merging as one writes them first."""
    return first_merge(x_BND, size_BN, *first_match(metric_BND, r))


def check_equal(x_BND: Tensor, metric_BNK: Tensor, r: int, tolerance: float) -> None:
    """Hold tokens, sizes and gradients of every way against the first version's, whose tokens that stay are sorted.

    Raises:
        AssertionError: they differ.
    """
    sizes = torch.rand(x_BND.shape[:2], device=x_BND.device) + 0.5
    stay, gone, partner = first_match(metric_BNK, r)
    x = x_BND.detach().clone().requires_grad_()
    wanted, wanted_sizes = first_merge(x, sizes, stay.sort(dim=1).values, gone, partner)
    upstream = torch.randn_like(wanted)
    wanted.backward(upstream)
    assert x.grad is not None
    for merge in WAYS.values():
        other = x_BND.detach().clone().requires_grad_()
        merged, merged_sizes = ours(other, sizes, metric_BNK, r, merge)
        merged.backward(upstream)
        torch.testing.assert_close(merged, wanted, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(merged_sizes, wanted_sizes)
        torch.testing.assert_close(other.grad, x.grad, rtol=tolerance, atol=tolerance)


def time_merging(batch: int, dtype: torch.dtype, device: torch.device, limits: TimeLimits) -> dict[str, list[Times]]:
    """Times of forward, backward and both, over all layers, of the first version and then of each of ours."""
    watch = Stopwatch(device)
    tokens = [TOKENS, *CONFIG.tokens_per_layer(TOKENS)]
    x = torch.randn(batch, TOKENS, WIDTH, dtype=dtype, device=device, requires_grad=True)
    sizes = torch.ones(batch, TOKENS, device=device)
    metrics = [torch.randn(batch, count, KEY_WIDTH, dtype=dtype, device=device) for count in tokens[:-1]]
    upstream = torch.randn(batch, tokens[-1], WIDTH, dtype=dtype, device=device)

    def once(merge: Merge) -> list[float]:
        started = watch.now()
        y, size = x, sizes
        for metric, r in zip(metrics, CONFIG.schedule(), strict=True):
            y, size = merge(y, size, metric, r)
        between = watch.now()
        y.backward(upstream)
        ended = watch.now()
        x.grad = None
        return [watch.seconds(a, b) for a, b in ((started, between), (between, ended), (started, ended))]

    runs: dict[str, Callable[[], Sequence[float]]] = {"first": partial(once, first)}
    runs |= {name: partial(once, partial(ours, merge=merge)) for name, merge in WAYS.items()}
    return in_turn(runs, limits, lambda done, total: None)


def time_tomeformer(batch: int, dtype: torch.dtype, device: torch.device, limits: TimeLimits) -> dict[str, list[Times]]:
    """Times of the connector's forward pass, backward pass and both in training, at r = 0 and as it is."""
    watch = Stopwatch(device)
    connector = TomeFormer(CONFIG, TOKENS).to(device).train()
    x = torch.randn(batch, TOKENS, WIDTH, device=device)

    def once(r: int) -> list[float]:
        connector.merge_as(CONFIG.model_copy(update={"r": r}))
        started = watch.now()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            tokens = connector(x).tokens
        between = watch.now()
        tokens.float().square().mean().backward()
        ended = watch.now()
        connector.zero_grad(set_to_none=True)
        return [watch.seconds(a, b) for a, b in ((started, between), (between, ended), (started, ended))]

    return in_turn({f"r={r}": partial(once, r) for r in (0, CONFIG.r)}, limits, lambda done, total: None)


def show(title: str, found: dict[str, list[Times]]) -> None:
    """A table of medians, and how many times as fast as the first row each is within a round."""
    print(f"\n{title}")
    print(f"{'':<12} {'forward':>10} {'backward':>10} {'both':>10} {'p95':>10} {'as fast':>8}")
    for name, (forward, backward, both) in found.items():
        times = (forward.median_seconds, backward.median_seconds, both.median_seconds, both.p95_seconds)
        print(f"{name:<12} " + " ".join(f"{1000 * one:>7.1f} ms" for one in times) + f" {both.times_as_fast:>7.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="items whose tokens are merged")
    parser.add_argument("--connector-batch", type=int, default=4, help="items in the whole connector; 0: not timed")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=120, help="after so long no further round of a table begins")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    device, limits = torch.device(pick_device(asked.device)), TimeLimits(asked.rounds, asked.seconds)
    keep_large_allocations()
    print(machine_facts(device))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        name = str(dtype).removeprefix("torch.")
        x, metric = (torch.randn(2, TOKENS, width, device=device) for width in (WIDTH, KEY_WIDTH))
        check_equal(x.to(dtype), metric, CONFIG.schedule()[0], tolerance)
        title = f"merging alone, {name}, batch {asked.batch}, {CONFIG.layers} layers, r = {CONFIG.r}"
        show(title, time_merging(asked.batch, dtype, device, limits))
        if asked.connector_batch:
            title = f"TomeFormer in training, {name}, batch {asked.connector_batch}"
            show(title, time_tomeformer(asked.connector_batch, dtype, device, limits))


if __name__ == "__main__":
    main()
