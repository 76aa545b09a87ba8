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


@dataclass
class Rows:
    """Items of unlike lengths laid one behind the other in few rows, so that hardly a token is padding.

    A batch of captions, each in a row of its own, would be padded to its longest: a quarter of MSR-VTT's tokens.

    Attributes:
        item, at: (R, L) which item a token is of, and its position there; 0 in the padding.
        filled: (R, L) False in the padding.
        place: (B, S) where each position of an item is, in the rows one after the other; 0 in the padding.
    """

    item: Tensor
    at: Tensor
    filled: Tensor
    place: Tensor

    def to(self, device: torch.device | str) -> Rows:
        """Move every tensor."""
        return Rows(*(tensor.to(device) for tensor in vars(self).values()))

    def lay(self, x_BSW: Tensor) -> Tensor:
        """(R, L, ...) of what items have at their positions."""
        found: Tensor = x_BSW.flatten(0, 1).index_select(0, (self.item * x_BSW.shape[1] + self.at).flatten())
        return found.view(*self.item.shape, *x_BSW.shape[2:])

    def lift(self, x_RLW: Tensor) -> Tensor:
        """(B, S, ...) of what is in the rows: the other way; anything in the padding."""
        found: Tensor = x_RLW.flatten(0, 1).index_select(0, self.place.flatten())
        return found.view(*self.place.shape, *x_RLW.shape[2:])

    def masked(self, mask_BSS: Tensor) -> Tensor:
        """(R, L, L) of the masks inside items; padding looks at itself."""
        item, at = self.item, self.at
        allowed = mask_BSS[item[:, :, None], at[:, :, None], at[:, None, :]]
        allowed &= (item[:, :, None] == item[:, None, :]) & self.filled[:, :, None] & self.filled[:, None, :]
        return allowed | torch.eye(item.shape[1], dtype=torch.bool, device=item.device)


def in_rows(lengths: Sequence[int], longest: int) -> Rows:
    """Lay items out in rows, the longest first, each in the first row that has room for it.

    Args:
        lengths: of the items, at least 1.
        longest: S, how many positions items have with their padding.
    """
    most = max(lengths)
    filled = min((_filled(lengths, width) for width in (most, 2 * most)), key=lambda rows: len(rows[0]) * rows[1])
    rows, width = filled
    item, at = torch.zeros(2, len(rows), width, dtype=torch.int64)
    place = torch.zeros(len(lengths), longest, dtype=torch.int64)
    used = torch.zeros(len(rows), dtype=torch.int64)
    for row, items in enumerate(rows):
        for b in items:
            start = int(used[row])
            there = slice(start, start + lengths[b])
            item[row, there], at[row, there] = b, torch.arange(lengths[b])
            place[b, : lengths[b]] = row * width + torch.arange(there.start, there.stop)
            used[row] += lengths[b]
    return Rows(item, at, torch.arange(width) < used.unsqueeze(1), place)


def _filled(lengths: Sequence[int], width: int) -> tuple[list[list[int]], int]:
    """Which items share a row of this width, and the width."""
    rows: list[list[int]] = []
    room: list[int] = []
    for b in sorted(range(len(lengths)), key=lambda b: -lengths[b]):
        row = next((r for r, left in enumerate(room) if left >= lengths[b]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(width)
        rows[row].append(b)
        room[row] -= lengths[b]
    return rows, width


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
