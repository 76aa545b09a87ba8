"""Watching a run: loss, the matched-against-shuffled gap, and CIDEr of greedy captions on validation items.

The gap is the loss with another item's soft prompts minus the loss with the right ones, in nats per token: near 0 the
model writes fluent captions without looking. The loss alone does not tell.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from evlgen.data.batches import CaptionSource, plain_features
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.recipes.schema import ValidationConfig

LOSS_CAPTIONS = 2
BATCH_ITEMS = 25


@torch.no_grad()
def validate(
    model: EVLGenForConditionalGeneration,
    sources: list[CaptionSource],
    config: ValidationConfig,
    *,
    max_frames: int,
    autocast: Any,
) -> dict[str, Any]:
    """Figures per source: loss, gap (nats per token), cider (points), and three captions to look at."""
    model.eval()
    report: dict[str, Any] = {}
    for source in sources:
        soft, captions = [], []
        count = min(len(source.items), max(config.loss_items, config.caption_items))
        for start in range(0, count, BATCH_ITEMS):
            chosen = list(range(start, min(count, start + BATCH_ITEMS)))
            with autocast():
                soft.append(model.soft_prompts(plain_features(source, chosen, max_frames)).float())
            captions += [source.token_ids[i][:LOSS_CAPTIONS] for i in chosen]
        prompts = torch.cat(soft)
        losses = {}
        for name, shift in (("matched", 0), ("shuffled", 1)):
            shifted, total, tokens = prompts[: config.loss_items].roll(shift, 0), 0.0, 0
            for start in range(0, len(shifted), BATCH_ITEMS):
                batch = slice(start, start + BATCH_ITEMS)
                out = model.caption_loss(shifted[batch], captions[: config.loss_items][batch])
                total, tokens = total + out.loss.item() * out.tokens, tokens + out.tokens
            losses[name] = total / tokens
        report[source.name] = {"loss": losses["matched"], "gap": losses["shuffled"] - losses["matched"]}
        if config.caption_items:
            texts: list[str] = []
            for start in range(0, min(config.caption_items, len(prompts)), BATCH_ITEMS):
                rows = prompts[start : min(start + BATCH_ITEMS, config.caption_items)]
                out_ids = model.generate_from(rows, num_beams=1, max_new_tokens=config.max_new_tokens)
                texts += model.processor.batch_decode(out_ids.sequences)
            references = [item.captions for item in source.items[: len(texts)]]
            report[source.name] |= {"cider": quick_cider(texts, references), "captions": texts[:3]}
    model.train()
    return report


def quick_cider(texts: list[str], references: list[tuple[str, ...]]) -> float:
    """pycocoevalcap's CIDEr in points (x100) on words split by a pattern, not by the PTB tokenizer: no Java needed.

    Good to follow a run and to choose a checkpoint; reported scores use the PTB tokenizer.
    """
    from pycocoevalcap.cider.cider import Cider

    def words(text: str) -> str:
        return " ".join(re.findall(r"[a-z0-9']+", text.lower()))

    truth = {i: [words(r) for r in refs] for i, refs in enumerate(references)}
    score, _ = Cider().compute_score(truth, {i: [words(t)] for i, t in enumerate(texts)})
    return float(score) * 100
