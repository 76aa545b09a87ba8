"""From a recipe to a finished run: load, cache features or count frames, train, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch

from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_dtype
from evlgen.recipes.loading import expand_path
from evlgen.recipes.schema import Recipe
from evlgen.system.files import write_text
from evlgen.training.checkpoints import settle
from evlgen.training.launch import join_cluster
from evlgen.training.loop import Trainer, has_checkpoint
from evlgen.training.processes import Processes
from evlgen.training.shard_record import check_alike, keep_shards
from evlgen.training.sharding import choose_sharding
from evlgen.training.sources import Loader
from evlgen.training.trackers import check_trackers
from evlgen.weights.checkpoints import WEIGHTS_FILE, find_checkpoint

Progress = Callable[..., None]
RECIPE_FILE = "recipe.json"
_MAY_CHANGE = {
    "optimizer", "validation", "summary", "data.shard_cache_gb", "data.max_broken_share", "train.accumulation_steps",
    "train.checkpoint_language", "train.checkpoint_vision", "train.sharding", "train.explode_factor",
    "train.checkpoint_seconds", "train.log_every", "train.trackers", "scst.cider_drop", "scst.bad_endings_rise",
    "scst.patience",
}  # fmt: skip
"""Sections and keys that a resumed run may change; the rest decides what the run is."""


def train(
    recipe: Recipe,
    *,
    folder: Path,
    resume: bool = False,
    device: str = "auto",
    progress: Progress | None = None,
    report: Callable[[dict[str, Any]], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Run a recipe; the best checkpoint is in `folder`/best, a resumable one in `folder`/last.

    Every process of a run calls this; who takes part is read from the environment that torchrun, `accelerate launch`,
    srun or `evlgen.training.launch` set. One alone is a run of one process.

    Args:
        recipe: a validated recipe.
        folder: of the run, on a disk that all processes see; it keeps the recipe, the log and the checkpoints.
        resume: go on from `folder`/last, with the same recipe.
        device: "auto", "cpu", "cuda" or "mps".
        progress: downloads, and feature caching or counting of frames, in the main process.
        report: every log record, in the main process.
        stop: asked after every step; True in any process saves and ends the run.
        on_stop: called in every process when that has happened.

    Raises:
        UsageError: the folder already holds a run and `resume` is not set, holds none and it is set, or was started
            with another recipe; data or a tracker's package is missing; the step cannot be cut among the processes;
            features are asked for that cannot be cached.
        EvlgenError: see `Trainer.run`.
    """
    check_trackers(recipe)
    join_cluster()
    keep_large_allocations()
    processes = Processes(device)
    try:
        told = progress if processes.main else None
        return _train(recipe, folder, resume, processes, told, report, stop, on_stop)
    except BaseException as error:
        clear_frames(error.__traceback__)  # they hold the model, which must be gone before the group of processes
        if processes.lost(error):
            raise EvlgenError(
                "another process of this run has ended", "its own message says why; then --resume"
            ) from None
        raise
    finally:
        processes.close()


def _train(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    processes: Processes,
    progress: Progress | None,
    report: Callable[[dict[str, Any]], None],
    stop: Callable[[], bool],
    on_stop: Callable[[], None],
) -> dict[str, Any]:
    processes.on_main(lambda: _check_folder(recipe, folder, resume))
    dtype = _precision(recipe.train.precision, processes.device)
    choose_sharding(recipe.train.sharding, processes.count, dtype)
    with closing(Loader(recipe, progress, stop, retry=not resume)) as loader:
        torch.manual_seed(recipe.train.seed)  # new weights are the same in every process
        with processes.first_here():
            model = EVLGenForConditionalGeneration.from_config(
                recipe.model, dtype=dtype, device=processes.device, report=progress
            )
        if recipe.train.start_from is not None:
            model.load_trained(find_checkpoint(str(expand_path(recipe.train.start_from))) / WEIGHTS_FILE, start=True)
        model.to(processes.device)
        with processes.first_here():
            sources = loader.sources(model)
        stopped = processes.sums({"stopped": float(sources is None)})["stopped"]
        if sources is None or stopped:
            on_stop()
            return {}
        check_alike(processes.gather([one.digest for one in loader.found]), processes.count)
        processes.on_main(lambda: keep_shards(loader.found, folder, resume))
        trainer = Trainer(recipe, model, *sources, folder, dtype, processes, report, stop)
        kept = recipe.model_dump_json(indent=2) + "\n"
        processes.on_main(
            lambda: write_text(folder / RECIPE_FILE, kept, hint="free some disk, or choose another --out")
        )
        if resume and processes.on_main(lambda: has_checkpoint(folder)):
            trainer.resume()
        report_at_the_end = trainer.run()
        if trainer.stopped:
            on_stop()
        return report_at_the_end


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "float16" and device.type != "cuda":
        raise UsageError(
            f"train.precision float16 needs a CUDA GPU, this run is on {device.type}",
            "choose auto, bfloat16 or float32",
        )
    return pick_dtype(wanted, device)


def _kept_recipe(kept: Path) -> Recipe:
    try:
        return Recipe.model_validate_json(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise EvlgenError(f"{kept} is damaged: {reason}", "start a new run in another --out") from None


def _check_folder(recipe: Recipe, folder: Path, resume: bool) -> None:
    """Refuse what would mix two runs, before anything costs time."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, expected the folder of a run", "choose another --out")
    for name in ("last", "best"):
        settle(folder / name)
    kept = folder / RECIPE_FILE
    if not kept.is_file():
        if resume:
            raise UsageError(f"{folder} holds no run to resume", "start without --resume")
        return
    if not resume:
        raise UsageError(f"{folder} already holds a run", "add --resume to go on with it, or choose another --out")
    if changed := _changed(recipe, kept):
        raise UsageError(
            f"{folder} was started with another recipe: {', '.join(changed)} differ",
            "give the same --recipe and --set as at the start",
        )


def may_go_on(recipe: Recipe, folder: Path) -> bool:
    """Whether `folder` holds a run that may be resumed with this recipe."""
    kept = folder / RECIPE_FILE
    return kept.is_file() and not _changed(recipe, kept)


def _changed(recipe: Recipe, kept: Path) -> list[str]:
    before = _kept_recipe(kept).model_dump()
    return [name for name in _differences(before, recipe.model_dump()) if name not in _MAY_CHANGE]


def _differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """section or section.key of what differs; sections that may change as a whole are left out."""
    found: list[str] = []
    for section, value in now.items():
        if section in _MAY_CHANGE:
            continue
        if isinstance(value, dict):
            found += [f"{section}.{key}" for key in value if value[key] != before[section][key]]
        elif value != before[section]:
            found.append(section)
    return found
