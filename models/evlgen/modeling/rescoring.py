"""Log-probabilities of sampled captions once more, now with a gradient: one packed pass over all samples of a batch.

What the sampler reports has no graph; policy gradients need one. Captions that were drawn several times for an item
run once, and captions whose gradient nobody wants do not run at all.

Shapes: B items, K samples, P prefix tokens, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from evlgen.modeling.distribution import SamplingDistribution
from evlgen.modeling.packing import PromptedIds, pack_captions

if TYPE_CHECKING:
    from evlgen.modeling.model import EVLGenForConditionalGeneration
    from evlgen.modeling.sampling import SampledCaptions


def sampled_log_probabilities(
    model: EVLGenForConditionalGeneration,
    prefix_BPW: Tensor,
    captions: SampledCaptions,
    *,
    prompts: Sequence[Sequence[int]] | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    min_new_tokens: int = 0,
    wanted_BK: Tensor | None = None,
) -> Tensor:
    """(B, K): log-probability of each caption under the distribution it was drawn from, in nats.

    Args:
        model: the model.
        prefix_BPW: the prefixes the captions were drawn behind; the result is differentiable in them.
        captions: what `sample_captions` returned.
        prompts: as given to `sample_captions`.
        temperature: as given to `sample_captions`, like `top_p` and `min_new_tokens`.
        top_p: the nucleus is computed anew and is a constant to the gradient; a token that was drawn belongs to it.
        min_new_tokens: the end token has probability 0 in so many positions.
        wanted_BK: False for captions that get no gradient (an advantage of 0): they keep the sampler's value.
    """
    device = prefix_BPW.device
    distribution = SamplingDistribution(model.language.end_token_id, temperature, top_p, min_new_tokens)
    wanted = torch.ones_like(captions.ended) if wanted_BK is None else wanted_BK.cpu()
    rows: list[int] = []
    packed_ids: list[list[PromptedIds]] = []
    where: list[tuple[int, int, int]] = []  # item, sample, and number of its caption among the packed ones
    packed_count = 0
    for b, (item, chosen) in enumerate(zip(captions.token_ids(), wanted.tolist(), strict=True)):
        distinct: dict[tuple[int, ...], int] = {}
        for k, (ids, is_wanted) in enumerate(zip(item, chosen, strict=True)):
            if is_wanted:
                where.append((b, k, packed_count + distinct.setdefault(tuple(ids), len(distinct))))
        if distinct:
            rows.append(b)
            packed_ids.append([PromptedIds(ids, () if prompts is None else prompts[b]) for ids in distinct])
            packed_count += len(distinct)
    result = captions.log_probabilities.to(device)
    if not rows:
        return result
    packed = pack_captions(packed_ids).to(device)
    token_log_p = model.log_probabilities(prefix_BPW[rows], packed, None if distribution.plain else distribution)
    per_caption = torch.zeros(packed.captions, dtype=token_log_p.dtype, device=device)
    per_caption = per_caption.index_add(0, packed.sequence, token_log_p)
    b_index, k_index, number = torch.tensor(where, device=device).unbind(1)
    return result.to(per_caption.dtype).index_put((b_index, k_index), per_caption[number])
