"""The memory of one process of a run: parameters, gradients and optimizer state counted, activations by formula.

Activations are what autograd keeps of a micro-batch for its backward pass, as so many numbers a token and layer, in the
manner of arXiv 2205.05198, section 4. A frozen matrix keeps no input; norms, attention, activation functions and
products keep theirs. Left out: temporaries, what the allocator loses, a CUDA context, children that decode frames, and
captions that validation and self-critical training generate. Under autocast norms see float32, matrices keep what they
see. Against a meter of every storage that a step made, what is reckoned here was 0.79 to 0.97 times as much
(mini-pretrain, mini-msrvtt-video and -scst, pretrain-opt2.7b).

Letters: N visual tokens of a frame, W width, F width inside a feed-forward layer, H heads, n tokens that enter a layer
and m that leave it, q queries, D vision width, b bytes of a number in the run's precision.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import MlpConfig, PerceiverConfig, QFormerConfig, TomeFormerConfig
from evlgen.errors import UsageError
from evlgen.modeling.losses import CHUNK_TOKENS
from evlgen.modeling.packing import packed_tokens
from evlgen.modeling.quantization import saved_bytes
from evlgen.recipes.schema import Recipe
from evlgen.training.processes import sharded_units
from evlgen.training.task import CaptionTask

MOMENTS = 2  # of AdamW

GPUS = {
    "t4-16gb": 16, "v100-16gb": 16, "v100-32gb": 32, "rtx3090-24gb": 24, "rtx4090-24gb": 24, "rtx5090-32gb": 32,
    "a10-24gb": 24, "l4-24gb": 24, "a6000-48gb": 48, "l40s-48gb": 48, "a100-40gb": 40, "a100-80gb": 80,
    "h100-80gb": 80, "h200-141gb": 141, "b200-180gb": 180,
}  # fmt: skip
"""Memory in 10^9 bytes."""

MARGIN = 1.9
"""So many times what is reckoned here a run on a CPU held at its end, validation and file pages included."""

Captions = list[list[list[int]]]
"""Per item, its captions as token ids."""


@dataclass(frozen=True)
class ProcessMemory:
    """Bytes of tensors that one process of a run holds in a training step; the parts add up to `total`.

    Attributes:
        sharding: none, ddp or fsdp.
        processes: of the run.
        items: of a micro-batch.
        frozen: parameters and buffers that are not trained.
        trained: parameters.
        gradients: of the trained parameters.
        optimizer: AdamW's moments.
        average: moving average of the trained parameters, and what self-critical training remembers of its start.
        gathered: fsdp: whole parameters of the root and of the layers that run.
        activations: what is kept for the backward pass.
    """

    sharding: str
    processes: int
    items: int
    frozen: int
    trained: int
    gradients: int
    optimizer: int
    average: int
    gathered: int
    activations: int

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by name."""
        return {name: size for name, size in asdict(self).items() if name not in ("sharding", "processes", "items")}

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def process_memory(
    recipe: Recipe, task: CaptionTask, captions: Captions, *, sharding: str, processes: int, cached: bool, gpu: bool
) -> ProcessMemory:
    """Reckon the memory of one process.

    Args:
        recipe: of the run.
        task: what is trained, on the meta device, with `requires_grad` as in training.
        captions: of a micro-batch; as many items as it has.
        sharding: none, ddp or fsdp.
        processes: of the run.
        cached: whether features come from the cache, so that the tower does not run in training.
        gpu: whether the run is on one; attention keeps less there.
    """
    share = processes if sharding == "fsdp" else 1
    language = task.model.language
    parameters = list(task.parameters())
    trained = [p for p in parameters if p.requires_grad]
    saved = saved_bytes(language.config.quantization, language.layers, language.embedding_weight.element_size())
    frozen = bytes_of([*(p for p in parameters if not p.requires_grad), *task.buffers()]) - saved
    # fsdp leaves buffers whole, and a tower that does not run
    whole = bytes_of([*task.buffers(), *(task.model.vision.trunk.parameters() if cached else ())]) if share > 1 else 0
    size = bytes_of(trained)  # gradients, moments and averages have the parameters' own type, float32
    copies = int(recipe.train.ema_decay > 0) + int(recipe.scst.samples > 0 and recipe.scst.kl_weight > 0)
    return ProcessMemory(
        sharding=sharding,
        processes=processes,
        items=len(captions),
        frozen=whole + (frozen - whole) // share,
        trained=size // share,
        gradients=size // share,
        optimizer=MOMENTS * size // share,
        average=copies * size // share,
        gathered=_gathered(task, cached) if sharding == "fsdp" else 0,
        activations=activation_bytes(recipe, task, captions, cached=cached, gpu=gpu),
    )


