"""A benchmark: for every model and every r what it costs, counted; and on this machine what it takes, timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from evlgen import __version__
from evlgen.bench.flops import ConnectorReport, count_model
from evlgen.bench.models import FULL_SIZE, NamedModel, find_model
from evlgen.bench.parameters import FROZEN_BYTES, MemoryBytes, PartParameters, memory_bytes, parameters_by_part
from evlgen.bench.timing import CaptionTimes, ConnectorTimes, TimeLimits, time_captions, time_connectors
from evlgen.errors import UsageError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import keep_large_allocations, machine_facts, pick_device, pick_dtype
from evlgen.modeling.quantization import saved_bytes
from evlgen.modeling.skeleton import build_skeleton

ALL = "full-size"
"""Stands for all full-size models."""

R = (0, 16)
"""Tokens merged per layer, unless the request says otherwise."""

MOST_TIMED = 1_000_000_000
"""Frozen parameters; whole captions of larger models are not timed."""

Report = Callable[..., None]
"""Called with a step's name, what is done of it, all of it, and the unit where that is not bytes."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        models: names for `find_model`, or "full-size" for all of the paper's.
        r: tokens merged per layer; 0 comes first and is what the others are compared with. None: 0 and 16, where the
            connector merges tokens.
        new_tokens: of a caption.
        timed: whether to time anything.
        batch: of connectors that are timed.
        caption_batch: of whole captions that are timed, besides batches of one.
        rounds: how often each variant is timed at most.
        seconds: after so many of a measurement (connectors, captions of a batch size) no further round begins.
        device: "auto" or a torch device.
    """

    models: tuple[str, ...] = ("evlgen-mini",)
    r: tuple[int, ...] | None = None
    new_tokens: int = 20
    timed: bool = True
    batch: int = 2
    caption_batch: int = 8
    rounds: int = 5
    seconds: float = 30.0
    device: str = "auto"


@dataclass(frozen=True)
class ModelReport:
    """One model.

    Attributes:
        name, what: of the model.
        frames, visual_tokens: of an item, and of a frame.
        text_tokens, new_tokens: of a caption to train on, and of a generated one.
        parameters: by part, of the model as configured.
        memory: of parameters, gradients and optimizer state.
        connectors: per r, then the Q-Former; or the model's own, of another kind.
        connector_times: empty if nothing was timed.
        caption_times: likewise.
        not_timed: why whole captions were not; empty if they were.
    """

    name: str
    what: str
    frames: int
    visual_tokens: int
    text_tokens: int
    new_tokens: int
    parameters: tuple[PartParameters, ...]
    memory: MemoryBytes
    connectors: tuple[ConnectorReport, ...]
    connector_times: tuple[ConnectorTimes, ...] = ()
    caption_times: tuple[CaptionTimes, ...] = ()
    not_timed: str = ""


@dataclass(frozen=True)
class BenchReport:
    """All of it, with what it was run on.

    Attributes:
        version: of evlgen.
        machine: what times depend on.
        precision: of matrix products that were timed.
        request: what was asked for.
        models: in that order.
    """

    version: str
    machine: dict[str, str | int]
    precision: str
    request: BenchRequest
    models: tuple[ModelReport, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


Show = Callable[[ModelReport | list[ConnectorTimes] | list[CaptionTimes]], None]
"""Called with each part of a report as soon as it is known: a model without times, then its times."""


def parse_r(text: str) -> tuple[int, ...]:
    """ "16,8" -> (0, 8, 16).

    Raises:
        UsageError: it is not numbers of tokens with commas between them.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"--r {text!r} is not a list of numbers of tokens", "write for example --r 0,8,16,19")
    return tuple(sorted({0, *map(int, words)}))


def bench(request: BenchRequest, report: Report, show: Show = lambda part: None) -> BenchReport:
    """Measure models one after the other.

    Args:
        request: what.
        report: progress; of downloads as well.
        show: what is known so far.

    Raises:
        UsageError: there is no such model or device, or r is given and a model merges no tokens.
        EvlgenError: a part of a model cannot be had.
    """
    names = [n for name in request.models for n in ([one.name for one in FULL_SIZE] if name == ALL else [name])]
    models = [find_model(name) for name in dict.fromkeys(names)]
    for model in models:
        if request.r is not None and ALL not in request.models:
            model.config.merging(f"--r and --model {model.name}")
    request = replace(request, r=request.r or R)
    device = torch.device(pick_device(request.device))
    dtype = pick_dtype("auto", device)
    keep_large_allocations()
    reports = tuple(bench_model(model, request, device, dtype, report, show) for model in models)
    return BenchReport(__version__, machine_facts(device), str(dtype).removeprefix("torch."), request, reports)


def bench_model(
    model: NamedModel,
    request: BenchRequest,
    device: torch.device,
    dtype: torch.dtype,
    report: Report,
    show: Show = lambda part: None,
) -> ModelReport:
    """Measure one model.

    Args:
        model: which.
        request: at which r, and how often.
        device: for times.
        dtype: of matrix products, for times.
        report: progress.
        show: what is known so far.
    """
    config, rs = model.config, request.r or R
    skeleton = build_skeleton(config, report=report)
    parts = parameters_by_part(skeleton)
    saved = saved_bytes(config.language.quantization, skeleton.language.layers, FROZEN_BYTES)

    def counted(done: int, total: int) -> None:
        report(f"{model.name}: FLOPs", done, total, "connectors")

    reason = _why_not_timed(model, parts) if request.timed else "not asked for"
    counts = ModelReport(
        model.name, model.what, config.temporal.frames, config.vision.tokens, config.language.max_text_tokens,
        request.new_tokens, tuple(parts), memory_bytes(parts, saved),
        count_model(skeleton, config, rs, request.new_tokens, counted), not_timed=reason,
    )  # fmt: skip
    show(counts)

    def tell(what: str, done: int, total: int) -> None:
        report(f"{model.name}: {what}", done, total, "rounds")

    connector_times: list[ConnectorTimes] = []
    caption_times: list[CaptionTimes] = []
    limits = TimeLimits(request.rounds, request.seconds)
    if request.timed:
        connector_times = time_connectors(
            config, rs, batch=request.batch, limits=limits, device=device, dtype=dtype, tell=tell
        )
        show(connector_times)
    if not reason:
        real = EVLGenForConditionalGeneration.from_pretrained(
            model.name, device=device, dtype=dtype, captions_only=True, report=report
        )
        for batch in sorted({1, request.caption_batch}):
            found = time_captions(real, rs, batch=batch, new_tokens=request.new_tokens, tell=tell, limits=limits)
            show(found)
            caption_times += found
    return replace(counts, connector_times=tuple(connector_times), caption_times=tuple(caption_times))


def _why_not_timed(model: NamedModel, parts: Sequence[PartParameters]) -> str:
    if not model.trained:
        return "no trained weights under this name"
    frozen = sum(part.frozen for part in parts)
    return "" if frozen <= MOST_TIMED else f"{frozen / 1e9:.1f} billion frozen parameters are too many for a bench"
