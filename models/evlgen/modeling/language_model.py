"""What the EVLGen model asks of its frozen language model, whoever runs its layers.

Shapes: B items, T tokens, P prefix tokens, C columns of a cache, W width, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import LanguageConfig
from evlgen.errors import UsageError
from evlgen.modeling.adapters import MARK
from evlgen.modeling.cross_attention import CrossAttention, Seen
from evlgen.modeling.packing import PromptedIds

_CAPTIONS_ONLY, _LOAD_WHOLE = "this language model was loaded for captions only", "load it without captions_only"


class LanguageModel(nn.Module, ABC):
    """A causal language model with its tokenizer: texts to tokens, tokens to embeddings, embeddings to hidden states.

    Args:
        config: which model, and the texts around soft prompts.
        tokenizer: its tokenizer; it has transformers' `encode` and `decode`.

    Raises:
        UsageError: `end_text` is not one token behind a caption.
    """

    def __init__(self, config: LanguageConfig, tokenizer: Any) -> None:
        super().__init__()
        self.config = config
        self.tokenizer: Any = tokenizer
        self.end_token_id = end_token(tokenizer, config.end_text)
        self._texts_around = tuple(len(self.encode(text)) for text in (config.prompt_before, config.prompt_after))
        self.cross_attention: CrossAttention | None = None

    def _look(self) -> None:
        """Check the width, and let layers look at soft prompts where the configuration says so."""
        width = self.embedding_weight.shape[1]
        if width != self.config.width:
            raise UsageError(f"language.width is {self.config.width}, but the model's embeddings have {width}")
        if self.config.cross_attention is not None:
            self.cross_attention = CrossAttention(self.layers, width, self.config.cross_attention)

    @property
    @abstractmethod
    def layers(self) -> Any:
        """Its transformer layers, a ModuleList."""

    @property
    @abstractmethod
    def embedding_weight(self) -> Tensor:
        """Input embeddings (V, W)."""

    @property
    @abstractmethod
    def head_weight(self) -> Tensor:
        """Output embeddings (V, W)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., V), in float32, of last hidden states (..., W)."""
        return F.linear(hidden, self.head_weight).float()

    def halve_matrices(self) -> None:
        """Keep matrices in float16 for products in float32, where there is a way; here there is none."""

    @property
    @abstractmethod
    def most_positions(self) -> int | None:
        """The most tokens that it takes; None: nobody says."""

    @abstractmethod
    def new_cache(self) -> Any:
        """An empty cache of keys and values for `run`; its `batch_select_indices` leaves items out."""

    @abstractmethod
    def run(self, embeddings_BTW: Tensor, bias_B1TC: Tensor | None, positions_BT: Tensor, cache: Any = None) -> Tensor:
        """Last hidden states (B, T, W), without what layers look at.

        Args:
            embeddings_BTW: inputs.
            bias_B1TC: added to attention scores; None: every token sees those before it.
            positions_BT: position of every token.
            cache: of `new_cache`, with the tokens before these; theirs are appended.
        """

    def adapters(self) -> list[nn.Parameter]:
        """Parameters of LoRA; none without it."""
        return [p for n, p in self.named_parameters() if MARK in n]

    def adapters_uncast(self) -> AbstractContextManager[None]:
        """Adapters take what they get, without a copy in their own precision: under autocast, which casts by itself."""
        return nullcontext()

    def use_attention(self, implementation: str) -> None:
        """Choose the attention ("sdpa", "eager"), for training."""
        raise UsageError(_CAPTIONS_ONLY, _LOAD_WHOLE)

    def recompute_layers(self) -> None:
        """Compute layers again in the backward pass: less memory."""
        raise UsageError(_CAPTIONS_ONLY, _LOAD_WHOLE)

    def encode(self, text: str) -> list[int]:
        """Token ids without special tokens, except those spelled out in the text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def encode_caption(self, caption: str, prompt: str = "") -> list[int]:
        """Token ids of a caption with its end token, at most `max_text_tokens`; with a prompt, `PromptedIds`."""
        before = self.encode_prompt(prompt)
        ids = self._encode_behind(prompt.rstrip(" "), before, caption) if before else self.encode(caption)
        ids = [*ids[: self.config.max_text_tokens - 1], self.end_token_id]
        return PromptedIds(ids, before) if before else ids

    def _encode_behind(self, prompt: str, before: list[int], text: str) -> list[int]:
        """Token ids that a text has where it goes on from a prompt: its first word brings the blank between them."""
        blank = "" if prompt[-1:].isspace() else " "
        both = self.encode(f"{prompt}{blank}{text}")
        return both[len(before) :] if both[: len(before)] == before else self.encode(text)

    def encode_prompt(self, prompt: str) -> list[int]:
        """Token ids of a text that a caption goes on from. Blanks at its end are dropped: words bring their own."""
        return self.encode(prompt.rstrip(" "))

    def embed(self, ids: Tensor) -> Tensor:
        """Input embeddings of token ids, in the model's precision."""
        return F.embedding(ids, self.embedding_weight)

    def split(self, prefix_BPW: Tensor) -> tuple[Tensor, Seen | None]:
        """What of a prefix is read, and what is looked at: all and None, or with cross-attention its soft prompts."""
        if self.cross_attention is None:
            return prefix_BPW, None
        before, after = self._texts_around
        end = prefix_BPW.shape[1] - after
        read = torch.cat([prefix_BPW[:, :before], prefix_BPW[:, end:]], dim=1)
        return read, self.cross_attention.seen(prefix_BPW[:, before:end])

    def looking_at(self, seen: Seen | None) -> AbstractContextManager[None]:
        """While the language model runs: what its layers look at."""
        return nullcontext() if self.cross_attention is None else self.cross_attention.looking_at(seen)

    def hidden_states(
        self, embeddings_BTW: Tensor, mask_BTT: Tensor, positions_BT: Tensor, seen: Seen | None = None
    ) -> Tensor:
        """Last hidden states (B, T, W).

        Args:
            embeddings_BTW: inputs.
            mask_BTT: True where row may look at column.
            positions_BT: position of every token.
            seen: of the prefix that was split.
        """
        dtype = self.embedding_weight.dtype
        bias = torch.zeros(mask_BTT.shape, dtype=dtype, device=mask_BTT.device)
        bias.masked_fill_(~mask_BTT, torch.finfo(dtype).min)
        with self.looking_at(seen):
            return self.run(embeddings_BTW.to(dtype), bias.unsqueeze(1), positions_BT)


def end_token(tokenizer: Any, end_text: str) -> int:
    """The token that ends a caption.

    SentencePiece tokenizers (Llama, Vicuna) put a blank in front of every text, so that a line break by itself is two
    tokens. Behind a caption it is one, and that is the one that captions are trained and generated with.

    Raises:
        UsageError: it is not one token there either.
    """
    alone, word, both = (tokenizer.encode(t, add_special_tokens=False) for t in (end_text, "a", f"a{end_text}"))
    if len(alone) == 1:
        return int(alone[0])
    if len(alone) > 1 and both[:-1] == word:
        return int(both[-1])
    raise UsageError(
        f"language.end_text {end_text!r} is {len(alone)} tokens, expected one",
        "name a special token of the tokenizer, or a line break",
    )
