"""From a recipe to a finished run: load, cache features, train, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from evlgen.data.batches import CaptionSource, tokenize
from evlgen.data.captions import MediaStore, read_items
from evlgen.data.features import build_features
from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype
from evlgen.recipes.schema import Recipe
from evlgen.training.checkpoints import settle
from evlgen.training.loop import Trainer, has_checkpoint
from evlgen.weights.checkpoints import WEIGHTS_FILE, find_checkpoint

Progress = Callable[[str, int, int | None], None]
RECIPE_FILE = "recipe.json"
_MAY_CHANGE = ("optimizer", "validation", "summary")  # sections that a resumed run may change


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
        folder: of the run; it keeps the recipe, the log and the checkpoints.
        resume: go on from `folder`/last, with the same recipe.
        device: "auto", "cpu", "cuda" or "mps".
        progress: downloads and feature caching.
        report: every log record.
        stop: asked after every step.

    Raises:
        UsageError: the folder already holds a run and `resume` is not set, holds none and it is set, or was started
            with another recipe; data is missing.
        EvlgenError: see `Trainer.run`.
    """
    _check_folder(recipe, folder, resume)
    keep_large_allocations()
    place = torch.device(pick_device(device))
    dtype = pick_dtype(recipe.train.precision, place)
    if dtype == torch.float16:
        raise UsageError("training in float16 is not supported", "set train.precision to float32")
    data = recipe.data
    read = [
        (s, read_items(s, lower_case=data.lower_case), MediaStore(s.media)) for s in (*data.train, *data.validation)
    ]
    model = EVLGenForConditionalGeneration.from_config(recipe.model, dtype=dtype, report=progress)
    if recipe.train.start_from is not None:
        model.load_trained(find_checkpoint(recipe.train.start_from) / WEIGHTS_FILE, start=True)
    model.to(place)
    if not model.vision.cacheable:
        raise UsageError(
            f"vision {recipe.model.vision.name} with fusion temporal has modules to train inside the tower; "
            "its features cannot be cached, and training without a cache is not there yet",
            "use a CNN tower, or fusion mean or concat",
        )
    sources: list[CaptionSource] = []
    for source, items, store in read:
        cache = build_features(
            model, items, store, views=source.views, max_frames=data.max_frames, report=progress, stop=stop
        )
        if cache is None:  # stopped
            return {}
        ids = tokenize(items, model.language.encode_caption)
        name = f"{store.path.parent.name}/{source.split or store.path.stem}"
        taken = sum(s.name.split("#")[0] == name for s in sources)
        sources.append(CaptionSource(f"{name}#{taken + 1}" if taken else name, items, cache, ids, source.weight))
    count = len(data.train)
    trainer = Trainer(recipe, model, sources[:count], sources[count:], folder, dtype, report, stop)
    _keep_recipe(recipe, folder)
    if resume and has_checkpoint(folder):
        trainer.resume()
    return trainer.run()


def _keep_recipe(recipe: Recipe, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RECIPE_FILE).write_text(recipe.model_dump_json(indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise EvlgenError(f"{folder} cannot be written: {error.strerror}") from None


def _check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    """Refuse what would mix two runs, before anything costs time."""
    for name in ("last", "best"):
        settle(folder / name)
    kept = folder / RECIPE_FILE
    if not kept.is_file():
        if resume:
            raise UsageError(f"{folder} holds no run to resume", "start without --resume")
        return
    if not resume:
        raise UsageError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    before = Recipe.model_validate_json(kept.read_text(encoding="utf-8")).model_dump()
    changed = [
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in recipe.model_dump().items()
        if section not in _MAY_CHANGE
        for key in (value if isinstance(value, dict) else [section])
        if (value[key] != before[section][key] if isinstance(value, dict) else value != before[section])
    ]
    if changed:
        raise UsageError(
            f"{folder} was started with another recipe: {', '.join(changed)} differ",
            "give the same --recipe and --set as at the start",
        )
