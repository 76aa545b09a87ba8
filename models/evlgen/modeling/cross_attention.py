"""Cross-attention inside the frozen language model: its layers look at the soft prompts instead of reading them.

Every few layers, the text looks at the soft prompts before the layer runs (Flamingo, arXiv 2204.14198, section 2.2; its
gate is here an output map that starts at 0, so that the model is the frozen one at first). Soft prompts then take no
places in front of the text: a caption's sequence is as long as its words, and keys and values are computed once.

Shapes: B items, T tokens, Q soft prompts, W width, H heads, L layers that look.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.configuration import CrossAttentionConfig
from evlgen.modeling.packing import Rows

MARK = ".cross_attention."
"""In the names of their parameters, and in no other's."""


@dataclass(frozen=True)
class Seen:
    """What the layers of a batch look at.

    Attributes:
        keys_values: of the soft prompts, for every layer that looks: (L, 2, B, H, Q, W / H).
        rows: where the items' tokens are, if they were laid in rows; None: every item has a row of its own.
    """

    keys_values: Tensor
    rows: Rows | None = None

    def __getitem__(self, items: Tensor) -> Seen:
        """Those of some items of the batch."""
        return Seen(self.keys_values[:, :, items])


class _Look(nn.Module):
    """The part of one layer: norm, query and output maps."""

    def __init__(self, width: int, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.query = nn.Linear(width, width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        nn.init.normal_(self.query.weight, std=width**-0.5)
        nn.init.zeros_(self.output.weight)

    def forward(self, x_BTW: Tensor, keys_BHQD: Tensor, values_BHQD: Tensor, rows: Rows | None = None) -> Tensor:
        """What the tokens find, (B, T, W): added to them.

        Args:
            x_BTW: the tokens.
            keys_BHQD: of the soft prompts, H heads of D channels.
            values_BHQD: of the soft prompts.
            rows: how the texts of items lie in rows; None: an item a row.
        """
        query = self._query(x_BTW, rows)
        found = F.scaled_dot_product_attention(
            query, keys_BHQD.to(query.dtype), values_BHQD.to(query.dtype), dropout_p=self.dropout * self.training
        )
        found = found.transpose(1, 2).flatten(2)
        y = self.output(found if rows is None else rows.lay(found))
        return x_BTW + F.dropout(y, self.dropout, self.training).to(x_BTW.dtype)

    def _query(self, x_BTW: Tensor, rows: Rows | None = None) -> Tensor:
        query: Tensor = self.query(self.norm(x_BTW.to(self.norm.weight.dtype)))
        query = query if rows is None else rows.lift(query)
        return query.view(*query.shape[:2], self.heads, -1).transpose(1, 2)

    def attention(self, x_BTW: Tensor, keys_BHQD: Tensor) -> Tensor:
        """How much each token looks at each soft prompt: probabilities (B, H, T, Q), rows sum to 1."""
        query = self._query(x_BTW)
        scores = query.float() @ keys_BHQD.float().transpose(2, 3)
        probabilities: Tensor = (scores * query.shape[-1] ** -0.5).softmax(-1)
        return probabilities


class CrossAttention(nn.Module):
    """All of a language model's layers that look at soft prompts.

    Args:
        layers: transformers' layers of the language model; their input is changed by hooks, they are not.
        width: of the language model.
        config: which layers, heads, dropout.
    """

    def __init__(self, layers: nn.ModuleList, width: int, config: CrossAttentionConfig) -> None:
        super().__init__()
        self.heads = config.heads
        chosen = range(0, len(layers), config.every)
        self.looks = nn.ModuleList(_Look(width, config) for _ in chosen)
        self.keys_values = nn.Linear(width, len(chosen) * 2 * width, bias=False)
        nn.init.normal_(self.keys_values.weight, std=width**-0.5)
        self._seen: Seen | None = None
        for number, layer in enumerate(chosen):
            layers[layer].register_forward_pre_hook(_Hook(self, number))

    def seen(self, soft_BQW: Tensor) -> Seen:
        """Keys and values of soft prompts, for all layers at once."""
        batch, count, width = soft_BQW.shape
        both = self.keys_values(soft_BQW.to(self.keys_values.weight.dtype))
        shape = (batch, count, len(self.looks), 2, self.heads, width // self.heads)
        return Seen(both.view(shape).permute(2, 3, 0, 4, 1, 5))

    @contextmanager
    def looking_at(self, seen: Seen | None) -> Iterator[None]:
        """While the language model runs: what its layers look at."""
        self._seen = seen
        try:
            yield
        finally:
            self._seen = None


class _Hook:
    """Runs before a layer; not a module of the layer, so that its names and its number of parts stay."""

    def __init__(self, owner: CrossAttention, number: int) -> None:
        self.owner, self.number = [owner], number  # a list: a module inside would be registered with the layer

    def __call__(self, layer: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        owner = self.owner[0]
        seen = owner._seen
        assert seen is not None, "the language model runs outside of looking_at"
        keys, values = seen.keys_values[self.number]
        return (owner.looks[self.number](arguments[0], keys, values, seen.rows), *arguments[1:])
