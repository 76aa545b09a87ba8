"""Self-critical training of one micro-batch: sample, have the captions scored aside, and score their log-probability.

    soft prompts (once, with a graph) -> K samples and the greedy caption behind one cached prefix (no graph)
      -> texts to the reward worker  |  meanwhile one packed pass over the samples, with a graph
      -> rewards -> advantages -> loss                                         equations in training/scst.py

The connector runs once: what captions are sampled from is what their log-probabilities are computed from. That needs
dropout to be off, in both passes; otherwise the gradient would be that of another distribution than the sampled one.
Captions whose advantage is 0 whatever the rewards (equal to the greedy one, or all samples equal) are left out of the
packed pass.

A caption is worth a weighted sum of CIDEr-D and BLEU-4 against its video's references, less what its CIDEr-D is against
those of other videos. Rennie et al., arXiv 1612.00563, reward CIDEr-D with document frequencies of the training
references; Wang et al., arXiv 2007.06877, take off its mean over similar pictures (CIDErBtw), where we draw the others
at random: what a frozen small tower cannot tell apart would be punished for being alike. The end token is a word of
captions, references and frequencies: without it, captions learn to end badly ("a man riding a"). A caption that was cut
off before its end token does not get one. Values are computed in a thread of their own while the accelerator goes on:
they take milliseconds (benchmarks/scst_speed.py), less than talking to another process.

Shapes: B items, K samples, M captions of a batch, P prefix tokens, W language width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlgen.data.batches import CaptionSource
from evlgen.errors import UsageError
from evlgen.metrics.bleu import bleu_of, bleu_statistics
from evlgen.metrics.cider import CiderScorer
from evlgen.metrics.frequencies import DocumentFrequencies
from evlgen.metrics.tokenizer import tokenize_captions
from evlgen.modeling.beams import beam_captions
from evlgen.modeling.rescoring import sampled_log_probabilities
from evlgen.modeling.sampling import SampledCaptions, sample_captions
from evlgen.recipes.schema import ScstConfig
from evlgen.training.scst import SampleReport, advantages, kl_penalty, report, self_critical_loss

if TYPE_CHECKING:
    from evlgen.modeling import EVLGenForConditionalGeneration

WithStart = Callable[[Callable[["EVLGenForConditionalGeneration", Tensor], Tensor]], Tensor]
"""Calls what it is given with the starting model and its prefixes (B, P, W), without a graph."""

_FIGURE, _PART = "sample.", "reward."


class SelfCritical:
    """What self-critical training needs beside the model. Its worker lives until `close`.

    Args:
        config: sampling, rewards, baseline.
        sources: of training; the references of all of them are what document frequencies are counted in.

    Attributes:
        start: the trained parameters of the starting model by name, if divergence from it costs reward.
    """

    def __init__(self, config: ScstConfig, sources: Sequence[CaptionSource]) -> None:
        self.config = config
        sizes = [len(source.items) for source in sources]
        references = [r for source in sources for r in source.references]
        self.reward = CaptionReward(references, config.rewards.model_dump(), sizes)
        self._first = [0, *accumulate(sizes)]
        self.start: dict[str, Tensor] = {}

    @property
    def _distribution(self) -> dict[str, Any]:
        config = self.config
        return {
            "temperature": config.temperature,
            "top_p": config.top_p,
            "min_new_tokens": config.min_new_tokens,
        }

    def remember(self, module: nn.Module) -> None:
        """Keep the trained parameters as they are now, if the divergence from them is wanted."""
        if self.config.kl_weight:
            self.start = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def sample(
        self,
        model: EVLGenForConditionalGeneration,
        prefix_BPW: Tensor,
        seeds: Sequence[int],
        prompts: Sequence[Sequence[int]] | None = None,
    ) -> tuple[SampledCaptions, SampledCaptions | None]:
        """K captions of each item, and the greedy ones where the baseline needs them.

        Args:
            model: in evaluation mode.
            prefix_BPW: what captions are sampled behind.
            seeds: one an item.
            prompts: token ids that follow the prefix, one list an item.
        """
        assert not model.training, "dropout is off"
        config, wants_greedy = self.config, self.config.baseline == "greedy"
        length: dict[str, Any] = {
            "max_new_tokens": config.max_new_tokens, "min_new_tokens": config.min_new_tokens, "prompts": prompts
        }  # fmt: skip
        if config.sampler == "multinomial":
            return sample_captions(
                model.language, prefix_BPW, samples=config.samples, greedy=wants_greedy, seed=seeds,
                temperature=config.temperature, top_p=config.top_p, **length,
            )  # fmt: skip
        beams = beam_captions(
            model.language, prefix_BPW, beams=config.samples, length_penalty=config.length_penalty, **length
        )
        if not wants_greedy:
            return beams, None
        return beams, sample_captions(model.language, prefix_BPW, samples=0, greedy=True, **length)[1]

    def sums(
        self,
        model: EVLGenForConditionalGeneration,
        soft_prompts_BQW: Tensor,
        items: Sequence[tuple[int, int]],
        seeds: Sequence[int],
        with_start: WithStart | None = None,
        prompts: Sequence[Sequence[int]] | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> dict[str, Tensor]:
        """`scst`: the loss, a sum over captions; and figures to watch, as sums, for `figures`.

        Args:
            model: in evaluation mode.
            soft_prompts_BQW: of the items, with a graph.
            items: (source, item) of each.
            seeds: of sampling, one an item.
            with_start: computes with the starting model, if divergence from it costs reward.
            prompts: token ids that captions follow, one list an item.
            autocast: precision of what is trained. It is entered anew for what has a graph: older releases of torch
                give no gradient to a parameter that was first cast without one.
        """
        prefix = model.prefix(soft_prompts_BQW)
        with autocast():
            captions, greedy = self.sample(model, prefix.detach(), seeds, prompts)
        batch, count = captions.ended.shape
        texts, ended, numbers = _flat(model, captions), captions.ended.flatten().tolist(), []
        for source, item in items:
            numbers += [self._first[source] + item] * count
        if greedy is not None:
            texts, ended = texts + _flat(model, greedy), ended + greedy.ended.flatten().tolist()
            numbers += numbers[::count]
        scores = self.reward.submit(numbers, texts, ended)

        wanted = None if with_start is not None else _teaches(self.config.baseline, captions, greedy)
        drawn: dict[str, Any] = {**self._distribution, "prompts": prompts}
        with autocast():
            log_p = sampled_log_probabilities(model, prefix, captions, wanted_BK=wanted, **drawn)
        if not log_p.requires_grad:  # DDP waits for every parameter's gradient, if only for a 0
            log_p = log_p + 0 * sum((p.sum() for p in model.language.adapters()), prefix.sum())
        penalty = None
        if with_start is not None:
            start = with_start(lambda before, its: sampled_log_probabilities(before, its, captions, **drawn))
            penalty = kl_penalty(log_p, start).cpu().double()

        values = scores.result()
        total = torch.from_numpy(values.total)
        rewards, greedy_rewards = total[: batch * count].reshape(batch, count), total[batch * count :]
        judged = rewards if penalty is None else rewards - self.config.kl_weight * penalty
        advantage = advantages(
            judged, self.config.baseline, greedy_B=greedy_rewards, normalise=self.config.normalise_advantages
        )
        counts = captions.token_counts.to(log_p.device) if self.config.length_normalised else None
        seen = report(
            rewards, advantage, captions.token_ids(), captions.ended,
            None if greedy is None else greedy_rewards, penalty,
        )  # fmt: skip
        sums = {"scst": self_critical_loss(log_p, advantage.to(log_p), counts)}
        sums |= {_FIGURE + name: torch.tensor(value, dtype=torch.float64) for name, value in vars(seen).items()}
        if len(values.parts) > 1:
            sums |= {_PART + name: torch.tensor(part[: batch * count].sum()) for name, part in values.parts.items()}
        return sums

    def figures(self, sums: dict[str, float]) -> dict[str, float]:
        """Means for the log, from sums over all micro-batches of a step."""
        seen = SampleReport(**{n.removeprefix(_FIGURE): v for n, v in sums.items() if n.startswith(_FIGURE)})
        means = {"scst_loss": sums["scst"] / seen.captions, **seen.means()}
        if self.config.baseline != "greedy":
            del means["greedy_reward"]
        if not self.config.kl_weight:
            del means["kl"]
        parts = {n.replace(_PART, "reward_"): v / seen.captions for n, v in sums.items() if n.startswith(_PART)}
        return means | parts

    def close(self) -> None:
        """End the worker."""
        self.reward.close()


def _flat(model: EVLGenForConditionalGeneration, captions: SampledCaptions) -> list[str]:
    return model.processor.batch_decode(captions.sequences.flatten(0, 1))


def _teaches(baseline: str, captions: SampledCaptions, greedy: SampledCaptions | None) -> Tensor:
    """(B, K): False where the advantage is 0 whatever captions are worth."""
    rows = captions.token_ids()
    if greedy is not None:
        best = [ids[0] for ids in greedy.token_ids()]
        return torch.tensor([[ids != one for ids in row] for row, one in zip(rows, best, strict=True)])
    if baseline == "none":
        return torch.ones_like(captions.ended)
    return torch.tensor([[any(ids != row[0] for ids in row)] * len(row) for row in rows])


Floats = NDArray[np.float64]

END_TOKEN = "<eos>"
PARTS = ("cider", "bleu4", "between")
OTHERS = 32
"""Items that a caption is held against for `between`: 244 captions take a tenth of a second."""
CACHED_CAPTIONS = 500_000
"""About 100 MB; beyond, the cache starts anew."""
# The tokenizer reads a line's end together with the next line ("plan b."). Behind each caption stands this one, so that
# its tokens do not depend on which caption comes next.
_NEXT_LINE = "a"


@dataclass(frozen=True)
class RewardValues:
    """Rewards of M captions.

    Attributes:
        total: (M,) the weighted sum.
        parts: (M,) by name, without weights: `cider` as in pycocoevalcap, from 0 to 10, where 1 is what papers print as
            100; `bleu4` from 0 to 1; `between`, in units of `cider`.
    """

    total: Floats
    parts: dict[str, Floats]


class CaptionReward:
    """Rewards against reference sets that are prepared once.

    Args:
        references: captions of each item as people wrote them; items are numbered in this order.
        weights: of the parts `cider` (CIDEr-D), `bleu4` and `between`; parts without a weight are not computed. BLEU-4
            is that of single captions as pycocoevalcap has it (one without a common 4-gram gets almost 0), without end
            token. `between` is the mean CIDEr-D against the references of `OTHERS` other items of the same source,
            drawn once, or of all of them where there are fewer; its weight is taken off.
        sizes: items of each source, in order; None: one source.

    Raises:
        UsageError: an unknown part, no part, an item without references, a source of one item where others are wanted.
    """

    def __init__(
        self, references: Sequence[Sequence[str]], weights: Mapping[str, float], sizes: Sequence[int] | None = None
    ) -> None:
        unknown = sorted(set(weights) - set(PARTS))
        if unknown:
            raise UsageError(f"there is no reward {unknown[0]!r}", f"there is: {', '.join(PARTS)}")
        self.weights = {name: weight for name, weight in weights.items() if weight}
        if not self.weights:
            raise UsageError("no reward has a weight", f"give a weight to one or more of: {', '.join(PARTS)}")
        words = iter(tokenize_captions([c for captions in references for c in captions]))
        self._references = [[next(words) for _ in captions] for captions in references]
        self._cider: CiderScorer | None = None
        self._others = _drawn_others(sizes or [len(references)]) if "between" in self.weights else None
        if self.weights.keys() & {"cider", "between"}:
            # The end token stands in the texts, so that the scorer does not give it to captions that were cut off.
            ending = [[_with_end(c) for c in captions] for captions in self._references]
            self._cider = CiderScorer(ending, DocumentFrequencies.from_references(ending))
        self._known: dict[tuple[int, str, bool], tuple[float, ...]] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="rewards")

    def score(self, items: Sequence[int], texts: Sequence[str], ended: Sequence[bool] | None = None) -> RewardValues:
        """Rewards of captions, each against the references of its item.

        Args:
            items: (M,) numbers of items, in any order and as often as wanted.
            texts: (M,) captions as the language model wrote them.
            ended: (M,) whether the end token was drawn; None: all captions ended.

        Raises:
            IndexError: there is no such item.
        """
        ended = [True] * len(texts) if ended is None else [bool(e) for e in ended]
        keys = list(zip(items, texts, ended, strict=True))
        new = [key for key in dict.fromkeys(keys) if key not in self._known]
        if len(self._known) + len(new) > CACHED_CAPTIONS:
            self._known.clear()
            new = list(dict.fromkeys(keys))
        if new:
            self._known.update(zip(new, self._compute(new), strict=True))
        table = np.array([self._known[key] for key in keys], dtype=np.float64).reshape(len(keys), len(self.weights))
        parts = {name: table[:, column] for column, name in enumerate(self.weights)}
        signed = [-weight if name == "between" else weight for name, weight in self.weights.items()]
        return RewardValues(table @ np.array(signed, dtype=np.float64), parts)

    def submit(
        self, items: Sequence[int], texts: Sequence[str], ended: Sequence[bool] | None = None
    ) -> Future[RewardValues]:
        """`score` in the worker, batches in the order in which they were handed in."""
        return self._worker.submit(self.score, items, texts, ended)

    def close(self) -> None:
        """End the worker, after what it was given."""
        self._worker.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _compute(self, keys: Sequence[tuple[int, str, bool]]) -> list[tuple[float, ...]]:
        items = [item for item, _, _ in keys]
        if min(items) < 0 or max(items) >= len(self._references):
            raise IndexError(f"items must lie between 0 and {len(self._references) - 1}")
        words = tokenize_captions([line for _, text, _ in keys for line in (text, _NEXT_LINE)])[::2]
        values: dict[str, Floats] = {}
        if self._cider is not None:
            captions = [_with_end(w) if ended else w for w, (_, _, ended) in zip(words, keys, strict=True)]
            values["cider"] = self._cider.score_pairs(items, captions)
            if self._others is not None:
                others = [self._others[item] for item in items]
                each = [caption for caption, its in zip(captions, others, strict=True) for _ in its]
                scores = self._cider.score_pairs(np.concatenate(others), each)
                ends = np.cumsum([len(its) for its in others])[:-1]
                values["between"] = np.array([part.mean() for part in np.split(scores, ends)])
        if "bleu4" in self.weights:
            values["bleu4"] = bleu_of(bleu_statistics(words, [self._references[item] for item in items]))[:, 3]
        return list(zip(*(values[name].tolist() for name in self.weights), strict=True))


def _drawn_others(sizes: Sequence[int]) -> list[NDArray[np.int64]]:
    """For each item the numbers of others of its source, always the same ones."""
    if min(sizes) < 2:
        raise UsageError("a source has one item: there are no others", "set scst.rewards.between to 0")
    others, chance = [], np.random.default_rng(0)
    for first, size in zip(accumulate(sizes, initial=0), sizes, strict=False):
        for item in range(size):
            steps = chance.choice(size - 1, min(OTHERS, size - 1), replace=False) + 1
            others.append(first + (item + steps) % size)
    return others


def _with_end(words: str) -> str:
    return f"{words} {END_TOKEN}" if words else END_TOKEN
