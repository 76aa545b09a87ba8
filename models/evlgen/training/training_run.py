"""From a recipe to a finished run: load, cache features or count frames, train, keep the best."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from traceback import clear_frames
from typing import Any

import torch

from evlgen.data.batches import TrainingSource
from evlgen.errors import EvlgenError, UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, pick_dtype
from evlgen.recipes.loading import expand_path
from evlgen.recipes.schema import Recipe
from evlgen.training.callbacks import Callbacks, StoppedError, interruptible_progress
from evlgen.training.launch import join_cluster
from evlgen.training.loop import Trainer, has_checkpoint
from evlgen.training.processes import Processes, choose_sharding
from evlgen.training.run_folder import alone_in, check_alike, check_folder, keep_recipe, keep_shards
from evlgen.training.run_log import RunLog, check_trackers
from evlgen.training.training_sources import Loader
from evlgen.weights.named_models import WEIGHTS_FILE, find_checkpoint


def train(recipe: Recipe, *, folder: Path, resume: bool = False, device: str = "auto", **watch: Any) -> dict[str, Any]:
    """Run a recipe; the best checkpoint is in `folder`/best, a resumable one in `folder`/last.

    Every process of a run calls this; who takes part is read from the environment that torchrun, `accelerate launch`,
    srun or `evlgen.training.launch` set. One alone is a run of one process.

    Args:
        recipe: a validated recipe.
        folder: of the run, on a disk that all processes see; it keeps the recipe, the log and the checkpoints.
        resume: go on from `folder`/last, with the same recipe.
        device: "auto", "cpu", "cuda" or "mps".
        watch: see `Callbacks`.

    Returns:
        The last validation report; see `Trainer.run`.

    Raises:
        UsageError: the folder already holds a run and `resume` is not set, holds none and it is set, or was started
            with another recipe; data or a tracker's package is missing; the step cannot be cut among the processes;
            features are asked for that cannot be cached.
        EvlgenError: another run works in the folder; or see `Trainer.run`.
    """
    check_trackers(recipe)
    join_cluster()
    keep_large_allocations()
    processes = Processes(device)
    seen = Callbacks(**watch)
    if not processes.main:
        seen = replace(seen, progress=None, report=lambda _: None, say=lambda _: None)
    try:
        with ExitStack() as held:
            return _train(recipe, folder, resume, processes, seen, held)
    except StoppedError:  # before there was anything to save
        seen.on_stop()
        return {}
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
    recipe: Recipe, folder: Path, resume: bool, processes: Processes, watch: Callbacks, held: ExitStack
) -> dict[str, Any]:
    def enter() -> None:
        """Be the only run in the folder, from when it is there."""
        check_folder(recipe, folder, resume)
        if folder.is_dir():
            held.enter_context(alone_in(folder))

    processes.on_main(enter)
    wanted: str = recipe.train.precision
    if wanted == "auto" and resume:
        wanted = _begun_in(folder, processes.device)
    dtype = _precision(wanted, processes.device)
    choose_sharding(recipe.train.sharding, processes.count, dtype)
    start = recipe.train.start_from
    begin_with = None if start is None else find_checkpoint(str(expand_path(start))) / WEIGHTS_FILE
    interruptible = interruptible_progress(watch.interrupt, watch.progress) if processes.count == 1 else watch.progress
    with closing(Loader(recipe, watch.progress, watch.stop, retry=not resume)) as loader:
        watch.say(f"loading the model, in {str(dtype).removeprefix('torch.')} on {processes.device}")
        torch.manual_seed(recipe.train.seed)  # new weights are the same in every process
        with processes.first_here():
            model = EVLGenForConditionalGeneration.from_config(
                recipe.model, dtype=dtype, device=processes.device, report=interruptible
            )
        if begin_with is not None:
            model.load_trained(begin_with, start=True)
        model.to(processes.device)
        watch.say(_said_of_visual(loader))
        with processes.first_here():
            sources = loader.sources(model)
        stopped = processes.sums({"stopped": float(sources is None)})["stopped"]
        if sources is None or stopped:
            raise StoppedError
        check_alike(processes.gather([one.digest for one in loader.found]), processes.count)
        watch.say(f"learning from {_said_of_sources(sources[0])}; choosing by {_said_of_sources(sources[1])}")

        def keep() -> None:
            if not folder.is_dir():  # it is this run's own from now on
                held.enter_context(alone_in(folder))
                check_folder(recipe, folder, resume)
            keep_shards(loader.found, folder, resume)

        processes.on_main(keep)
        trainer = Trainer(recipe, model, *sources, folder, dtype, processes, watch)
        processes.on_main(lambda: keep_recipe(recipe, folder))
        if resume and processes.on_main(lambda: has_checkpoint(folder)):
            watch.say(f"going on from step {trainer.resume()} of {trainer.steps.total}")
        report_at_the_end = trainer.run()
        if trainer.stopped:
            watch.on_stop()
        return report_at_the_end


def _said_of_visual(loader: Loader) -> str:
    if loader.visual == "features":
        return "opening the features of the pictures and videos; what is not there yet is computed once and kept"
    return "counting frames; they are decoded in every step"


def _said_of_sources(found: Sequence[TrainingSource]) -> str:
    return ", ".join(f"{len(source)} items of {source.name}" for source in found)


def _begun_in(folder: Path, device: torch.device) -> str:
    """The precision that the run in a folder was begun in on such a device: what auto comes to may have changed."""
    started = [row["start"] for row in RunLog(folder).records() if isinstance(row.get("start"), dict)]
    alike = bool(started) and str(started[0].get("device", "")).partition(":")[0] == device.type
    return str(started[0].get("precision", "auto")) if alike else "auto"


def _precision(wanted: str, device: torch.device) -> torch.dtype:
    if wanted == "float16" and device.type != "cuda":
        raise UsageError(
            f"train.precision float16 needs a CUDA GPU, this run is on {device.type}",
            "choose auto, bfloat16 or float32",
        )
    return pick_dtype(wanted, device)
