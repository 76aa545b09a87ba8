"""Many captions of one picture in one sequence, behind one shared prefix (soft prompts and prompt texts).

The prefix is the expensive part of a short caption's sequence. Packed, it runs once: caption tokens see the prefix and
their own caption only (a block mask), positions restart after the prefix for every caption, and logits are needed at
caption positions only. A caption may have a prompt of its own in front, say a question: it is read and not predicted.
Losses and gradients equal those of separate sequences.

Shapes: B items, P prefix tokens, T caption tokens of the longest item, K captions of an item, M predicted tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

LEAST_GROUP_ITEMS = 4


class PromptedIds(list[int]):
    """Token ids to predict, end token included, and the prompt that they follow, which is read only.

    Attributes:
        prompt: token ids.
    """

    def __init__(self, ids: Iterable[int], prompt: Sequence[int]) -> None:
        super().__init__(ids)
        self.prompt = prompt


@dataclass
class PackedCaptions:
    """Captions of a batch, ready to follow a prefix of any length.

    Attributes:
        input_ids: (B, T) the captions of an item one after the other, each behind its prompt and without its end token;
            0 in the padding.
        caption_of: (B, T) which caption a token belongs to; -1 in the padding.
        offset: (B, T) position of a token inside its prompt and caption.
        item: (M,) batch index of every predicted token.
        source: (M,) position in (B, T) whose hidden state predicts it; -1: the last token of the prefix.
        target: (M,) the predicted token ids.
        sequence: (M,) index of the caption in the flat list of all captions, to sum per caption.
        place: (M,) position of every predicted token inside its caption, from 0; its prompt does not count.
        captions: how many captions there are in all.
    """

    input_ids: Tensor
    caption_of: Tensor
    offset: Tensor
    item: Tensor
    source: Tensor
    target: Tensor
    sequence: Tensor
    place: Tensor
    captions: int

    def to(self, device: torch.device | str) -> PackedCaptions:
        """Move every tensor."""
        moved: dict[str, Any] = {k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def packed_tokens(ids: Sequence[int]) -> int:
    """Tokens that a caption takes of a packed sequence: its prompt and all but its end token."""
    return len(_prompt(ids)) + len(ids) - 1


def _prompt(ids: Sequence[int]) -> Sequence[int]:
    return ids.prompt if isinstance(ids, PromptedIds) else ()


def with_prompts(
    items: Sequence[Sequence[Sequence[int]]], prompts: Sequence[Sequence[int]]
) -> Sequence[Sequence[Sequence[int]]]:
    """The captions of every item behind the item's own prompt, which goes in front of prompts that they have."""
    if not any(prompts):
        return items
    return [
        [PromptedIds(ids, [*prompt, *_prompt(ids)]) for ids in captions]
        for captions, prompt in zip(items, prompts, strict=True)
    ]


def pack_captions(items: Sequence[Sequence[Sequence[int]]]) -> PackedCaptions:
    """Lay out token ids.

    Args:
        items: for every item its captions, each a list of token ids that ends with the end token; those with a prompt
            are `PromptedIds`.
    """
    longest = max(sum(packed_tokens(ids) for ids in captions) for captions in items)
    shape = (len(items), max(1, longest))
    input_ids, offset = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    caption_of = torch.full(shape, -1, dtype=torch.int64)
    item: list[int] = []
    source: list[int] = []
    target: list[int] = []
    sequence: list[int] = []
    place: list[int] = []
    count = 0
    for b, captions in enumerate(items):
        at = 0
        for k, ids in enumerate(captions):
            prompt, n = _prompt(ids), packed_tokens(ids)
            input_ids[b, at : at + n] = torch.tensor([*prompt, *ids[:-1]], dtype=torch.int64)
            offset[b, at : at + n] = torch.arange(n)
            caption_of[b, at : at + n] = k
            item += [b] * len(ids)
            source += [-1, *range(at, at + n)][len(prompt) :]
            target += list(ids)
            sequence += [count] * len(ids)
            place += range(len(ids))
            count += 1
            at += n
    item_M, source_M, target_M, sequence_M, place_M = (
        torch.tensor(v, dtype=torch.int64) for v in (item, source, target, sequence, place)
    )
    return PackedCaptions(input_ids, caption_of, offset, item_M, source_M, target_M, sequence_M, place_M, count)


def length_groups(packed: PackedCaptions, most: int) -> list[tuple[Tensor, int]]:
    """Items sorted by length and cut into equal parts: (rows, caption tokens of the longest) of each.

    A batch of captions is padded to its longest item; of MSR-VTT's, a quarter of the tokens would be padding.

    Args:
        packed: captions of a batch.
        most: parts; fewer where a part would have less than `LEAST_GROUP_ITEMS` items.
    """
    lengths = (packed.caption_of >= 0).sum(dim=1)
    order = lengths.argsort(stable=True)
    parts = order.chunk(max(1, min(most, len(order) // LEAST_GROUP_ITEMS)))
    return [(rows, max(1, int(lengths[rows[-1]]))) for rows in parts]


def packed_mask(packed: PackedCaptions, prefix: int) -> Tensor:
    """(B, P + T, P + T), True where a row may look: causal, and inside one's own caption or the prefix.

    Padding rows look at themselves, so that no softmax runs over nothing.
    """
    batch, tokens = packed.input_ids.shape
    device = packed.input_ids.device
    label = torch.cat([torch.full((batch, prefix), -2, device=device), packed.caption_of], dim=1)
    row, column = label.unsqueeze(2), label.unsqueeze(1)
    allowed = ((row == column) & (row != -1)) | ((column == -2) & (row != -1))
    causal = torch.ones(prefix + tokens, prefix + tokens, dtype=torch.bool, device=device).tril()
    return (allowed & causal) | torch.eye(prefix + tokens, dtype=torch.bool, device=device)


def packed_positions(packed: PackedCaptions, prefix: int) -> Tensor:
    """(B, P + T): 0..P-1 for the prefix, then P + offset inside each caption."""
    start = torch.arange(prefix, device=packed.input_ids.device).expand(len(packed.input_ids), prefix)
    return torch.cat([start, packed.offset + prefix], dim=1)
