"""The training step that one writes first, for benchmarks to measure the engine against.

One caption per sequence: every (video, caption) pair runs the vision tower on its decoded frames, which are in memory
already, then the connector, then the language model with the caption in the labels of transformers' own forward pass,
which makes logits at all positions; eager attention, float32. Trained parameters, optimizer, learning rates, videos,
frames, crops and captions are the engine's: its `Steps` says what a step holds, its `Update` changes the parameters.
The ladder between this step and the engine's turns on one part at a time.

Shapes: C pairs, F frames, S image side in pixels, N visual tokens, D vision width, P prefix tokens, T text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from evlgen.data.batches import CaptionSource, tokenize
from evlgen.data.caption_sources import CaptionedItem, ReadSource, clean_caption
from evlgen.data.decoding import decode_items
from evlgen.data.views import make_views
from evlgen.errors import Failure
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_dtype
from evlgen.recipes.schema import Recipe
from evlgen.training.loop import Trainer
from evlgen.training.processes import Processes
from evlgen.training.steps import StepPlan
from evlgen.training.task import PIXEL_DIMENSIONS, MicroBatch
from evlgen.training.training_sources import Loader
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint

IGNORED = -100
"""The label at which transformers computes no loss."""


class Pixels:
    """Decoded frames in memory, in the crops that the feature cache is made of; a `VisualSource` of (F, 3, S, S)."""

    def __init__(self, source: ReadSource, model: EVLGenForConditionalGeneration, max_frames: int) -> None:
        side, self.views, self._processor = model.config.vision.image_size, source.config.views, model.processor
        self.pictures: dict[int, list[NDArray[np.uint8]]] = {}
        self.frames = [0] * len(source.items)
        names = [item.name for item in source.items]

        def work(name: str, frames: list[NDArray[np.uint8]]) -> tuple[int, list[NDArray[np.uint8]]]:
            return len(frames), make_views(name, frames, self.views, side)

        whole = side if self.views == 1 else None  # as the cache does it
        for number, made in decode_items(names, source.media, work, max_frames=max_frames, side=whole):
            assert not isinstance(made, Failure), made
            self.frames[number], self.pictures[number] = made

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.float32]:
        """Normalised pixels of some frames of an item."""
        shown = np.stack([self.pictures[item][f * self.views + view] for f in frames])
        pixels: NDArray[np.float32] = self._processor([shown])[0].numpy()
        return pixels


def make_trainer(
    recipe: Recipe, folder: Path, *, kind: Literal["pixels", "features"], start: dict[str, Tensor] | None = None
) -> Trainer:
    """The engine's trainer of a recipe, as `evlgen train` makes it on a CPU, on cached features or on pixels.

    Args:
        recipe: its precision is that of the trainer.
        folder: of the run.
        kind: what the training videos come as.
        start: values of trained parameters that replace those of `train.start_from`.
    """
    keep_large_allocations()  # for both sides: it belongs to the process
    device = torch.device("cpu")
    dtype = pick_dtype(recipe.train.precision, device)
    torch.manual_seed(recipe.train.seed)
    model = EVLGenForConditionalGeneration.from_config(recipe.model, dtype=dtype)
    if recipe.train.start_from is not None:
        model.load_trained(find_checkpoint(recipe.train.start_from) / WEIGHTS_FILE, start=True)
    with torch.no_grad():
        own = dict(model.named_parameters())
        for name, value in (start or {}).items():
            own[name].copy_(value)
    loader = Loader(recipe, None, lambda: False)
    if kind == "features":
        sources = loader.sources(model)
        assert sources is not None
        train, validation = sources
    else:
        train = [_on_pixels(loader, source, model, recipe.data.max_frames) for source in loader.read[0]]
        loader.read = ([], loader.read[1])
        captioned = loader._captioned(model)
        assert captioned is not None
        validation = captioned[1]
    trainer = Trainer(recipe, model, train, validation, folder, dtype, Processes("cpu"))
    trainer.task.learn()
    return trainer


def _on_pixels(
    loader: Loader, source: ReadSource, model: EVLGenForConditionalGeneration, max_frames: int
) -> CaptionSource:
    lower = loader.data.lower_case
    items = [CaptionedItem(i.name, tuple(clean_caption(c, lower_case=lower) for c in i.captions)) for i in source.items]
    token_ids = tokenize(items, model.language.encode_caption)
    return CaptionSource(source.name, items, Pixels(source, model, max_frames), token_ids)


@dataclass
class PairStep:
    """An optimizer step over (video, caption) pairs, each a sequence of its own.

    Args:
        trainer: model, optimizer and data; its own step is not used.
        sequences: pairs in one forward pass; gradients add up over the passes of a step.
        all_logits: transformers' loss with logits at all positions; else the engine's, at caption positions only.
    """

    trainer: Trainer
    sequences: int
    all_logits: bool = True

    def __call__(self, plan: StepPlan, batches: Sequence[MicroBatch]) -> dict[str, Any]:
        """Change the parameters by one step; returns loss, gradient_norm and tokens, as the engine does."""
        update, total = self.trainer.update, 0.0
        update.start(plan.rate)
        for batch in batches:
            assert batch.captions is not None
            torch.manual_seed(batch.seed)
            pairs = [(v, ids) for v, captions in enumerate(batch.captions) for ids in captions]
            for at in range(0, len(pairs), self.sequences):
                some = pairs[at : at + self.sequences]
                nats = self._nats(batch.visual[[v for v, _ in some]], [ids for _, ids in some])
                (nats / plan.tokens).backward()
                total += nats.item()
        norm = update.clip()
        update.finish(plan.step)
        return {"loss": total / plan.tokens, "gradient_norm": norm, "tokens": plan.tokens}

    def _nats(self, visual: Tensor, captions: list[list[int]]) -> Tensor:
        """Sum over caption tokens of -log p. visual: pixels (C, F, 3, S, S), or features (C, F, N, D)."""
        model = self.trainer.model
        features = model.encode(visual) if visual.dim() == PIXEL_DIMENSIONS else visual
        prompts = model.soft_prompts(features)
        if not self.all_logits:
            return -model.caption_loss(prompts, [[ids] for ids in captions]).log_probabilities.sum()
        prefix = model.prefix(prompts)
        length = max(map(len, captions))
        text = torch.tensor([ids + [0] * (length - len(ids)) for ids in captions])
        real = torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for ids in captions])
        before = prefix.shape[:2]
        out = model.language.model(
            inputs_embeds=torch.cat([prefix, model.language.embed(text)], dim=1),
            attention_mask=torch.cat([torch.ones(before, dtype=torch.int64), real], dim=1),
            labels=torch.cat([torch.full(before, IGNORED), text.masked_fill(real == 0, IGNORED)], dim=1),
            use_cache=False,
        )
        nats: Tensor = out.loss * real.sum()  # transformers gives the mean over labels
        return nats


def trained_of(trainer: Trainer) -> dict[str, Tensor]:
    """Copies of the trained parameters."""
    parameters: dict[str, nn.Parameter] = trainer.update.named
    return {name: p.detach().clone() for name, p in parameters.items()}