def _gathered(task: CaptionTask, cached: bool) -> int:
    """Return the bytes that fsdp gathers: the root, and two layers, one that runs and one that is fetched ahead."""
    units = sharded_units(task, cached)
    apart = {id(p) for unit in units for p in unit.parameters()}
    if cached:
        apart |= {id(p) for p in task.model.vision.trunk.parameters()}
    root = [p for p in task.parameters() if id(p) not in apart]
    return bytes_of(root) + 2 * max(bytes_of(unit.parameters()) for unit in units)


def activation_bytes(recipe: Recipe, task: CaptionTask, captions: Captions, *, cached: bool, gpu: bool) -> int:
    """What autograd keeps of a micro-batch: of the tower, the connector and the language model.

    With gradient checkpointing a layer keeps its input, and one layer at a time all of it. The arguments are those of
    `process_memory`.
    """
    model, checkpointed = task.model, recipe.train.gradient_checkpointing
    width = {torch.float32: 4}.get(task.precision, 2)
    items, frames = len(captions), recipe.data.max_frames
    vision = 0 if cached else _tower(model.vision, items * frames, width, recompute=checkpointed.vision)
    passes = items * (frames if recipe.model.temporal.fusion in ("concat", "mean-prompts") else 1)
    soft_prompts = recipe.model.soft_prompt_tokens(frames) if model.language.cross_attention is None else 0
    prefix = soft_prompts + len(model.prompt_before) + len(model.prompt_after)
    tokens = [prefix + sum(packed_tokens(ids) for ids in item) for item in captions]
    frozen: Any = model.language
    language = _language_layers(
        frozen.model.config, len(frozen.layers), sum(tokens), max(tokens), width,
        gpu=gpu, recompute=checkpointed.language,
    )  # fmt: skip
    logits = CHUNK_TOKENS * len(model.language.head_weight) * (4 + width)
    connector = passes * connector_bytes(recipe.model, width)
    vocabulary = recipe.vocabulary.steps and recipe.vocabulary.items_per_step / recipe.data.items_per_step
    return max(vision + connector + language + logits, int(vocabulary * (vision + connector)))


def _language_layers(shape: Any, layers: int, tokens: int, seen: int, b: int, *, gpu: bool, recompute: bool) -> int:
    """Return activation bytes of frozen layers of Llama's kind (RMSNorm, gated) or OPT's (LayerNorm, ReLU).

    Args:
        shape: transformers' configuration.
        layers: how many.
        tokens: of all sequences of a micro-batch.
        seen: tokens of the longest.
        b: bytes of a number.
        gpu: fused attention keeps its result, the other the probabilities, as float32 and in the run's precision.
        recompute: gradient checkpointing.
    """
    W, H = shape.hidden_size, shape.num_attention_heads
    gated = not hasattr(shape, "ffn_dim")
    F = shape.intermediate_size if gated else shape.ffn_dim
    norms = 2 * 4 * W if gated else 2 * b * W  # RMSNorm makes float32 of its input
    probabilities = (4 if b == 4 else 4 + b) * H * seen
    attention = 3 * b * W + (b * W if gpu else probabilities)  # queries, keys, values
    layer = tokens * (norms + attention + (3 if gated else 1) * b * F)
    total: int = layers * tokens * b * W + layer if recompute else layers * layer
    return total


