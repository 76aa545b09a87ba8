"""Watching a run: loss, the matched-against-shuffled gap, and scores of captions on validation items.

The gap is the loss with another item's soft prompts minus the loss with the right ones, in nats per token: near 0 the
model writes fluent captions without looking. The loss alone does not tell. Scores are those of `evlgen.metrics`,
against the captions as people wrote them; the document frequencies of CIDEr come from all items of the source, also
when only the first so many are captioned, so that they do not move with the number. An item with prompts is captioned
behind its first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evlgen.data.batches import CaptionSource, plain_features
from evlgen.modeling.packing import with_prompts
from evlgen.modeling.tags import Tag
from evlgen.modeling.temporal_attention import recorded_attention
from evlgen.recipes.schema import ValidationConfig, decoding_of
from evlgen.training.callbacks import StoppedError
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
        max_frames: frames per item, as evaluation takes them.
        processes: among whom the items are split,
        shared: unless every process must run all of them, since the weights are sharded.
        stop: asked between batches (not where `shared`); True in any process gives the validation up.
        progress: told of items.
    """

    def __init__(
        self,
        sources: list[CaptionSource],
        config: ValidationConfig,
        max_frames: int,
        processes: Processes,
        *,
        shared: bool = False,
        stop: Callable[[], bool] = lambda: False,
        progress: Callable[..., None] | None = None,
    ) -> None:
        self.stop, self.progress, self.label, self.done, self.total = stop, progress, "", 0, 0
        self.sources, self.config, self.max_frames, self.processes = sources, config, max_frames, processes
        self.shared = shared
        self.scores: dict[str, CaptionScores] = {}

    def run(self, module: nn.Module, task: CaptionTask, label: str = "validation") -> dict[str, Any]:
        """Figures per source: loss and gap in nats per token, those of `CaptionScores.of`, and captions to look at.

        Args:
            module: what is called where weights are sharded.
            task: the model.
            label: of this validation, for progress.

        Raises:
            StoppedError: it was given up.
        """
        task.eval()
        self.label, self.done = label, 0
        self.total = sum(len(self._share(count)) for source in self.sources for count in self._counts(source))
        return {source.name: self._source(source, module if self.shared else task) for source in self.sources}

    def score(self, report: dict[str, Any]) -> float:
        """What the best checkpoint has most of."""
        metric, figures = self.config.metric, list(report.values())
        sign = -1.0 if metric == "loss" else 1.0
        return sign * float(sum(f[name] for f in figures for name in metric.split("+"))) / len(figures)

    def _counts(self, source: CaptionSource) -> tuple[int, int]:
        """Items for loss and gap, and items that are captioned."""
        return min(len(source.items), self.config.loss_items), min(len(source.items), self.config.caption_items)

    def _advance(self, items: int) -> None:
        self.done += items
        if self.progress is not None:
            self.progress(self.label, self.done, self.total, "items")

    def _share(self, count: int) -> range:
        """Items of this process among the first `count`."""
        rank, processes = (0, 1) if self.shared else (self.processes.rank, self.processes.count)
        return range(count * rank // processes, count * (rank + 1) // processes)

    def _source(self, source: CaptionSource, call: nn.Module) -> dict[str, Any]:
        sums, texts, listened = call(None, lambda task: self._look(source, task))
        if not self.shared:
            sums, texts = self.processes.sums(sums), self.processes.gather(texts)
        if sums.pop("stopped"):
            raise StoppedError
        matched, shuffled = sums["matched"] / sums["tokens"], sums["shuffled"] / sums["tokens"]
        figures: dict[str, Any] = {"loss": matched, "gap": shuffled - matched}
        if texts:
            figures |= self.processes.on_main(lambda: self._score(source, texts, self._counts(source)[1]))
        if listened is not None:
            figures["frame_attention"] = [[round(p, 4) for p in row] for row in listened.tolist()]
        return figures | ({"captions": texts[:SHOWN]} if texts else {})

    def _score(self, source: CaptionSource, texts: list[str], count: int) -> dict[str, Any]:
        if source.name not in self.scores:
            self.scores[source.name] = CaptionScores(source.references, count)
        return self.scores[source.name].of(texts)

    @torch.no_grad()
    def _look(self, source: CaptionSource, task: CaptionTask) -> tuple[dict[str, float], list[str], Tensor | None]:
        """This process's share of a source: sums of losses, captions, and which frames listen to each other."""
        total, captioned = self._counts(source)
        for_loss, for_captions = self._share(total), self._share(captioned)
        others = {i: (i - 1) % total for i in for_loss}
        needed = sorted({*for_loss, *others.values(), *for_captions})
        prompts: dict[int, Tensor] = {}
        tags: dict[int, list[Tag]] = {}
        sums = {"matched": 0.0, "shuffled": 0.0, "tokens": 0.0, "stopped": 0.0}
        texts: list[str] = []
        with recorded_attention(task.model) as heard:
            batches = _batches(needed)
            for chosen, visual in zip(batches, plain_features(source, batches, self.max_frames), strict=True):
                if self._given_up(sums):
                    return sums, texts, None
                soft, seen = task.look(visual.to(task.model.device))
                prompts |= zip(chosen, soft, strict=True)
                tags |= zip(chosen, seen, strict=True)
        for chosen in _batches(for_loss):
            if self._given_up(sums):
                return sums, texts, None
            captions = [source.token_ids[i][:LOSS_CAPTIONS] for i in chosen]
            for name, shown in (("matched", chosen), ("shuffled", [others[i] for i in chosen])):
                behind = with_prompts(captions, task.model.tag_prompts([tags[i] for i in shown]))
                out = task.model.caption_loss(torch.stack([prompts[i] for i in shown]), behind)
                sums[name] -= out.log_probabilities.double().sum().item()
            sums["tokens"] += out.tokens
            self._advance(len(chosen))
        for chosen in _batches(for_captions):
            if self._given_up(sums):
                return sums, texts, None
            generated = task.model.generate_from(
                torch.stack([prompts[i] for i in chosen]),
                tags=[tags[i] for i in chosen],
                prompt=[source.items[i].prompt for i in chosen],
                **decoding_of(self.config),
            )
            texts += generated.texts
            self._advance(len(chosen))
        return sums, texts, torch.stack(heard).mean(dim=0) if heard else None

    def _given_up(self, sums: dict[str, float]) -> bool:
        """Whether to leave the rest; the others hear of it when sums are exchanged. Sharded ones must go together."""
        sums["stopped"] = float(not self.shared and self.stop())
        return bool(sums["stopped"])


def _batches(items: Sequence[int]) -> list[list[int]]:
    return [list(items[k : k + BATCH_ITEMS]) for k in range(0, len(items), BATCH_ITEMS)]
