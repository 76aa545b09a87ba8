"""From a recipe to a finished run: load, cache features, train, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evlgen.data.batches import CaptionSource, tokenize
from evlgen.data.captions import MediaStore, read_items
from evlgen.data.features import build_features
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype
from evlgen.recipes.schema import DataSource, Recipe
from evlgen.training.checkpoints import find_last
from evlgen.training.loop import Trainer
from evlgen.weights import cache_root
from evlgen.weights.checkpoints import WEIGHTS_FILE, find_checkpoint

Progress = Callable[[str, int, int | None], None]


def train(
    recipe: Recipe,
    *,
    folder: Path,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Run a recipe; the best checkpoint is in `folder`/best, a resumable one in `folder`/last.

    Args:
        recipe: a validated recipe.
        folder: of the run.
        resume: go on from `folder`/last.
        device: "auto", "cpu", "cuda" or "mps".
        progress: downloads and feature caching.
        report: every log record.
        stop: asked after every step.

    Raises:
        UsageError: the folder already holds a run and `resume` is not set, or data is missing.
        EvlgenError: see `Trainer.run`.
    """
    if find_last(folder) is not None and not resume:
        raise UsageError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    keep_large_allocations()
    place = torch.device(pick_device(device))
    dtype = pick_dtype(recipe.train.precision, place)
    read = [(s, read_items(s, lower_case=recipe.data.lower_case), MediaStore(s.media)) for s in _sources(recipe)]
    model = EVLGenForConditionalGeneration.from_config(recipe.model, dtype=dtype, report=progress)
    if recipe.train.start_from is not None:
        model.load_trained(find_checkpoint(recipe.train.start_from) / WEIGHTS_FILE)
    model.to(place)
    model.vision.optimise_for_inference()
    if not model.vision.cacheable:
        raise UsageError("this vision tower has temporal modules inside, its features cannot be cached")
    sources = []
    for source, items, store in read:
        cache = build_features(
            model, items, store, views=source.views, max_frames=recipe.data.max_frames,
            folder=cache_root() / "features", report=progress,
        )  # fmt: skip
        ids = tokenize(items, model.language.encode_caption)
        name = f"{store.path.parent.name}/{source.split or store.path.stem}"
        sources.append(CaptionSource(name, items, cache, ids, source.weight))
    count = len(recipe.data.train)
    trainer = Trainer(recipe, model, sources[:count], sources[count:], folder, dtype, report, stop)
    if resume:
        trainer.resume()
    return trainer.run()


def _sources(recipe: Recipe) -> list[DataSource]:
    return [*recipe.data.train, *recipe.data.validation]
