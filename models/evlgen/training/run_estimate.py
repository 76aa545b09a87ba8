"""What a run will take, before it is started: memory of each process, features on disk, and time where it was measured.

Parameters, gradients and optimizer state are counted, activations reckoned (memory_formulas.py). A model that this
machine can hold is then built with random weights, and one step of it is measured, its memory and its time. Nothing is
guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from evlgen.data.caption_sources import ReadSource, frames_of, read_sources
from evlgen.data.media import is_picture
from evlgen.data.visual import choose_visual
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import (
    device_seconds,
    keep_large_allocations,
    memory_bytes,
    pick_device,
    pick_dtype,
)
from evlgen.modeling.skeleton import build_skeleton, counts_bytes
from evlgen.recipes.schema import Recipe
from evlgen.system.memory import resident_bytes
from evlgen.training.memory_formulas import Captions, Fit, ProcessMemory, fits, process_memory, room_of
from evlgen.training.optimizer import Update, choose_trained
from evlgen.training.steps import micro_batches_of_a_step
from evlgen.training.task import CaptionTask, MicroBatch

FEATURE_BYTES = 2  # float16
DEFAULT_PROCESSES = 2
MOST_PARAMETERS_ON_A_CPU = 1_000_000_000
"""A step of larger models is not tried on a CPU."""


@dataclass(frozen=True)
class MeasuredStep:
    """One optimizer step of a model with random weights, on this machine and in one process.

    Attributes:
        seconds: of the step.
        memory_bytes: resident memory of the process at its largest, libraries included; on a GPU its allocations.
    """

    seconds: float
    memory_bytes: int


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
        step: that was measured; None where none was.
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
    step: MeasuredStep | None
    seconds: float | None
    measured: str
    fits: tuple[Fit, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "memory": [{**asdict(one), "total": one.total} for one in self.memory]}


def estimate_run(
    recipe: Recipe,
    *,
    device: str = "auto",
    processes: int | None = None,
    gpu: str | None = None,
    report: Callable[..., None] | None = None,
) -> RunEstimate:
    """Estimate a run without loading a weight or a picture.

    Args:
        recipe: a valid one of one training run.
        device: "auto" or a torch device.
        processes: of which ddp and fsdp are estimated; None: as many as there are GPUs, at least 2, and left out
            where a step is too small for them.
        gpu: name of a GPU that need not be here, see `evlgen.training.memory_formulas.GPUS`; instead of `device`.
        report: progress of downloads: of the language model's files as far as its shape is in them.

    Raises:
        UsageError: unknown device or precision; a step cannot be cut among the processes.
        EvlgenError: the language model's configuration cannot be had, or sizes do not fit each other.
    """
    libraries, cached = resident_bytes(), choose_visual(recipe) == "features"
    place = torch.device(pick_device(device)) if gpu is None else torch.device("cuda")
    room = room_of(gpu, place)
    # bfloat16 is what auto comes to on all GPUs but the oldest
    wanted = "bfloat16" if gpu is not None and recipe.train.precision == "auto" else recipe.train.precision
    dtype = pick_dtype(wanted, place)
    shown = ways_to_run(recipe, dtype, place, processes)
    task = _task(recipe, build_skeleton(recipe.model, dtype, report), dtype)
    sources, missing = _read(recipe)
    captions, said = captions_of_a_step(recipe, task.model, sources, missing)
    memory = tuple(
        process_memory(
            recipe, task, captions[: -(-len(captions) // micro_batches_of_a_step(recipe, count))],
            sharding=sharding, processes=count, cached=cached, gpu=place.type == "cuda",
        )
        for sharding, count in shown
    )  # fmt: skip
    verdicts = fits(memory, room, (libraries or 0) if place.type == "cpu" else 0, shared=place.type == "cpu")
    measured = f"nothing is measured on {gpu}" if gpu else _not_tried(recipe, task, place, verdicts)
    step = None
    if not measured:
        step = measure_step(recipe, captions, place, dtype, cached=cached, report=report)
        first = "representation" if recipe.representation.steps else "vocabulary"
        measured = "one step with random weights" + (f", {first} steps left out" * bool(recipe.first_phase.steps))
    row_bytes = task.model.config.vision.tokens * task.model.vision.feature_width * FEATURE_BYTES
    return RunEstimate(
        recipe=recipe.name,
        device=gpu or str(place),
        precision=str(dtype).removeprefix("torch."),
        frozen_parameters=sum(p.numel() for p in task.parameters() if not p.requires_grad),
        trained_parameters=sum(p.numel() for p in task.parameters() if p.requires_grad),
        memory=memory,
        library_bytes=libraries,
        feature_bytes=0 if not cached else None if missing else _feature_rows(recipe, sources) * row_bytes,
        captions=said,
        step=step,
        seconds=None if step is None else step.seconds * recipe.train.steps,
        measured=measured,
        fits=tuple(verdicts),
    )


def _task(recipe: Recipe, model: EVLGenForConditionalGeneration, dtype: torch.dtype) -> CaptionTask:
    task = CaptionTask(model, None, dtype, label_smoothing=recipe.train.label_smoothing)
    task.prepare(recipe.train)
    choose_trained(task, learned_prompt=recipe.model.language.learned_prompt)
    return task


def ways_to_run(
    recipe: Recipe, dtype: torch.dtype, place: torch.device, processes: int | None
) -> list[tuple[str, int]]:
    """(sharding, processes) to estimate: one process, and several as far as the recipe allows.

    Args:
        recipe: what is run.
        dtype: what it computes in.
        place: the device.
        processes: as the user said; None: one for each GPU, and not fewer than DEFAULT_PROCESSES.

    Raises:
        UsageError: the recipe cannot be run so.
    """
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


def _read(recipe: Recipe) -> tuple[tuple[list[ReadSource], list[ReadSource]], str]:
    """The sources to train on and to validate on; and why they could not be read, or nothing."""
    if recipe.data.has_shards:
        return ([], []), "captions of shards are read when they are drawn"
    try:
        return read_sources(recipe.data), ""
    except UsageError as error:
        return ([], []), str(error)


def captions_of_a_step(
    recipe: Recipe,
    model: EVLGenForConditionalGeneration,
    sources: tuple[list[ReadSource], list[ReadSource]],
    missing: str,
) -> tuple[Captions, str]:
    """Captions as a step has them, of items evenly spread over the training data; and what is to be said of them.

    Args:
        recipe: how many.
        model: its tokenizer makes captions token ids, unless it counts bytes.
        sources: to train on and to validate on.
        missing: why they could not be read; captions are then as long as they may be.
    """
    count, end = recipe.data.items_per_step, model.language.end_token_id
    if recipe.scst.samples:
        sampled = [[end] * recipe.scst.max_new_tokens] * recipe.scst.samples
        return [sampled] * count, "sampled, as long as scst.max_new_tokens"
    if missing or counts_bytes(recipe.model):
        longest = [[end] * recipe.model.language.max_text_tokens] * recipe.data.captions_per_item
        why = missing or "nothing is fetched for a language model whose sizes are known"
        return [longest] * count, f"as long as language.max_text_tokens: {why}"
    items = [item for source in sources[0] for item in source.items]
    chosen = [items[k * len(items) // count] for k in range(count)]
    most = recipe.data.captions_per_item
    captions = [[model.language.encode_caption(text) for text, _ in item.prompted[:most]] for item in chosen]
    return captions, "those of items spread over the training data"


def _feature_rows(recipe: Recipe, sources: tuple[list[ReadSource], list[ReadSource]]) -> int:
    """Items x frames x views of all sources."""

    def rows(source: ReadSource) -> int:
        frames = frames_of(source, recipe.data, recipe.model)
        pictures = sum(is_picture(source.media.resolve(item.name) or item.name) for item in source.items)
        return source.config.views * (pictures + frames * (len(source.items) - pictures))

    return sum(rows(source) for both in sources for source in both)


def _not_tried(recipe: Recipe, task: CaptionTask, place: torch.device, verdicts: list[Fit]) -> str:
    """Why no step is measured here; nothing where one is."""
    if recipe.scst.samples:
        return "what sampling takes depends on a trained model"
    if recipe.model.language.quantization != "none":
        return "random weights are not quantized"
    if verdicts and verdicts[0].verdict == "no":
        return "a step is not tried where it does not fit"
    parameters = sum(p.numel() for p in task.parameters())
    if place.type == "cpu" and parameters > MOST_PARAMETERS_ON_A_CPU:
        return f"a step of {parameters / 1e9:.1f} billion parameters is not tried on a CPU"
    return ""


def measure_step(
    recipe: Recipe,
    captions: Captions,
    place: torch.device,
    dtype: torch.dtype,
    *,
    cached: bool,
    report: Callable[..., None] | None = None,
) -> MeasuredStep:
    """Take two optimizer steps of one process with random weights and noise for pictures; the second one counts.

    Args:
        recipe: of the run.
        captions: of a step.
        place: where.
        dtype: of the frozen parts and of matrix products.
        cached: whether features come from the cache, or pixels go through the tower.
        report: progress of downloads.
    """
    keep_large_allocations()
    task = _task(recipe, build_skeleton(recipe.model, dtype, report, device=place), dtype)
    task.learn()
    update, vision, frames = Update(task, recipe), task.model.vision, recipe.data.max_frames
    size = -(-len(captions) // recipe.train.accumulation_steps)
    parts = [captions[k : k + size] for k in range(0, len(captions), size)]
    tokens, seconds = sum(len(ids) for item in captions for ids in item), 0.0
    for number in range(2):
        started = device_seconds(place)
        update.start(recipe.optimizer.learning_rate)
        for part in parts:
            if cached:
                visual = torch.randn(len(part), frames, vision.config.tokens, vision.feature_width).half()
            else:
                side = vision.config.image_size
                visual = torch.randint(256, (len(part), frames, 3, side, side), dtype=torch.uint8)
            sums = task(MicroBatch(visual.to(place), part, None, seed=0))
            update.backward(sums["captions"] / tokens)
        update.clip()
        update.finish(number)
        seconds = device_seconds(place) - started
    used = memory_bytes(place)
    return MeasuredStep(seconds, used.get("gpu_memory_bytes", used.get("memory_bytes", 0)))
