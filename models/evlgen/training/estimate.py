"""What a run will take, before it is started: memory of each process, features on disk, and time where it was measured.

Parameters, gradients and optimizer state are counted; activations are metered on fake tensors, in the largest
micro-batch of a sample of the run's own steps. Left out: workspaces inside operations and what the allocator loses
(on a GPU also the CUDA context), children that decode frames, captions that validation and self-critical training
generate (their key-value caches), loading the weight files, and pages of the feature file, which the system takes back.
Self-critical captions are taken to be as long as they may be. So the total is a lower bound. For mini-msrvtt-video on
a CPU it is 2.5 GB with libraries; resident were 2.7 GB after the first step and 3.3 GB after ten on one thread (0.5 GB
of it pages of files), and a run of 70 steps on two threads logged 3.4 GB at its first line and 4.7 GB at its end. What
fsdp gathers is reckoned from how it works and has not been compared with a real run; shards have.

Time is never guessed: it comes from the log of a run of this recipe on this machine, or not at all.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch._subclasses import FakeTensorMode

from evlgen.data.visual import choose_visual
from evlgen.errors import UsageError
from evlgen.modeling.hardware import pick_device, pick_dtype
from evlgen.recipes.schema import Recipe
from evlgen.training.folder import may_go_on
from evlgen.training.machines import Fit, fits, room_of
from evlgen.training.memory import MemoryEstimator, ProcessMemory
from evlgen.training.records import RunLog, machine_facts
from evlgen.training.skeleton import CaptionData, build_model, build_task, read_captions_only
from evlgen.training.step import micro_batches_of_a_step

FEATURE_BYTES = 2  # float16
DEFAULT_PROCESSES = 2


@dataclass(frozen=True)
class RunEstimate:
    """An estimate.

    Attributes:
        recipe: its name.
        device: the run would be on.
        precision: of the frozen parts and of matrix products.
        frozen_parameters: how many; trained_parameters: likewise.
        memory: for one process, and for each of several with ddp and fsdp.
        library_bytes: of this process before anything is loaded: Python and its libraries; None where unknown.
        feature_bytes: of the cached features of all sources, at most; 0 on pixels, or None where captions are missing.
        captions: where the lengths of captions come from.
        seconds: of all optimizer steps, validation not included; None where no step was measured.
        measured: what `seconds` comes from, or why there is none.
        fits: whether each of `memory` fits this machine, or the GPU that was named; empty where that is not known.
    """

    recipe: str
    device: str
    precision: str
    frozen_parameters: int
    trained_parameters: int
    memory: tuple[ProcessMemory, ...]
    library_bytes: int | None
    feature_bytes: int | None
    captions: str
    seconds: float | None
    measured: str
    fits: tuple[Fit, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        memory = [{**asdict(one), "peak": one.peak, "total": one.total} for one in self.memory]
        return {**asdict(self), "memory": memory}


def estimate_run(
    recipe: Recipe,
    *,
    folder: Path,
    device: str = "auto",
    processes: int | None = None,
    gpu: str | None = None,
    report: Callable[..., None] | None = None,
) -> RunEstimate:
    """Estimate a run without loading a weight or a picture.

    Args:
        recipe: a valid one of one training run.
        folder: of the run; a log in it gives the time.
        device: "auto" or a torch device.
        processes: of which ddp and fsdp are estimated; None: as many as there are GPUs, at least 2, and left out
            where a step is too small for them.
        gpu: name of a GPU that need not be here, see `evlgen.training.machines.GPUS`; instead of `device`.
        report: progress of downloads: of the language model's files as far as its shape is in them.

    Raises:
        UsageError: unknown device or precision; a step cannot be cut among the processes.
        EvlgenError: the language model's configuration cannot be had, or sizes do not fit each other.
    """
    libraries, visual = _resident_bytes(), choose_visual(recipe)
    place = torch.device(pick_device(device)) if gpu is None else torch.device("cuda")
    room = room_of(gpu, place)
    elsewhere = gpu is not None  # bfloat16 is what auto comes to on all but the oldest
    wanted = "bfloat16" if elsewhere and recipe.train.precision == "auto" else recipe.train.precision
    dtype = pick_dtype(wanted, place)
    shown = _shown(recipe, dtype, place, processes)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # captions are real: lengths of packed sequences depend on them
    model = build_model(recipe, dtype, fake, report)
    data = read_captions_only(recipe, model)
    with fake:
        task = build_task(recipe, model, data.items, dtype, gpu=place.type == "cuda")
    estimator = MemoryEstimator(recipe, task, data, fake, gpu=place.type == "cuda")
    with torch.random.fork_rng(devices=[]):
        memory = tuple(estimator.process(sharding, count) for sharding, count in shown)
    seconds, measured = (
        (None, f"nothing is measured on {gpu}") if elsewhere else measured_seconds(recipe, folder, place)
    )
    row_bytes = model.config.vision.tokens * model.vision.feature_width * FEATURE_BYTES
    return RunEstimate(
        recipe=recipe.name,
        device=gpu or str(place),
        precision=str(dtype).removeprefix("torch."),
        frozen_parameters=sum(p.numel() for p in task.parameters() if not p.requires_grad),
        trained_parameters=sum(p.numel() for p in task.parameters() if p.requires_grad),
        memory=memory,
        library_bytes=libraries,
        feature_bytes=0 if visual == "pixels" else None if data.missing else data.feature_rows * row_bytes,
        captions=_said_of_captions(recipe, data),
        seconds=seconds,
        measured=measured,
        fits=tuple(fits(memory, room, (libraries or 0) if place.type == "cpu" else 0, shared=place.type == "cpu")),
    )


def _shown(recipe: Recipe, dtype: torch.dtype, place: torch.device, processes: int | None) -> list[tuple[str, int]]:
    """(sharding, processes) to estimate."""
    micro_batches_of_a_step(recipe, 1)
    count = processes
    if count is None:
        count = max(DEFAULT_PROCESSES, torch.cuda.device_count() if place.type == "cuda" else 1)
    try:
        micro_batches_of_a_step(recipe, count)
    except UsageError:
        if processes is not None:
            raise
        count = 1
    quantized = recipe.model.language.quantization != "none"
    shardings = ["ddp"] if recipe.scst.samples or quantized or dtype == torch.float16 else ["ddp", "fsdp"]
    return [("none", 1), *((sharding, count) for sharding in shardings if count > 1)]


def _said_of_captions(recipe: Recipe, data: CaptionData) -> str:
    if recipe.scst.samples:
        return "sampled, as long as scst.max_new_tokens"
    if data.missing:
        return f"as long as language.max_text_tokens, vocabulary loss left out: {data.missing}"
    if not data.sources:
        return "as long as language.max_text_tokens: nothing is fetched for a language model whose sizes are known"
    return "those of the largest micro-batch among the run's own"


def measured_seconds(recipe: Recipe, folder: Path, place: torch.device) -> tuple[float | None, str]:
    """Seconds of all optimizer steps, by the log of the run in a folder; and where that comes from, or why not.

    Args:
        recipe: of the run; a log of another one says nothing.
        folder: of the run.
        place: the device; a log of another one or of another machine says nothing.
    """
    rows = RunLog(folder).records()
    if not rows or not may_go_on(recipe, folder):
        return None, f"no steps of this recipe are logged in {folder}"
    started: dict[str, Any] = next((row["start"] for row in reversed(rows) if "start" in row), {})
    here = machine_facts(place)
    if any(started.get(key) != here.get(key) for key in _MACHINE):
        return None, f"the log in {folder} is of another machine or device"
    first = recipe.vocabulary.steps
    seconds, lines = 0.0, 0
    for name, steps, items in (
        ("vocabulary", range(first), recipe.vocabulary.items_per_step),
        ("caption", range(first, first + recipe.train.steps), recipe.data.items_per_step),
    ):
        rates = [row["items_per_second"] for row in rows if "items_per_second" in row and row["step"] in steps]
        if steps and not rates:
            return None, f"no {name} step is logged in {folder}"
        seconds += len(steps) * items / statistics.median(rates) if steps else 0.0
        lines += len(rates)
    return seconds, f"{lines} lines of {RunLog(folder).path}, processes: {started.get('processes', 1)}"


_MACHINE = ("system", "cores", "device", "gpu")


def _resident_bytes() -> int | None:
    """Memory of this process now, on Linux."""
    if sys.platform != "linux":
        return None
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
