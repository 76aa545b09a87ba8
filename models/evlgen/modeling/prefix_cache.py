"""Many continuations of one prefix, one token a step, with a key-value cache that holds the prefix once.

The prefix of an item (soft prompts and prompt texts) is several times as long as a caption. Its keys and values stand
in the cache once; a step appends a block of one token for each of the item's Q continuations, and a mask lets a
continuation see the prefix and its own tokens. Reordering continuations, as beam search does, moves rows of the mask;
keys and values stay where they are.

Shapes: B items, P prefix tokens, Q continuations of an item, C columns of the cache behind the prefix, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from evlgen.modeling.language_model import LanguageModel


class SharedPrefix:
    """A batch of prefixes that have run through the language model, and what was appended since.

    Prompts of different lengths may follow: they are padded in front of the prefix, where a mask hides the padding and
    positions start behind it, so that a batch of one equals a batch of many.

    Args:
        language: the frozen language model.
        prefix_BPW: prefixes of one length.
        prompts: token ids that follow the prefix, one list an item; it may be empty. None: nobody has any.

    Attributes:
        last_hidden_BW: the hidden states that predict the first token.
        sees_BQC: which columns behind the prefix each continuation is made of.
    """

    def __init__(
        self, language: LanguageModel, prefix_BPW: Tensor, prompts: Sequence[Sequence[int]] | None = None
    ) -> None:
        self._language = language
        self._cache: Any = language.new_cache()
        prefix_BPW, self._seen = language.split(prefix_BPW)
        prefix = prefix_BPW.to(language.embedding_weight.dtype)
        mask = None
        if prompts is not None and any(prompts):
            prefix, mask = append_prompts(language, prefix, prompts)
        batch, self._prefix = prefix.shape[:2]
        device = prefix.device
        self._length = 0
        self._padding_BP = None if mask is None or bool(mask.all()) else mask == 0
        positions = torch.arange(self._prefix, device=device).expand(batch, -1)
        bias = None
        if self._padding_BP is not None:
            positions = (positions - self._padding_BP.sum(1, keepdim=True)).clamp(min=0)
            rows = torch.arange(self._prefix, device=device)
            hidden_from = self._padding_BP[:, None, None, :] & (rows[:, None] != rows)  # padding looks at itself
            bias = torch.zeros(batch, 1, self._prefix, self._prefix, dtype=prefix.dtype, device=device)
            bias.masked_fill_(hidden_from | (rows[:, None] < rows), torch.finfo(prefix.dtype).min)
        self._next_B1 = positions[:, -1:] + 1
        self.last_hidden_BW = self._run(prefix, bias, positions)[:, -1]
        self.sees_BQC = torch.zeros(len(prefix_BPW), 1, 0, dtype=torch.bool, device=prefix_BPW.device)

    def step(self, ids_BQ: Tensor) -> Tensor:
        """Append one token to every continuation; the hidden states (B, Q, W) that predict the next ones."""
        batch, block = ids_BQ.shape
        device, dtype = ids_BQ.device, self._language.embedding_weight.dtype
        own = torch.eye(block, dtype=torch.bool, device=device).expand(batch, block, block)
        self.sees_BQC = torch.cat([self.sees_BQC.expand(batch, block, -1), own], dim=2)
        bias = torch.zeros(batch, 1, block, self._prefix + self.sees_BQC.shape[2], dtype=dtype, device=device)
        bias[..., self._prefix :].masked_fill_(~self.sees_BQC.unsqueeze(1), torch.finfo(dtype).min)
        if self._padding_BP is not None:
            bias[..., : self._prefix].masked_fill_(self._padding_BP[:, None, None, :], torch.finfo(dtype).min)
        at = self._next_B1 + self._length
        self._length += 1
        return self._run(self._language.embed(ids_BQ), bias, at.expand(batch, block))

    def select(self, continuations_BQ: Tensor) -> None:
        """Go on with these continuations of each item; one may be named several times or not at all."""
        index = continuations_BQ.unsqueeze(2).expand(-1, -1, self.sees_BQC.shape[2])
        self.sees_BQC = self.sees_BQC.gather(1, index)

    def keep(self, items: Tensor) -> None:
        """Go on with these items of the batch only."""
        self._cache.batch_select_indices(items)
        self._next_B1 = self._next_B1[items]
        self._padding_BP = None if self._padding_BP is None else self._padding_BP[items]
        self._seen = None if self._seen is None else self._seen[items]
        self.sees_BQC = self.sees_BQC[items]

    def _run(self, embeddings_BTW: Tensor, bias: Tensor | None, positions_BT: Tensor) -> Tensor:
        with self._language.looking_at(self._seen):
            return self._language.run(embeddings_BTW, bias, positions_BT, self._cache)


def append_prompts(
    language: LanguageModel, prefix_BPW: Tensor, prompts: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor]:
    """Prefixes with prompts behind them (B, T, W), padded on the left, and the mask (B, T) that is 0 in the padding.

    Args:
        language: whose embeddings prompts get.
        prefix_BPW: prefixes of one length.
        prompts: token ids, one list an item; it may be empty.
    """
    longest = max(len(ids) for ids in prompts)
    batch, prefix, width = prefix_BPW.shape
    joined = prefix_BPW.new_zeros(batch, prefix + longest, width)
    mask = torch.zeros(batch, prefix + longest, dtype=torch.int64, device=prefix_BPW.device)
    for b, ids in enumerate(prompts):
        start = longest - len(ids)
        joined[b, start : start + prefix] = prefix_BPW[b]
        if ids:
            embedded = language.embed(torch.tensor(ids, device=prefix_BPW.device))
            joined[b, start + prefix :] = embedded.to(joined.dtype)
        mask[b, start:] = 1
    return joined, mask
