"""Cross entropy behind a frozen head, without ever holding all logits.

The head never receives a gradient, so the gradient of the hidden states can be computed in the forward pass, chunk by
chunk: memory is chunk x V instead of M x V, and the logits are computed once. The same for captions that were sampled
from another distribution than the model's own (temperature, nucleus, shortest length).

Shapes: M predicted tokens, W width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from evlgen.modeling.distribution import SamplingDistribution

CHUNK_TOKENS = 128


class _FrozenHeadLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_MW: Tensor,
        head_VW: Tensor,
        target_M: Tensor,
        distribution: SamplingDistribution | None,
        offset_M: Tensor | None,
        smoothing: float,
    ) -> Tensor:
        dtype = torch.promote_types(hidden_MW.dtype, torch.float32)
        out = torch.empty(len(target_M), dtype=dtype, device=hidden_MW.device)
        gradient = torch.empty_like(hidden_MW) if ctx.needs_input_grad[0] else None
        mean_head = smoothing * head_VW.mean(dim=0, dtype=dtype) if smoothing else None
        for start in range(0, len(target_M), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            target = target_M[rows]
            logits = (hidden_MW[rows] @ head_VW.T).to(dtype)
            if distribution is not None:
                assert offset_M is not None
                distribution.restrict_(logits, offset_M[rows], target)
            logits.sub_(logits.amax(dim=1, keepdim=True))  # in place from here on: allocating costs more than computing
            target_logit = logits.gather(1, target.unsqueeze(1)).squeeze(1)
            if smoothing:
                target_logit = (1 - smoothing) * target_logit + smoothing * logits.mean(dim=1)
            z = logits.exp_().sum(dim=1)
            out[rows] = target_logit - z.log()
            if gradient is not None:  # d log p(target) / d hidden = head[target] - sum_v p(v) head[v]
                p = logits.div_(z.unsqueeze(1)).to(head_VW.dtype)
                pulled = head_VW[target]
                if mean_head is not None:
                    pulled = ((1 - smoothing) * pulled + mean_head).to(head_VW.dtype)
                gradient[rows] = pulled - p @ head_VW
        if gradient is not None and distribution is not None:
            gradient /= distribution.temperature
        ctx.save_for_backward(gradient)
        return out

    @staticmethod
    def backward(ctx: Any, upstream_M: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream_M.unsqueeze(1).to(gradient.dtype), None, None, None, None, None


def target_log_probabilities(
    hidden_MW: Tensor,
    head_VW: Tensor,
    target_M: Tensor,
    distribution: SamplingDistribution | None = None,
    offset_M: Tensor | None = None,
    *,
    label_smoothing: float = 0.0,
) -> Tensor:
    """log p(target) of every position (M,), float32 or float64; differentiable in the hidden states only.

    Args:
        hidden_MW: what predicts each target.
        head_VW: output embeddings.
        target_M: token ids.
        distribution: what targets were drawn from; None is the model's own. Its nucleus is a constant to the gradient:
            the probability of a token jumps where it enters or leaves, and jumps have no derivative.
        offset_M: positions inside the captions, from 0; needed with a distribution.
        label_smoothing: share of a target that all tokens have alike (arXiv 1512.00567, section 7); what is returned is
            then the mean of log p under such targets. Not together with a distribution, which may exclude tokens.
    """
    assert not (label_smoothing and distribution is not None)
    if distribution is not None and distribution.plain:
        distribution = None
    out: Tensor = _FrozenHeadLogProbabilities.apply(  # type: ignore[no-untyped-call]
        hidden_MW, head_VW, target_M, distribution, offset_M, label_smoothing
    )
    return out
