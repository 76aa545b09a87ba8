"""Watching a run: loss, the matched-against-shuffled gap, and scores of captions on validation items.

The gap is the loss with another item's soft prompts minus the loss with the right ones, in nats per token: near 0 the
model writes fluent captions without looking. The loss alone does not tell. Scores are those of `evlgen.metrics`,
against the captions as people wrote them; the document frequencies of CIDEr come from all items of the source, also
when only the first so many are captioned, so that they do not move with the number. An item with prompts is captioned
behind its first one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evlgen.data.batches import CaptionSource, plain_features
from evlgen.recipes.schema import ValidationConfig
from evlgen.training.listening import frames_that_listen
from evlgen.training.processes import Processes
from evlgen.training.task import CaptionTask

LOSS_CAPTIONS = 2
BATCH_ITEMS = 25
SHOWN = 3


class CaptionScores:
    """Scores of captions of the first items of a source; references are tokenized and counted once.

    Args:
        references: of every item of the source.
        count: how many items are captioned.
    """

    def __init__(self, references: Sequence[Sequence[str]], count: int) -> None:
        from evlgen.metrics.cider import CiderScorer
        from evlgen.metrics.frequencies import DocumentFrequencies
        from evlgen.metrics.ngrams import count_ngrams
        from evlgen.metrics.tokenizer import tokenize_captions

        flat = iter(tokenize_captions([one for many in references for one in many]))
        tokenized = [[next(flat) for _ in many] for many in references]
        self.references = tokenized[:count]
        self.counted = count_ngrams(self.references)
        self.cider = CiderScorer(self.counted, DocumentFrequencies.from_references(tokenized))

    def of(self, captions: list[str]) -> dict[str, Any]:
        """cider, bleu-4 and rouge-l in points; mean_words, distinct_captions, bad_endings (a share)."""
        from evlgen.metrics.bleu import bleu_of, bleu_statistics
        from evlgen.metrics.diagnostics import diagnose
        from evlgen.metrics.rouge import rouge_l
        from evlgen.metrics.tokenizer import tokenize_captions

        tokenized = tokenize_captions(captions)
        looks = diagnose(tokenized)
        return {
            "cider": 100 * float(self.cider.score(tokenized).mean()),
            "bleu-4": 100 * float(bleu_of(bleu_statistics(tokenized, self.counted).sum(axis=0))[3]),
            "rouge-l": 100 * float(rouge_l(tokenized, self.references).mean()),
            "mean_words": looks.mean_words,
            "distinct_captions": looks.distinct_captions,
            "bad_endings": looks.bad_ending_share,
        }


class Validator:
    """Validation of a run.

    Args:
        sources: what is validated on.
        config: how many items, and how.
        max_frames: frames per item.
        processes: among whom the items are split,
        shared: unless every process must run all of them, since the weights are sharded.
    """

    def __init__(
        self,
        sources: list[CaptionSource],
        config: ValidationConfig,
        max_frames: int,
        processes: Processes,
        *,
        shared: bool = False,
    ) -> None:
        self.sources, self.config, self.max_frames, self.processes = sources, config, max_frames, processes
        self.shared = shared
        self.scores: dict[str, CaptionScores] = {}

    def run(self, module: nn.Module, task: CaptionTask) -> dict[str, Any]:
        """Figures per source: loss and gap in nats per token, those of `CaptionScores.of`, and captions to look at."""
        task.eval()
        return {source.name: self._source(source, module if self.shared else task) for source in self.sources}

    def score(self, report: dict[str, Any]) -> float:
        """What the best checkpoint has most of."""
        metric, figures = self.config.metric, list(report.values())
        sign = -1.0 if metric == "loss" else 1.0
        return sign * float(sum(f[name] for f in figures for name in metric.split("+"))) / len(figures)

    def _share(self, count: int) -> range:
        """Items of this process among the first `count`."""
        rank, processes = (0, 1) if self.shared else (self.processes.rank, self.processes.count)
        return range(count * rank // processes, count * (rank + 1) // processes)

    def _source(self, source: CaptionSource, call: nn.Module) -> dict[str, Any]:
        count = len(source.items)
        sums, texts, listened = call(None, lambda task: self._look(source, task))
        if not self.shared:
            sums, texts = self.processes.sums(sums), self.processes.gather(texts)
        matched, shuffled = sums["matched"] / sums["tokens"], sums["shuffled"] / sums["tokens"]
        figures: dict[str, Any] = {"loss": matched, "gap": shuffled - matched}
        if texts:
            figures |= self.processes.on_main(lambda: self._score(source, texts, min(count, self.config.caption_items)))
        if listened is not None:
            figures["frames_listen"] = [[round(p, 4) for p in row] for row in listened.tolist()]
        return figures | ({"captions": texts[:SHOWN]} if texts else {})

    def _score(self, source: CaptionSource, texts: list[str], count: int) -> dict[str, Any]:
        if source.name not in self.scores:
            self.scores[source.name] = CaptionScores(source.references, count)
        return self.scores[source.name].of(texts)

    @torch.no_grad()
    def _look(self, source: CaptionSource, task: CaptionTask) -> tuple[dict[str, float], list[str], Tensor | None]:
        """This process's share of a source: sums of losses, captions, and which frames listen to each other."""
        total = min(len(source.items), self.config.loss_items)
        for_loss = self._share(total)
        for_captions = self._share(min(len(source.items), self.config.caption_items))
        others = {i: (i - 1) % total for i in for_loss}
        needed = sorted({*for_loss, *others.values(), *for_captions})
        prompts: dict[int, Tensor] = {}
        with frames_that_listen(task.model) as heard:
            batches = _batches(needed)
            for chosen, visual in zip(batches, plain_features(source, batches, self.max_frames), strict=True):
                rows = task.soft_prompts(visual.to(task.model.device))
                prompts |= zip(chosen, rows, strict=True)
        sums = {"matched": 0.0, "shuffled": 0.0, "tokens": 0.0}
        for chosen in _batches(for_loss):
            captions = [source.token_ids[i][:LOSS_CAPTIONS] for i in chosen]
            for name, shown in (("matched", chosen), ("shuffled", [others[i] for i in chosen])):
                out = task.model.caption_loss(torch.stack([prompts[i] for i in shown]), captions)
                sums[name] -= out.log_probabilities.double().sum().item()
            sums["tokens"] += out.tokens
        texts: list[str] = []
        for chosen in _batches(for_captions):
            generated = task.model.generate_from(
                torch.stack([prompts[i] for i in chosen]),
                prompt=[source.items[i].prompt for i in chosen],
                num_beams=self.config.beams,
                repetition_penalty=self.config.repetition_penalty,
                max_new_tokens=self.config.max_new_tokens,
            )
            texts += generated.texts
        return sums, texts, torch.stack(heard).mean(dim=0) if heard else None


def _batches(items: Sequence[int]) -> list[list[int]]:
    return [list(items[k : k + BATCH_ITEMS]) for k in range(0, len(items), BATCH_ITEMS)]
