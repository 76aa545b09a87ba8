"""Token merging as pure functions (arXiv 2210.09461, section 3; in TomeFormer: arXiv 2310.03291, section 3.2).

Tokens at even positions (set A) each propose to their most similar token at an odd position (set B); the r best
proposals are merged. As EVLGen released it, a merged token is the plain mean of the B token and of all A tokens that
chose it; weighting by token size, as in ToMe, is an option. What merges is added up in the order in which it came in
(`embedding_bag` over a stable sort), not as a scatter on a GPU happens to. That was run on CPUs; for GPUs it was read
in torch's sources.

Shapes: B batch, N tokens, D width, M = N - r tokens that remain.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def merge_limit(tokens: int) -> int:
    """The most tokens that one layer may merge away, with or without a protected first token."""
    return max(0, (tokens - 1) // 2)


def match_tokens(metric_BND: Tensor, r: int, *, protect_first: bool = True) -> Tensor:
    """Decide which tokens merge.

    Args:
        metric_BND: what similarity is measured on (the attention keys averaged over heads); compared by cosine.
        r: tokens to merge away; cut to `merge_limit`.
        protect_first: token 0 proposes to nobody, so it is never merged away.

    Returns:
        destination_BN: int64, the output position of every input token. Outputs are the unmerged A tokens in their
        original order, then all B tokens; tokens with an equal destination merge.
    """
    batch, tokens, _ = metric_BND.shape
    r = min(r, merge_limit(tokens))
    metric_BND = metric_BND.detach().to(torch.promote_types(metric_BND.dtype, torch.float32))
    unit_BND = F.normalize(metric_BND, dim=-1)  # a zero vector stays zero: similarity 0, no NaN
    with torch.autocast(metric_BND.device.type, enabled=False):  # half precision would decide near ties otherwise
        similarity = unit_BND[:, ::2] @ unit_BND[:, 1::2].transpose(1, 2)
    size_a = similarity.shape[1]
    if r == 0:
        rank = torch.arange(tokens, device=metric_BND.device)
        order = torch.where(rank % 2 == 0, rank // 2, size_a + rank // 2)
        return order.expand(batch, tokens)
    best, partner = similarity.max(dim=-1)
    if protect_first:
        best[:, 0] = -torch.inf
    proposals = best.argsort(dim=-1, descending=True, stable=True)
    merged = torch.zeros_like(best, dtype=torch.bool).scatter_(1, proposals[:, :r], True)
    kept_position = (~merged).cumsum(dim=-1) - 1
    kept_a = size_a - r
    destination = torch.empty(batch, tokens, dtype=torch.int64, device=metric_BND.device)
    destination[:, ::2] = torch.where(merged, kept_a + partner, kept_position)
    destination[:, 1::2] = kept_a + torch.arange(tokens - size_a, device=metric_BND.device)
    return destination


def merge_tokens(
    x_BND: Tensor, size_BN: Tensor, destination_BN: Tensor, remaining: int, *, size_weighted: bool = False
) -> tuple[Tensor, Tensor]:
    """Merge tokens that share a destination.

    Args:
        x_BND: tokens.
        size_BN: how many original tokens each stands for.
        destination_BN: from `match_tokens`.
        remaining: M, the number of outputs.
        size_weighted: mean weighted by size (ToMe) instead of the plain mean (EVLGen as released).

    Returns:
        merged tokens (B, M, D) and their sizes (B, M).
    """
    batch, tokens, width = x_BND.shape
    first_place = remaining * torch.arange(batch, device=x_BND.device).unsqueeze(1)
    place, member = (destination_BN + first_place).flatten().sort(stable=True)  # of all items, in one list
    start = torch.searchsorted(place, torch.arange(batch * remaining, device=place.device))

    def sums(rows: Tensor, weights: Tensor | None = None) -> Tensor:
        return F.embedding_bag(member, rows, start, mode="sum", per_sample_weights=weights)

    size = size_BN.reshape(-1, 1)
    share = size if size_weighted else torch.ones_like(size)
    weights = (share[member] / sums(share)[place]).squeeze(1).to(x_BND.dtype)
    merged = sums(x_BND.reshape(batch * tokens, width), weights)
    return merged.view(batch, remaining, width), sums(size).view(batch, remaining)
