"""What is minimised, as functions of soft prompts.

The caption loss is the paper's only loss (arXiv 2310.03291, section 3.1). The vocabulary loss is a departure for small
data: it pulls soft prompts towards the frozen input embeddings of the words that people used for the picture, so that
they start where the language model can read them.

Shapes: B items, Q soft prompts, W language width, C content tokens.
"""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.modeling.language_model import LanguageModel

# Closed word classes: they say nothing about the picture.
FUNCTION_WORDS = frozenset(
    (
        "a an the this that these those some any each every no and or but nor so yet as than if while when where who "
        "which what whose of in on at by to from with without for into onto over under up down out off through across "
        "along around near next between behind beside above below about against during before after towards toward "
        "upon inside outside is are was were be been being am has have had do does did can could will would shall "
        "should may might must it its he him his she her hers they them their we us our you your i me my one there "
        "here not very just also other another something someone s t"
    ).split()
)


class VocabularyObjective(nn.Module):
    """Binary cross entropy between content words and the soft prompts nearest to their embeddings.

    Args:
        language: its input embeddings are the targets.
        items: the training items; decide which tokens are content tokens.
        min_count: a token counts when so many items have it.

    Raises:
        UsageError: no token is that frequent.
    """

    embeddings_CW: Tensor

    def __init__(self, language: LanguageModel, items: list[CaptionedItem], min_count: int) -> None:
        super().__init__()
        self._words: dict[str, list[int]] = {}
        self._language = [language]  # a list: not a submodule
        counts: Counter[int] = Counter()
        for item in items:
            counts.update({t for caption in item.captions for t in self._tokens(caption)})
        self.content = sorted(t for t, n in counts.items() if n >= min_count)
        if not self.content:
            raise UsageError(
                f"no word of the training captions is in {min_count} items or more", "lower vocabulary.min_count"
            )
        self._column = {t: c for c, t in enumerate(self.content)}
        embeddings = language.embedding_weight[torch.tensor(self.content)].detach().float()
        self.register_buffer("embeddings_CW", F.normalize(embeddings, dim=-1), persistent=False)
        self.scale = nn.Parameter(torch.tensor([20.0]))  # one element, not a scalar: FSDP2 shards no scalars
        self.bias = nn.Parameter(torch.tensor([-10.0]))

    def _tokens(self, caption: str) -> list[int]:
        out: list[int] = []
        for word in caption.split():
            if word not in self._words:
                self._words[word] = [] if word in FUNCTION_WORDS else self._language[0].encode(f" {word}")
            out += self._words[word]
        return out

    def targets(self, items: list[CaptionedItem]) -> Tensor:
        """(B, C): twice the share of an item's captions that have the token, at most 1."""
        out = torch.zeros(len(items), len(self.content))
        for row, item in zip(out, items, strict=True):
            counts = Counter(t for c in item.captions for t in set(self._tokens(c)) if t in self._column)
            for token, n in counts.items():
                row[self._column[token]] = min(1.0, 2 * n / len(item.captions))
        return out

    def forward(self, soft_prompts_BQW: Tensor, targets_BC: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss (per item, nats) and the share of true tokens among each item's five best (or fewer)."""
        cosine_BQC = F.normalize(soft_prompts_BQW.float(), dim=-1) @ self.embeddings_CW.T
        logits_BC = (self.scale * cosine_BQC).logsumexp(dim=1) + self.bias
        loss = F.binary_cross_entropy_with_logits(logits_BC, targets_BC, reduction="sum") / len(targets_BC)
        best = logits_BC.topk(min(5, logits_BC.shape[1]), dim=1).indices
        return loss, (targets_BC.gather(1, best) > 0).float().mean()
