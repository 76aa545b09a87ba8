"""Everything that is trained, behind one module whose forward pass gives sums of losses.

DDP and FSDP2 work through hooks on a module's call: what goes around it computes with stale or sharded weights. So the
loop calls this module only, for training and, under FSDP, for validation as well (`work`). Sums, not means: a step that
is cut into micro-batches divides by the tokens of the whole step (arXiv 2310.03291, section 3.1, has the one loss).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.packing import with_prompts
from evlgen.modeling.tags import Tag
from evlgen.recipes.schema import TrainConfig
from evlgen.training.objectives import RepresentationObjective, VocabularyObjective
from evlgen.training.self_critical import SelfCritical

PIXEL_DIMENSIONS = 5


@dataclass
class MicroBatch:
    """A part of an optimizer step.

    Attributes:
        visual: features (B, F, N, C) or pixels (B, F, 3, S, S), bytes or normalised.
        captions: per item, its captions as token ids; None: the caption loss is not wanted.
        words: (B, C) targets of the vocabulary loss; None: it is not wanted.
        seed: of dropout.
        items: (source, item) of each.
        sampling_seeds: one an item; None: no captions are sampled.
        representation: the captions are texts of BLIP-2's first stage.
    """

    visual: Tensor
    captions: list[list[list[int]]] | None
    words: Tensor | None
    seed: int
    items: list[tuple[int, int]] = field(default_factory=list)
    sampling_seeds: list[int] | None = None
    representation: bool = False


class CaptionTask(nn.Module):
    """The model with its objectives.

    Args:
        model: with its frozen parts loaded.
        vocabulary: the objective on words, or None.
        precision: of matrix products of the trained part; parameters stay float32.
        self_critical: learning from rewards, or None.
        label_smoothing: of the caption loss.
        representation: BLIP-2's first stage, or None.
    """

    def __init__(
        self,
        model: EVLGenForConditionalGeneration,
        vocabulary: VocabularyObjective | None,
        precision: torch.dtype,
        self_critical: SelfCritical | None = None,
        label_smoothing: float = 0.0,
        representation: RepresentationObjective | None = None,
    ) -> None:
        super().__init__()
        self.model, self.vocabulary, self.precision = model, vocabulary, precision
        self.self_critical, self.label_smoothing, self.representation = self_critical, label_smoothing, representation

    def prepare(self, config: TrainConfig) -> None:
        """Choose gradient checkpointing and attention, before training begins."""
        if config.gradient_checkpointing.language:
            self.model.language.recompute_layers()
        if config.gradient_checkpointing.vision:
            self.model.vision.recompute_blocks()
        if self.model.device.type == "cpu":
            self.model.language.use_attention("eager")  # the faster one for training there

    def learn(self) -> None:
        """Go into the mode to learn in: with dropout, unless log-probabilities of samples are wanted."""
        self.train(self.self_critical is None)

    def autocast(self) -> Any:
        """Matrix products of the trained part in the chosen precision."""
        stack = contextlib.ExitStack()
        if self.precision != torch.float32:
            stack.enter_context(torch.autocast(self.model.device.type, self.precision))
            stack.enter_context(self.model.language.adapters_uncast())
        return stack

    def features(self, visual: Tensor) -> Tensor:
        """Features (B, F, N, C) of pixels (B, F, 3, S, S), bytes or normalised; features stay as they are.

        With a graph where modules are trained inside the tower. No autocast: the tower is in the run's precision
        already, as it is when features are cached.
        """
        if visual.dim() != PIXEL_DIMENSIONS:
            return visual
        if visual.dtype == torch.uint8:
            visual = self.model.processor.normalise(visual.to(self.model.device))
        return self.model.encode(visual)

    def look(self, visual: Tensor) -> tuple[Tensor, list[list[Tag]]]:
        """float32 soft prompts (B, Q, W) and tags of features (B, F, N, C) or pixels (B, F, 3, S, S)."""
        features = self.features(visual)
        with self.autocast():
            soft, tags = self.model.look(features)
        return soft.float(), tags

    def forward(self, batch: MicroBatch | None, work: Callable[[CaptionTask], Any] | None = None) -> Any:
        """Sums over a micro-batch: `captions` over tokens, in nats; `words`, `precision` and those of BLIP-2's first
        stage over items; `scst` over sampled captions, with the figures of `SelfCritical.sums`.

        Args:
            batch: what to learn from, or None for
            work: anything else that computes with the weights; its result is returned.
        """
        if batch is None:
            assert work is not None, "give batch or work"
            return work(self)
        torch.manual_seed(batch.seed)
        features = self.features(batch.visual)
        if batch.representation:
            return self._representation(features, batch.captions or [])
        soft, seen_tags = self.look(features)
        tags = self.model.tag_prompts(seen_tags)
        sums: dict[str, Tensor] = {}
        if batch.captions is not None:
            captions = with_prompts(batch.captions, tags)
            with self.autocast():  # adapters and cross-attention are float32 parameters too
                output = self.model.caption_loss(soft, captions, label_smoothing=self.label_smoothing)
            sums["captions"] = -output.log_probabilities.sum()
        if batch.words is not None:
            assert self.vocabulary is not None
            loss, precision = self.vocabulary(soft, batch.words.to(soft.device))
            sums |= {"words": loss * len(soft), "precision": precision.detach() * len(soft)}
        if batch.sampling_seeds is not None:
            assert self.self_critical is not None
            # modules inside the tower were others at the start; a tower without them gives what it gave
            seen = features if self.model.vision.cacheable else batch.visual
            start = partial(self._with_start, seen) if self.self_critical.start else None
            sums |= self.self_critical.sums(
                self.model, soft, batch.items, batch.sampling_seeds, start, tags, autocast=self.autocast
            )
        return sums

    def _representation(self, features: Tensor, captions: list[list[list[int]]]) -> dict[str, Tensor]:
        assert self.representation is not None
        texts = self.model.processor.batch_decode([own[0] for own in captions])
        with self.autocast():
            losses = self.representation(self.model.connector_inputs(features), texts)
        return {name: loss * len(texts) for name, loss in losses.items()}

    @torch.no_grad()
    def _with_start(self, visual: Tensor, work: Callable[[EVLGenForConditionalGeneration, Tensor], Tensor]) -> Tensor:
        """What `work` makes of the starting model, adapters included, and of its prefixes."""
        assert self.self_critical is not None

        def with_prefix(task: CaptionTask) -> Tensor:
            soft = task.look(visual)[0]
            with task.autocast():
                return work(task.model, task.model.prefix(soft))

        made: Tensor = functional_call(self, self.self_critical.start, (None, with_prefix))
        return made
