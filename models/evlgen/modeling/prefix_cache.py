"""Many continuations of one prefix, one token a step, with a key-value cache that holds the prefix once.

The prefix of an item (soft prompts and prompt texts) is several times as long as a caption. Its keys and values stand
in the cache once; a step appends a block of one token for each of the item's Q continuations, and a mask lets a
continuation see the prefix and its own tokens. Reordering continuations, as beam search does, moves rows of the mask;
keys and values stay where they are.

Shapes: B items, P prefix tokens, Q continuations of an item, C columns of the cache behind the prefix, W width.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from evlgen.modeling.language import FrozenLanguageModel


class SharedPrefix:
    """A batch of prefixes that have run through the language model, and what was appended since.

    Args:
        language: the frozen language model.
        prefix_BPW: prefixes of one length.

    Attributes:
        last_hidden_BW: the hidden states that predict the first token.
        sees_BQC: which columns behind the prefix each continuation is made of.
    """

    def __init__(self, language: FrozenLanguageModel, prefix_BPW: Tensor) -> None:
        self._language = language
        self._body: Any = language.model.base_model
        # transformers renamed the argument in 5.2x; both names are public
        named = inspect.signature(self._body.forward).parameters
        self._argument = "cache" if "cache" in named else "past_key_values"
        self._cache: Any = DynamicCache(config=language.model.config)
        self._prefix = prefix_BPW.shape[1]
        self._length = 0
        hidden = self._run(prefix_BPW.to(language.embedding_weight.dtype), None, self._positions(0, self._prefix))
        self.last_hidden_BW = hidden[:, -1]
        self.sees_BQC = torch.zeros(len(prefix_BPW), 1, 0, dtype=torch.bool, device=prefix_BPW.device)

    def step(self, ids_BQ: Tensor) -> Tensor:
        """Append one token to every continuation; the hidden states (B, Q, W) that predict the next ones."""
        batch, block = ids_BQ.shape
        device, dtype = ids_BQ.device, self._language.embedding_weight.dtype
        own = torch.eye(block, dtype=torch.bool, device=device).expand(batch, block, block)
        self.sees_BQC = torch.cat([self.sees_BQC.expand(batch, block, -1), own], dim=2)
        bias = torch.zeros(batch, 1, block, self._prefix + self.sees_BQC.shape[2], dtype=dtype, device=device)
        bias[..., self._prefix :].masked_fill_(~self.sees_BQC.unsqueeze(1), torch.finfo(dtype).min)
        at = self._prefix + self._length
        self._length += 1
        return self._run(self._language.embed(ids_BQ), bias, self._positions(at, at + 1).expand(1, block))

    def select(self, continuations_BQ: Tensor) -> None:
        """Go on with these continuations of each item; one may be named several times or not at all."""
        index = continuations_BQ.unsqueeze(2).expand(-1, -1, self.sees_BQC.shape[2])
        self.sees_BQC = self.sees_BQC.gather(1, index)

    def keep(self, items: Tensor) -> None:
        """Go on with these items of the batch only."""
        self._cache.batch_select_indices(items)
        self.sees_BQC = self.sees_BQC[items]

    def _positions(self, start: int, end: int) -> Tensor:
        return torch.arange(start, end, device=self._language.embedding_weight.device).unsqueeze(0)

    def _run(self, embeddings_BTW: Tensor, bias: Tensor | None, positions: Tensor) -> Tensor:
        out: Tensor = self._body(
            inputs_embeds=embeddings_BTW,
            attention_mask=bias,
            position_ids=positions.expand(len(embeddings_BTW), -1),
            use_cache=True,
            **{self._argument: self._cache},
        ).last_hidden_state
        return out
