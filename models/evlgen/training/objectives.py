"""What is minimised, as functions of soft prompts.

The caption loss is the paper's only loss (arXiv 2310.03291, section 3.1). The vocabulary loss is a departure for small
data: it pulls soft prompts towards the frozen input embeddings of the words that people used for the picture, so that
they start where the language model can read them.

BLIP-2's first stage, before the language model is used, has three losses on one picture and one caption of each item
(arXiv 2301.12597, section 3.2): contrast of pictures and texts, matching of pairs with hard negatives, and captions
that the Q-Former writes by itself. transformers' own Q-Former with a text branch runs every pass. Attention,
cross-attention and the queries' feed-forward networks are the connector's own modules, so they go on into the second
stage; what belongs to texts alone, and the heads, end with the first. As in the paper, but for one thing: negatives
come from the micro-batch of this process, not from those of all.

Shapes: B items, Q soft prompts or queries, W language width, C content tokens or channels, N visual tokens, D vision
width, T tokens of the longest text, V word pieces.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from evlgen.data.caption_sources import CaptionedItem
from evlgen.errors import UsageError
from evlgen.modeling.connectors import QFormer
from evlgen.modeling.language_model import LanguageModel
from evlgen.modeling.tomeformer import bert_tensors
from evlgen.recipes.schema import RepresentationConfig

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


REPRESENTATION_LOSSES = ("contrast", "matching", "generation")
SMOOTHING = 0.1  # of the targets of contrast and captions, as BLIP-2's code has it
_LEAST_WEIGHT = 1e-4  # of a negative, so that each can be drawn


class RepresentationObjective(nn.Module):
    """The three losses.

    Args:
        connector: the Q-Former that learns.
        config: sizes.
        tokenizer: a `tokenizer.json` with BERT's special tokens.
        bert: a BERT checkpoint that word embeddings and the texts' feed-forward networks start from; None: random.

    Raises:
        UsageError: the tokenizer lacks a special token, or the checkpoint has no embeddings of its size.
    """

    def __init__(
        self, connector: QFormer, config: RepresentationConfig, tokenizer: Path, bert: dict[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        from tokenizers import Tokenizer
        from transformers import Blip2QFormerModel

        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(config.max_text_tokens)
        self._tokenizer.no_padding()  # published files pad every text to one length
        special = {token: self._tokenizer.token_to_id(token) for token in ("[PAD]", "[CLS]", "[SEP]")}
        if missing := [token for token, number in special.items() if number is None]:
            raise UsageError(f"{tokenizer} has no {', '.join(missing)}", "name the tokenizer.json of a BERT")
        self._pad, self._begin = special["[PAD]"], self._tokenizer.get_vocab_size()  # [DEC] is a token of its own
        own = connector.qformer
        sizes = type(own.config).from_dict({**own.config.to_dict(), "use_qformer_text_input": True})
        both = Blip2QFormerModel(sizes)
        self.texts = nn.ModuleList()
        for mine, theirs in zip(own.encoder.layer, both.encoder.layer, strict=True):
            self.texts.append(nn.ModuleDict({"intermediate": theirs.intermediate, "output": theirs.output}))
            for name, part in mine.named_children():
                setattr(theirs, name, part)
        both.layernorm, both.dropout = own.layernorm, own.dropout
        self._shared: list[Any] = [connector, both]  # a list: the connector's parameters are the model's
        width, eps = sizes.hidden_size, sizes.layer_norm_eps
        self.word_embeddings = nn.Embedding(self._begin + 1, width)
        self.position_embeddings = nn.Embedding(config.max_text_tokens, width)
        self.see, self.read = nn.Linear(width, config.contrast_width), nn.Linear(width, config.contrast_width)
        self.match = nn.Linear(width, 2)
        self.write = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=eps))
        self.write_bias = nn.Parameter(torch.zeros(self._begin + 1))
        self.temperature = nn.Parameter(torch.tensor([0.07]))  # one element, not a scalar: checkpoints keep vectors
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Embedding):
                nn.init.normal_(part.weight, std=0.02)
        if bert is not None:
            self._start_from(bert_tensors(bert))

    @torch.no_grad()
    def _start_from(self, bert: dict[str, Tensor]) -> None:
        words = bert.get("embeddings.word_embeddings.weight", torch.empty(0))
        if words.shape != (self._begin, self.word_embeddings.embedding_dim):
            raise UsageError(
                f"representation.tokenizer has {self._begin} word pieces, the embeddings of model.connector.source are "
                f"{tuple(words.shape)}",
                "name the tokenizer of that BERT",
            )
        self.word_embeddings.weight[: self._begin] = words.float()
        places = bert["embeddings.position_embeddings.weight"][: len(self.position_embeddings.weight)]
        self.position_embeddings.weight[: len(places)] = places.float()
        for number, layer in enumerate(self.texts):
            for name, value in layer.state_dict().items():
                value.copy_(bert[f"encoder.layer.{number}.{name}"])

    def tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Word pieces (B, T), each text between [CLS] and [SEP], and where they are no padding."""
        found = [self._tokenizer.encode(text).ids for text in texts]
        longest = max(map(len, found))
        ids = torch.tensor(
            [[*one, *[self._pad] * (longest - len(one))] for one in found], device=self.temperature.device
        )
        lengths = torch.tensor([len(one) for one in found], device=ids.device)
        return ids, torch.arange(longest, device=ids.device) < lengths[:, None]

    def run(
        self, tokens_BND: Tensor | None, ids_BT: Tensor | None, mask_BT: Tensor | None, *, causal: bool = False
    ) -> Tensor:
        """Last hidden states (B, Q + T, C) of the queries, the text, or both.

        Args:
            tokens_BND: visual tokens that the queries look at; None: no queries.
            ids_BT: word pieces; None: no text.
            mask_BT: where they are no padding.
            causal: queries do not look at the text, and its tokens not at those behind them; or all look at all.
        """
        connector, both = self._shared
        given, seen, queries = [], [], 0
        if tokens_BND is not None:
            given.append(connector.query_embeddings.expand(len(tokens_BND), -1, -1))
            queries = given[0].shape[1]
            seen.append(torch.ones(given[0].shape[:2], dtype=torch.bool, device=tokens_BND.device))
        if ids_BT is not None and mask_BT is not None:
            places = self.position_embeddings.weight[: ids_BT.shape[1]]
            given.append(self.word_embeddings(ids_BT) + places)
            seen.append(mask_BT)
        x_BLC, allowed_BL = torch.cat(given, dim=1), torch.cat(seen, dim=1)
        length = x_BLC.shape[1]
        allowed = allowed_BL[:, None, :].expand(-1, length, -1)
        if causal:
            order = torch.ones(length, length, dtype=torch.bool, device=x_BLC.device).tril()
            order[:queries, :queries] = True
            allowed = allowed & order
        bias = torch.zeros(allowed.shape, dtype=x_BLC.dtype, device=x_BLC.device)
        bias.masked_fill_(~allowed, torch.finfo(x_BLC.dtype).min)
        out: Tensor = both(
            query_embeds=x_BLC,
            query_length=queries,
            attention_mask=bias.unsqueeze(1),
            encoder_hidden_states=tokens_BND,
        ).last_hidden_state
        return out

    def forward(self, tokens_BND: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
        """The losses `contrast`, `matching` and `generation`, each a mean over items in nats.

        Args:
            tokens_BND: visual tokens, as the connector gets them.
            texts: one of each item.
        """
        ids, mask = self.tokenize(texts)
        queries = self.run(tokens_BND, None, None)
        seen = F.normalize(self.see(queries).float(), dim=-1)
        read = F.normalize(self.read(self.run(None, ids, mask)[:, 0]).float(), dim=-1)
        similarity_BB = torch.einsum("bqc,tc->btq", seen, read).amax(dim=-1) / self.temperature.clamp(0.001, 0.5)
        return {
            "contrast": contrast_loss(similarity_BB),
            "matching": self._matching(tokens_BND, ids, mask, similarity_BB.detach()),
            "generation": self._generation(tokens_BND, ids, mask),
        }

    def _matching(self, tokens_BND: Tensor, ids_BT: Tensor, mask_BT: Tensor, similarity_BB: Tensor) -> Tensor:
        """Three pairs of an item are told apart: its own, and picture and text each with another item's."""
        texts, pictures = hard_negatives(similarity_BB), hard_negatives(similarity_BB.T)
        tokens = torch.cat([tokens_BND, tokens_BND, tokens_BND[pictures]])
        ids, mask = (torch.cat([one, one[texts], one]) for one in (ids_BT, mask_BT))
        queries = self._shared[0].query_embeddings.shape[1]
        logits = self.match(self.run(tokens, ids, mask)[:, :queries]).float().mean(dim=1)
        target = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
        target[: len(ids_BT)] = 1
        return F.cross_entropy(logits, target)

    def _generation(self, tokens_BND: Tensor, ids_BT: Tensor, mask_BT: Tensor) -> Tensor:
        begun = torch.cat([torch.full_like(ids_BT[:, :1], self._begin), ids_BT[:, 1:]], dim=1)
        hidden = self.run(tokens_BND, begun, mask_BT, causal=True)[:, -ids_BT.shape[1] : -1]
        logits = F.linear(self.write(hidden), self.word_embeddings.weight, self.write_bias)
        target = ids_BT[:, 1:].masked_fill(~mask_BT[:, 1:], -100)
        return F.cross_entropy(logits.float().flatten(0, 1), target.flatten(), label_smoothing=SMOOTHING)


def contrast_loss(similarity_BB: Tensor) -> Tensor:
    """Cross entropy of pictures (rows) over texts and of texts over pictures, averaged; pair b is at (b, b)."""
    target = torch.arange(len(similarity_BB), device=similarity_BB.device)
    both = [F.cross_entropy(s, target, label_smoothing=SMOOTHING) for s in (similarity_BB, similarity_BB.T)]
    return torch.stack(both).mean()


def hard_negatives(similarity_BB: Tensor) -> Tensor:
    """For every row another column than its own, drawn the more often the more similar it is."""
    weights = similarity_BB.softmax(dim=1) + _LEAST_WEIGHT
    return weights.fill_diagonal_(0.0).multinomial(1).squeeze(1)
