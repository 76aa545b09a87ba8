"""Beam search and greedy decoding behind a prefix that runs once: all captions that a search ends with.

The search is that of transformers (`early_stopping=False`): of the 2 K best continuations those that end are set
aside if they are among the K best, the others go on; an item is done when K captions are set aside and the best one
that goes on has no better score. With one beam the most likely token is taken until it is the end token. Reordering
beams moves rows of a mask, not keys and values; items that are done leave the batch; what the search adds up is the
captions' log-probability, so that nothing has to run twice.

Shapes: B items, K beams, P prefix tokens, T tokens of the longest caption, W width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from evlgen.errors import UsageError
from evlgen.modeling.distribution import SamplingDistribution
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.prefix_cache import SharedPrefix
from evlgen.modeling.sampling import SampledCaptions


@torch.no_grad()
def beam_captions(
    language: LanguageModel,
    prefix_BPW: Tensor,
    *,
    beams: int,
    prompts: Sequence[Sequence[int]] | None = None,
    max_new_tokens: int = 30,
    min_new_tokens: int = 0,
    length_penalty: float = 1.0,
    processors: Any = None,
    on_tokens: Callable[[int], None] | None = None,
) -> SampledCaptions:
    """All K captions that a search ends with, best first.

    Args:
        language: the frozen language model.
        prefix_BPW: what stands before a caption.
        beams: K; 1 is greedy decoding.
        prompts: token ids that follow the prefix, one list an item.
        max_new_tokens: longest caption in tokens, end token included.
        min_new_tokens: shortest caption in tokens, end token not included. The rest of the distribution is
            renormalised, as where captions are sampled, and so are the log-probabilities.
        length_penalty: scores are log-probabilities divided by (tokens ** length_penalty).
        processors: a LogitsProcessorList of transformers, in the place of `min_new_tokens`: it changes what the search
            goes by, as in transformers; log-probabilities stay the model's own.
        on_tokens: told after every step how many items have one more token.

    Raises:
        UsageError: more beams than tokens, or none.
    """
    end, device, size = language.end_token_id, prefix_BPW.device, len(language.head_weight)
    if not 1 <= beams <= size:
        raise UsageError(f"{beams} beams, expected 1 or more and at most the {size} tokens there are")
    distribution = SamplingDistribution(end, min_new_tokens=min_new_tokens)
    batch, kept = len(prefix_BPW), 2 * beams if beams > 1 else 1
    done_ids = torch.full((batch, beams, max_new_tokens), end, device=device)
    done_tokens = torch.zeros(batch, beams, dtype=torch.int64, device=device)
    done_log_p = torch.zeros(batch, beams, device=device)
    done_score = torch.full((batch, beams), -torch.inf, device=device)

    shared = SharedPrefix(language, prefix_BPW, prompts)
    items = torch.arange(batch, device=device)  # those that are not done
    ids = torch.full((batch, 1, max_new_tokens), end, device=device)
    searched, own = (torch.zeros(batch, 1, device=device) for _ in range(2))  # sums: by the search, by the model
    hidden = shared.last_hidden_BW.unsqueeze(1)
    for t in range(max_new_tokens):
        logits = language.logits(hidden.flatten(0, 1))
        if processors is None:
            logits = distribution.restrict_(logits, torch.full((len(logits),), t, device=device))
            scores = logits
        else:
            scores = processors(ids.flatten(0, 1)[:, :t], logits.clone() if beams == 1 else logits.log_softmax(1))
        # the best of a continuation are the best of its logits: V numbers are gone through, and not written again
        norm = logits.logsumexp(1, keepdim=True)
        highest, tokens_of = scores.topk(min(kept, size))
        log_p = (logits.gather(1, tokens_of) - norm).reshape(len(items), -1)
        gain = log_p if processors is None else highest.reshape(len(items), -1)
        after = searched.repeat_interleave(highest.shape[1], 1) + gain
        best, index = after.topk(min(kept, after.shape[1]))
        if missing := kept - best.shape[1]:  # more beams than the first step has tokens
            best, index = F.pad(best, (0, missing), value=-torch.inf), F.pad(index, (0, missing))
        parent, token = index // highest.shape[1], tokens_of.reshape(len(items), -1).gather(1, index)
        own = own.gather(1, parent) + log_p.gather(1, index)
        ids = ids.gather(1, parent.unsqueeze(2).expand(-1, -1, max_new_tokens))
        ids[:, :, t] = token
        if on_tokens is not None:
            on_tokens(len(items))

        length = float(t + 1) ** length_penalty
        stops = token == end if t + 1 < max_new_tokens else torch.ones_like(token, dtype=torch.bool)
        score = (best / length).masked_fill(~stops, -torch.inf)
        score[:, beams:] = -torch.inf
        merged, order = torch.cat([done_score[items], score], dim=1).topk(beams)
        tokens = torch.cat([done_tokens[items], torch.full_like(token, t + 1)], dim=1)
        done_score[items], done_tokens[items] = merged, tokens.gather(1, order)
        done_log_p[items] = torch.cat([done_log_p[items], own], dim=1).gather(1, order)
        wide = order.unsqueeze(2).expand(-1, -1, max_new_tokens)
        done_ids[items] = torch.cat([done_ids[items], ids], dim=1).gather(1, wide)

        searched, order = best.masked_fill(stops, -torch.inf).topk(beams)
        ids = ids.gather(1, order.unsqueeze(2).expand(-1, -1, max_new_tokens))
        parent, own = parent.gather(1, order), own.gather(1, order)
        better = searched[:, 0] / length > merged[:, -1] if beams > 1 else ~stops[:, 0]
        going = better.nonzero().squeeze(1)
        if t + 1 == max_new_tokens or not len(going):
            break
        if t and beams > 1:
            shared.select(parent)
        if len(going) < len(items):
            shared.keep(going)
            items, ids, searched, own = items[going], ids[going], searched[going], own[going]
        if beams == 1:
            searched = torch.zeros_like(searched)  # logits do not add up to anything
        hidden = shared.step(ids[:, :, t])
    position = (done_tokens - 1).clamp(min=0).unsqueeze(2)
    ended = done_ids.gather(2, position).squeeze(2) == end
    longest = int(done_tokens.max())
    return SampledCaptions(done_ids[..., :longest].cpu(), done_tokens.cpu(), ended.cpu(), done_log_p.cpu())
