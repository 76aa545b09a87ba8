"""Cross entropy behind a frozen head, without ever holding all logits.

The head never receives a gradient, so the gradient of the hidden states can be computed in the forward pass, chunk by
chunk: memory is chunk x V instead of M x V, and the logits are computed once.

Shapes: M predicted tokens, W width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CHUNK_TOKENS = 128


class _FrozenHeadLogProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden_MW: Tensor, head_VW: Tensor, target_M: Tensor) -> Tensor:
        out = torch.empty(len(target_M), dtype=torch.float32, device=hidden_MW.device)
        gradient = torch.empty_like(hidden_MW) if ctx.needs_input_grad[0] else None
        for start in range(0, len(target_M), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            target = target_M[rows]
            logits = (hidden_MW[rows] @ head_VW.T).float()
            logits.sub_(logits.amax(dim=1, keepdim=True))  # in place from here on: allocating costs more than computing
            target_logit = logits.gather(1, target.unsqueeze(1)).squeeze(1)
            z = logits.exp_().sum(dim=1)
            out[rows] = target_logit - z.log()
            if gradient is not None:  # d log p(target) / d hidden = head[target] - sum_v p(v) head[v]
                p = logits.div_(z.unsqueeze(1)).to(head_VW.dtype)
                gradient[rows] = head_VW[target] - p @ head_VW
        ctx.save_for_backward(gradient)
        return out

    @staticmethod
    def backward(ctx: Any, upstream_M: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * upstream_M.unsqueeze(1).to(gradient.dtype), None, None


def target_log_probabilities(hidden_MW: Tensor, head_VW: Tensor, target_M: Tensor) -> Tensor:
    """log p(target) of every position, float32 (M,); differentiable in the hidden states only."""
    out: Tensor = _FrozenHeadLogProbabilities.apply(hidden_MW, head_VW, target_M)  # type: ignore[no-untyped-call]
    return out
