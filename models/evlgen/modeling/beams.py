"""The beams of a beam search as captions to learn from (arXiv 2502.13363), behind a prefix that runs once.

The search is that of transformers (`early_stopping=False`): of the 2 K best continuations those that end are set
aside if they are among the K best, the others go on; an item is done when K captions are set aside and the best one
that goes on has no better score. With a shortest length the rest of the distribution is renormalised, as where captions
are sampled, so that log-probabilities mean the same. Reordering beams moves rows of a mask, not keys and values.

Shapes: B items, K beams, P prefix tokens, T tokens of the longest caption, W width, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evlgen.errors import UsageError
from evlgen.modeling.distribution import SamplingDistribution
from evlgen.modeling.language import FrozenLanguageModel
from evlgen.modeling.prefix_cache import SharedPrefix
from evlgen.modeling.sampling import SampledCaptions


@torch.no_grad()
def beam_captions(
    language: FrozenLanguageModel,
    prefix_BPW: Tensor,
    *,
    beams: int,
    max_new_tokens: int = 30,
    min_new_tokens: int = 0,
    length_penalty: float = 1.0,
) -> SampledCaptions:
    """All K captions that a beam search ends with, best first.

    Args:
        language: the frozen language model.
        prefix_BPW: what stands before a caption.
        beams: K, 2 or more.
        max_new_tokens: longest caption in tokens, end token included.
        min_new_tokens: shortest caption in tokens, end token not included.
        length_penalty: scores are log-probabilities divided by (tokens ** length_penalty).

    Raises:
        UsageError: fewer than two beams, or more than half of the vocabulary.
    """
    end, device, size = language.end_token_id, prefix_BPW.device, len(language.head_weight)
    if beams < 2 or 2 * beams > size:
        raise UsageError(f"{beams} beams, expected 2 or more and at most half of the {size} tokens")
    distribution = SamplingDistribution(end, min_new_tokens=min_new_tokens)
    batch = len(prefix_BPW)
    done_ids = torch.full((batch, beams, max_new_tokens), end, device=device)
    done_tokens = torch.zeros(batch, beams, dtype=torch.int64, device=device)
    done_log_p = torch.full((batch, beams), -torch.inf, device=device)
    done_score = done_log_p.clone()

    shared = SharedPrefix(language, prefix_BPW)
    items = torch.arange(batch, device=device)  # those that are not done
    ids = torch.full((batch, 1, max_new_tokens), end, device=device)
    log_p = torch.zeros(batch, 1, device=device)
    hidden = shared.last_hidden_BW.unsqueeze(1)
    for t in range(max_new_tokens):
        logits = F.linear(hidden.flatten(0, 1), language.head_weight).float()
        logits = distribution.restrict_(logits, torch.full((len(logits),), t, device=device))
        after = log_p.unsqueeze(2) + logits.log_softmax(1).reshape(*hidden.shape[:2], size)
        best, index = after.flatten(1).topk(2 * beams)
        parent, token = index // size, index % size
        ids = ids.gather(1, parent.unsqueeze(2).expand(-1, -1, max_new_tokens))
        ids[:, :, t] = token

        length = float(t + 1) ** length_penalty
        stops = token == end if t + 1 < max_new_tokens else torch.ones_like(token, dtype=torch.bool)
        score = (best / length).masked_fill(~stops, -torch.inf)
        score[:, beams:] = -torch.inf
        merged, order = torch.cat([done_score[items], score], dim=1).topk(beams)
        tokens = torch.cat([done_tokens[items], torch.full_like(token, t + 1)], dim=1)
        done_score[items], done_tokens[items] = merged, tokens.gather(1, order)
        done_log_p[items] = torch.cat([done_log_p[items], best], dim=1).gather(1, order)
        wide = order.unsqueeze(2).expand(-1, -1, max_new_tokens)
        done_ids[items] = torch.cat([done_ids[items], ids], dim=1).gather(1, wide)

        log_p, order = best.masked_fill(stops, -torch.inf).topk(beams)
        ids = ids.gather(1, order.unsqueeze(2).expand(-1, -1, max_new_tokens))
        parent = parent.gather(1, order)
        going = (log_p[:, 0] / length > merged[:, -1]).nonzero().squeeze(1)
        if t + 1 == max_new_tokens or not len(going):
            break
        if t:
            shared.select(parent)
        if len(going) < len(items):
            shared.keep(going)
            items, ids, log_p = items[going], ids[going], log_p[going]
        hidden = shared.step(ids[:, :, t])
    position = (done_tokens - 1).unsqueeze(2)
    ended = done_ids.gather(2, position).squeeze(2) == end
    longest = int(done_tokens.max())
    return SampledCaptions(done_ids[..., :longest].cpu(), done_tokens.cpu(), ended.cpu(), done_log_p.cpu())