def _tower(vision: Any, frames: int, b: int, *, recompute: bool) -> int:
    """Return activation bytes of a frozen ViT with trained temporal modules in all its blocks; 0 where none are."""
    if not vision.blocks:
        return 0
    W, N, temporal = vision.config.width, vision.config.tokens, vision.blocks[0]
    F = max(p.shape[0] for n, p in temporal.named_parameters() if "mlp" in n and p.dim() > 1)
    module = 4 * (3 * W + 2 * temporal.temporal.query.out_features)  # float32, as its parameters
    block = frames * N * (b * (2 * W + 4 * W + F) + module)  # norms; queries, keys, values and result; GELU's input
    total: int = len(vision.blocks) * frames * N * b * W + block if recompute else len(vision.blocks) * block
    return total


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of distinct tensors."""
    return sum({id(t): t.numel() * t.element_size() for t in tensors}.values())


@dataclass(frozen=True)
class Fit:
    """Whether one way of running fits.

    Attributes:
        place: what has the memory.
        room: its bytes.
        needed: bytes, at least.
        verdict: yes; perhaps, where what is not reckoned may not fit; or no.
    """

    place: str
    room: int
    needed: int
    verdict: Literal["yes", "perhaps", "no"]


def room_of(gpu: str | None, place: torch.device) -> tuple[str, int] | None:
    """What has the memory, and its bytes; None where that is not known.

    Args:
        gpu: a name of `GPUS`; None: this machine.
        place: the device of the run.

    Raises:
        UsageError: no GPU of that name is known.
    """
    if gpu is not None:
        if gpu not in GPUS:
            near = difflib.get_close_matches(gpu, GPUS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(GPUS)}"
            raise UsageError(f"--gpu {gpu!r} is not known", hint)
        return gpu, GPUS[gpu] * 10**9
    if place.type == "cuda":
        properties = torch.cuda.get_device_properties(place)
        return properties.name, properties.total_memory
    if place.type == "cpu" and hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return "this machine", os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def fits(memory: Sequence[ProcessMemory], room: tuple[str, int] | None, beside: int, *, shared: bool) -> list[Fit]:
    """A verdict for every way of running.

    Args:
        memory: of one process, each way.
        room: of `room_of`.
        beside: bytes of each process that are not in `memory`.
        shared: whether all processes share the room, as on a CPU.
    """
    if room is None:
        return []
    found = []
    for one in memory:
        needed = (one.total + beside) * (one.processes if shared else 1)
        verdict: Literal["yes", "perhaps", "no"] = (
            "no" if needed > room[1] else "perhaps" if needed * MARGIN > room[1] else "yes"
        )
        found.append(Fit(*room, needed, verdict))
    return found


def connector_bytes(model: EVLGenConfig, b: int) -> int:
    """Bytes of a pass of one item through the connector of any kind, with both linear maps around it."""
    config, D, n = model.connector, model.vision.width, model.vision.tokens
    kept = n * (4 + b) * D  # what LayerNorm sees, and what it gives
    if isinstance(config, TomeFormerConfig):
        for m in model.tokens_per_layer():
            kept += _bert_layer(config, n, m, b)
            n = m
        return kept
    if isinstance(config, QFormerConfig):
        crossings = -(-config.layers // config.cross_every)
        layers = config.layers * _bert_layer(config, config.queries, config.queries, b)
        return kept + layers + crossings * _crossing(config, n, b)
    if isinstance(config, PerceiverConfig):
        return kept + n * b * config.width + config.layers * _perceiver_layer(config, n, b)
    inside = config.width_inside(D, model.language.width)
    gelu = 2 * n * b * inside if isinstance(config, MlpConfig) else 0
    return kept + gelu + (config.pool_to or 0) * b * inside


def _bert_layer(config: TomeFormerConfig | QFormerConfig, n: int, m: int, b: int) -> int:
    W, F = config.width, config.intermediate
    norms, dropout = 2 * 4 * W, 2 * W  # masks of one byte
    return n * (norms + dropout + 8 * b * W) + _probabilities(config, n, n, b) + m * 2 * b * F


def _crossing(config: QFormerConfig, n: int, b: int) -> int:
    W, q = config.width, config.queries
    return q * (4 * W + W + 3 * b * W) + 2 * n * b * W + _probabilities(config, q, n, b)


def _perceiver_layer(config: PerceiverConfig, n: int, b: int) -> int:
    """Keys and values keep what they see and what they are; without dropout fused attention keeps no probabilities."""
    W, q = config.width, config.queries
    seen = n + q if config.see_queries else n
    attention = q * (4 * W + W + 4 * b * W) + 3 * seen * b * W
    if config.dropout:
        attention += _probabilities(config, q, seen, b)
    feed_forward = q * (4 * W + W + b * W + 2 * b * config.intermediate) if config.intermediate else 0
    return attention + feed_forward


def _probabilities(config: TomeFormerConfig | QFormerConfig | PerceiverConfig, q: int, n: int, b: int) -> int:
    """Before and after dropout, and its mask."""
    return config.heads * q * n * (2 * b + 1)
