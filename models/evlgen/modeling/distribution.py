"""The distribution that captions are sampled from, in one place for the sampler and for the gradient.

As in transformers, in this order: the end token is forbidden in the first `min_new_tokens` positions, logits are
divided by the temperature, and the nucleus (Holtzman et al., arXiv 1904.09751) is the smallest set of tokens whose
probability reaches `top_p`. What remains is renormalised. Tokens that tie with the least likely one of the nucleus
belong to it, so that the set is a threshold on logits.

Shapes: M positions, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evlgen.errors import UsageError

FIRST_CANDIDATES = 128


@dataclass(frozen=True)
class SamplingDistribution:
    """How next tokens are drawn.

    Attributes:
        end_token_id: the token that ends a caption.
        temperature: above 0; below 1 sharper than the model.
        top_p: nucleus, above 0; 1 keeps every token.
        min_new_tokens: shortest caption in tokens, without its end token.

    Raises:
        UsageError: a value out of range.
    """

    end_token_id: int
    temperature: float = 1.0
    top_p: float = 1.0
    min_new_tokens: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"temperature is {self.temperature}, expected more than 0", "greedy decoding is its limit")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p is {self.top_p}, expected more than 0 and at most 1")
        if self.min_new_tokens < 0:
            raise UsageError(f"min_new_tokens is {self.min_new_tokens}, expected 0 or more")

    @property
    def plain(self) -> bool:
        """Whether it is the model's own distribution."""
        return self.temperature == 1 and self.top_p == 1 and self.min_new_tokens == 0

    def restrict_(self, logits_MV: Tensor, offset_M: Tensor, kept_M: Tensor | None = None) -> Tensor:
        """Turn logits, in place, into those of this distribution: minus infinity for what cannot be drawn.

        Args:
            logits_MV: the model's, float32 or float64.
            offset_M: position inside the caption, from 0.
            kept_M: tokens that were drawn, which belong to the nucleus whatever rounding says: their logits come from
                another pass here than there.
        """
        logits_MV[:, self.end_token_id].masked_fill_(offset_M < self.min_new_tokens, -torch.inf)
        if self.temperature != 1:
            logits_MV.div_(self.temperature)
        if self.top_p < 1:
            least_M = _least_of_nucleus(logits_MV, self.top_p)
            if kept_M is not None:
                least_M = torch.minimum(least_M, logits_MV.gather(1, kept_M.unsqueeze(1)).squeeze(1))
            logits_MV.masked_fill_(logits_MV < least_M.unsqueeze(1), -torch.inf)
        return logits_MV


def _least_of_nucleus(logits_MV: Tensor, top_p: float) -> Tensor:
    """(M,): the logit of the least likely token of each nucleus. Few tokens are sorted unless the nucleus is large."""
    total = logits_MV.logsumexp(1, keepdim=True)
    size = logits_MV.shape[1]
    candidates = min(FIRST_CANDIDATES, size)
    least = torch.empty(len(logits_MV), dtype=logits_MV.dtype, device=logits_MV.device)
    rows = torch.arange(len(logits_MV), device=logits_MV.device)
    while len(rows):
        best = logits_MV[rows].topk(candidates, dim=1).values
        reached = (best - total[rows]).exp().cumsum(1)
        last = (reached < top_p).sum(1)
        done = (last < candidates) | (candidates == size)
        least[rows] = best.gather(1, last.clamp(max=candidates - 1).unsqueeze(1)).squeeze(1)
        rows, candidates = rows[~done], min(candidates * 16, size)
    return least


def draw(logits_MV: Tensor, uniform_M: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens by inverse transform, and their log-probabilities; one random number a token, whatever the batch.

    Args:
        logits_MV: of the distribution; destroyed.
        uniform_M: float64 in [0, 1); where it is negative, the most likely token is taken.

    Returns:
        (M,) token ids and (M,) natural logarithms of their probabilities.
    """
    best, greedy = logits_MV.max(1)
    weights = logits_MV.sub_(best.unsqueeze(1)).exp_()
    cumulative = weights.cumsum(1)
    total = cumulative[:, -1]
    # strictly below the total, so that no token of probability 0 behind the last possible one is found
    below = torch.nextafter(total, torch.zeros_like(total))
    point = torch.minimum((uniform_M.to(torch.float64) * total).to(total.dtype), below)
    drawn = torch.searchsorted(cumulative, point.unsqueeze(1), right=True).squeeze(1)
    token = torch.where(uniform_M < 0, greedy, drawn)
    return token, (weights.gather(1, token.unsqueeze(1)).squeeze(1) / total).log()
