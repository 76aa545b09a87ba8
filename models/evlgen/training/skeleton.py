"""A recipe's training task without its memory: the real modules on fake tensors, and its data without pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch._subclasses import FakeTensorMode

from evlgen.data.batches import BatchMaker, CaptionSource, tokenize
from evlgen.data.caption_sources import ReadSource, frames_of
from evlgen.data.captions import CaptionedItem
from evlgen.data.media import is_picture
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.packing import packed_tokens
from evlgen.modeling.skeleton import build_skeleton, counts_bytes
from evlgen.recipes.schema import Recipe
from evlgen.training.metering import make_fake
from evlgen.training.objectives import VocabularyObjective
from evlgen.training.sources import Loader
from evlgen.training.task import CaptionTask
from evlgen.training.update import choose_trained

Captions = list[list[list[int]]]
"""Per item, its captions as token ids."""

SAMPLE_ITEMS = 20_000
"""So many items of each source are tokenized."""

SAMPLE_STEPS = 200
"""In so many optimizer steps the largest micro-batch is looked for."""


def build_model(
    recipe: Recipe, dtype: torch.dtype, fake: FakeTensorMode, report: Callable[..., None] | None = None
) -> EVLGenForConditionalGeneration:
    """The recipe's model on fake tensors; made on the meta device first, since fusing layers copies parameters.

    Nothing is read of a language model in the table of public sizes; of others configuration and tokenizer are (a GGUF
    file is fetched and converted once, as training does).

    Args:
        recipe: its model section.
        dtype: precision of the frozen parts.
        fake: the mode that the tensors belong to; not open, here and later: captions are packed for real, since the
            shapes of packed sequences depend on their content.
        report: progress of downloads.

    Raises:
        EvlgenError: the language model cannot be had, or sizes do not fit each other.
    """
    model = build_skeleton(recipe.model, dtype, report)
    with fake:
        make_fake(model)
    model.soft_prompts = partial(_within, fake, model.soft_prompts)  # type: ignore[method-assign]
    return model


def _within(fake: FakeTensorMode, function: Callable[..., Tensor], *args: Any) -> Tensor:
    """Token merging writes into tensors that it makes itself: they must be fake too."""
    with fake:
        return function(*args)


def build_task(
    recipe: Recipe, model: EVLGenForConditionalGeneration, items: list[CaptionedItem], dtype: torch.dtype, *, gpu: bool
) -> CaptionTask:
    """What is trained, in the way in which the loop trains it; to be called with the model's FakeTensorMode open.

    Args:
        recipe: objectives.
        model: of `build_model`.
        items: to train on; decide how many content words there are. Without items there is no vocabulary loss.
        dtype: of matrix products.
        gpu: whether the run is on one; attention differs.
    """
    vocabulary = None
    if items and (recipe.vocabulary.steps or recipe.vocabulary.weight):
        vocabulary = VocabularyObjective(model.language, items, recipe.vocabulary.min_count)
    if recipe.train.gradient_checkpointing.language:
        model.language.recompute_layers()
    if recipe.train.gradient_checkpointing.vision:
        model.vision.recompute_blocks()
    model.language.use_attention("sdpa" if gpu else "eager")
    task = CaptionTask(model, vocabulary, dtype)
    choose_trained(task, learned_prompt=recipe.model.language.learned_prompt)
    return task


@dataclass
class _NoPictures:
    """Visual input of which only the shape is known."""

    frames: Sequence[int]
    views: int

    def get(self, item: int, frames: list[int], view: int) -> NDArray[Any]:
        raise NotImplementedError("an estimate looks at no picture")


@dataclass(frozen=True)
class CaptionData:
    """The captions of a recipe's training sources, and the size of all its features.

    Attributes:
        sources: to train on, tokenized, without pictures; none where captions or the tokenizer are missing.
        feature_rows: items x frames x views of every source, train and validation.
        missing: why the captions could not be read; empty if they could.
    """

    sources: list[CaptionSource]
    feature_rows: int
    missing: str = ""

    @property
    def items(self) -> list[CaptionedItem]:
        """Of all sources."""
        return [item for source in self.sources for item in source.items]


def read_captions_only(recipe: Recipe, model: EVLGenForConditionalGeneration) -> CaptionData:
    """Read the captions that a recipe names, as training does, without opening a picture.

    Args:
        recipe: its data section.
        model: of `build_model`; its tokenizer makes captions token ids, unless it counts bytes.
    """
    if recipe.data.has_shards:
        return CaptionData([], 0, "captions of shards are read when they are drawn")
    try:
        loader = Loader(recipe, None, lambda: False)
    except UsageError as error:
        return CaptionData([], 0, str(error))
    train, validation = loader.read
    sources: list[CaptionSource] = []
    for source in [] if counts_bytes(recipe.model) else train:
        items = loader.trained_on(source.items[:SAMPLE_ITEMS])
        visual = _NoPictures([_frames(source, item, recipe.data.frames_kept) for item in items], source.config.views)
        ids = tokenize(items, model.language.encode_caption)
        sources.append(CaptionSource(source.name, items, visual, ids, source.config.weight, source.config.ratio))
    rows = sum(
        source.config.views
        * sum(_frames(source, item, frames_of(source, recipe.data, recipe.model)) for item in source.items)
        for source in (*train, *validation)
    )
    return CaptionData(sources, rows)


def _frames(source: ReadSource, item: CaptionedItem, most: int) -> int:
    return 1 if is_picture(source.media.resolve(item.name) or item.name) else most


def largest_micro_batch(recipe: Recipe, data: CaptionData, end_token_id: int, parts: int) -> Captions:
    """The captions of the micro-batch with most tokens, padding included, in a sample of the run's steps.

    Args:
        recipe: batch sizes.
        data: captions; where they could not be read, all are taken to be as long as they may be.
        end_token_id: of the language model.
        parts: micro-batches of an optimizer step, over all processes.
    """
    size, per_item = -(-recipe.data.items_per_step // parts), recipe.data.captions_per_item
    longest = recipe.model.language.max_text_tokens
    if recipe.scst.samples:  # what will be sampled is not known; people's captions would be a pass of their own
        sampled = [[end_token_id] * recipe.scst.max_new_tokens] * recipe.scst.samples
        mixed = [[end_token_id] * longest] * per_item if recipe.scst.caption_weight else []
        return [sampled + mixed] * size
    if not data.sources:
        return [[[end_token_id] * longest] * per_item] * size
    batches = BatchMaker(data.sources, max_frames=recipe.data.max_frames, seed=recipe.train.seed)
    first = recipe.vocabulary.steps * recipe.vocabulary.items_per_step
    found: list[Captions] = []
    for step in np.unique(np.linspace(0, recipe.train.steps - 1, SAMPLE_STEPS).astype(int)).tolist():
        at = first + step * recipe.data.items_per_step
        captions = batches.captions_at(at, recipe.data.items_per_step, per_item)
        bounds = [len(captions) * part // parts for part in range(parts + 1)]
        found += [captions[start:end] for start, end in pairwise(bounds)]
    return max(found, key=_tokens)


def _tokens(batch: Captions) -> tuple[int, int]:
    """Of the packed sequences with their padding; and those that are predicted."""
    longest = max(sum(packed_tokens(ids) for ids in captions) for captions in batch)
    return len(batch) * longest, sum(len(ids) for captions in batch for ids in captions)
