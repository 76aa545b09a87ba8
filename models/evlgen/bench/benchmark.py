"""A benchmark: for every model and every r what it costs, counted; and on this machine what it takes, timed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from evlgen import __version__
from evlgen.bench.curve import CurveData, CurvePoint, Kept, score_variants
from evlgen.bench.flops import ConnectorReport, count_model
from evlgen.bench.measured_models import FULL_SIZE, NamedModel, find_model
from evlgen.bench.parameters import FROZEN_BYTES, MemoryBytes, PartParameters, memory_bytes, parameters_by_part
from evlgen.bench.timing import CaptionTimes, ConnectorTimes, TimeLimits, time_captions, time_connectors
from evlgen.bench.variants import BASELINES, variants
from evlgen.captioners.evlgen_captioner import load_captioner
from evlgen.captioners.opening import EVLGEN
from evlgen.captioners.protocol import LoadOptions
from evlgen.configuration import EVLGenConfig
from evlgen.connector_config import TomeFormerConfig
from evlgen.errors import UsageError
from evlgen.metrics.references import read_references
from evlgen.modeling.hardware import keep_large_allocations, machine_facts, pick_device, pick_dtype
from evlgen.modeling.hardware import memory_bytes as memory_used
from evlgen.modeling.quantization import saved_bytes
from evlgen.modeling.skeleton import build_skeleton
from evlgen.system.jsons import read_json, write_json

ALL = "full-size"
"""Stands for all full-size models."""

MOST_TIMED = 1_000_000_000
"""Frozen parameters; whole captions of larger models are not timed."""

Report = Callable[..., None]
"""Called with a step's name, what is done of it, all of it, and the unit where that is not bytes."""


@dataclass(frozen=True)
class BenchRequest:
    """What to measure.

    Attributes:
        models: names for `find_model`, or "full-size" for all of the paper's.
        r: tokens merged per layer, numbers or schedules (`parse_r`); "0" comes first and is what the others are
            compared with. None: 0 and the model's own, where the connector merges tokens.
        baselines: simpler ways to as few tokens beside every r, of `BASELINES`.
        new_tokens: of a caption.
        timed: whether to time anything.
        batch: of connectors that are timed.
        caption_batches: of whole captions that are timed, besides batches of one.
        video: is decoded where whole captions are timed; None: they are of noise.
        rounds: how often each variant is timed at most.
        seconds: after so many of a measurement (connectors, captions of a batch size) no further round begins.
        device: "auto" or a torch device.
        data: what every variant captions, to be scored; None: nothing.
        num_beams: of the search for these captions.
        out: a file that holds all that is known so far, as JSON; captions that it holds already are not made again.
    """

    models: tuple[str, ...] = ("evlgen-mini",)
    r: tuple[str, ...] | None = None
    baselines: tuple[str, ...] = ()
    new_tokens: int = 20
    timed: bool = True
    batch: int = 2
    caption_batches: tuple[int, ...] = (8,)
    video: Path | None = None
    rounds: int = 5
    seconds: float = 30.0
    device: str = "auto"
    data: CurveData | None = None
    num_beams: int = 1
    out: Path | None = None


@dataclass(frozen=True)
class ModelReport:
    """One model.

    Attributes:
        name, what: of the model.
        frames, visual_tokens: of an item, and of a frame.
        text_tokens, new_tokens: of a caption to train on, and of a generated one.
        parameters: by part, of the model as configured.
        memory: of parameters, gradients and optimizer state.
        connectors: per r, then the Q-Former and baselines; or the model's own, of another kind.
        connector_times: empty if nothing was timed.
        caption_times: likewise.
        not_timed: why whole captions were not; empty if they were.
        peak_memory_bytes: the most that the process had by then; of single variants only a GPU tells.
        points: scores of each variant's captions; empty if nothing was captioned.
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
    peak_memory_bytes: int | None = None
    points: tuple[CurvePoint, ...] = ()


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
        values: dict[str, Any] = json.loads(json.dumps(asdict(self), default=str))
        return values


Part = ModelReport | list[ConnectorTimes] | list[CaptionTimes] | list[CurvePoint]
Show = Callable[[Part], None]
"""Called with each part of a report as soon as it is known: a model without times, then its times, then its scores."""


def parse_r(text: str) -> tuple[str, ...]:
    """ "16,8,[9,8]" -> ("0", "8", "16", "[9,8]"): numbers and schedules, each as of `EVLGenConfig.with_r`.

    Raises:
        UsageError: it is not numbers of tokens or schedules with commas between them.
    """
    try:
        found = json.loads(f"[{text}]")
    except ValueError:
        found = []
    if not found or not all(isinstance(one, list) or (type(one) is int and one >= 0) for one in found):
        raise UsageError(
            f"--r {text!r} is not a list of numbers of tokens",
            'write for example --r 0,8,16,19; a schedule is a part of it, --r "0,8,[10,8,8],[8,-0.5]"',
        )
    numbers = sorted({0, *(one for one in found if isinstance(one, int))})
    schedules = [json.dumps(one, separators=(",", ":")) for one in found if isinstance(one, list)]
    return (*map(str, numbers), *dict.fromkeys(schedules))


def parse_numbers(text: str, option: str) -> tuple[int, ...]:
    """ "1,8" -> (1, 8).

    Raises:
        UsageError: it is not numbers of 1 or more with commas between them.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) for word in words):
        raise UsageError(f"{option} {text!r} is not a list of numbers", f"write for example {option} 1,8")
    return tuple(map(int, words))


def parse_baselines(text: str) -> tuple[str, ...]:
    """The baselines that a text such as "random,pool" or "all" names, in the order of `BASELINES`.

    Raises:
        UsageError: an unknown name.
    """
    asked = [part.strip() for part in text.split(",")]
    if unknown := [one for one in asked if one not in (*BASELINES, "all")]:
        raise UsageError(f"--baselines {unknown[0]!r} is unknown", f"there is: all, {', '.join(BASELINES)}")
    return tuple(one for one in BASELINES if one in asked or "all" in asked)


def own_r(config: EVLGenConfig) -> str | None:
    """The schedule that a model was made for, as `parse_r` spells it; None where it merges nothing."""
    connector = config.connector
    return json.dumps(connector.r, separators=(",", ":")) if isinstance(connector, TomeFormerConfig) else None


def bench(request: BenchRequest, report: Report, show: Show = lambda part: None) -> BenchReport:
    """Measure models one after the other.

    Args:
        request: what.
        report: progress; of downloads as well.
        show: what is known so far.

    Raises:
        UsageError: there is no such model, device or video; r is given and a model merges no tokens; `out` holds
            something else, or a model that is to caption has no weights.
        EvlgenError: a part of a model cannot be had, or `out` cannot be written.
    """
    if request.video is not None and not request.video.is_file():  # told before minutes of measuring
        raise UsageError(f"no such file: {request.video}", "--video names a video to time decoding with")
    names = [n for name in request.models for n in ([one.name for one in FULL_SIZE] if name == ALL else [name])]
    models = [find_model(name) for name in dict.fromkeys(names)]
    for model in models:
        if request.r is not None and ALL not in request.models:
            model.config.merging(f"--r and --model {model.name}")
        if request.data is not None and not model.trained:
            raise UsageError(f"--dataset and --model {model.name}: a recipe has no weights to caption with")
    if request.data is not None:
        read_references(request.data.captions, split=request.data.split)  # likewise
    kept = _kept_captions(request.out)
    device = torch.device(pick_device(request.device))
    dtype = pick_dtype("auto", device)
    keep_large_allocations()
    precision, own = (one.removeprefix("torch.") for one in (str(dtype), EVLGEN.resolve_dtype("auto", str(device))))
    if own != precision:
        precision += f" (captions {own})"
    done: list[ModelReport] = []

    def so_far(*last: ModelReport) -> BenchReport:
        return BenchReport(__version__, machine_facts(device), precision, request, (*done, *last))

    def keep(part: ModelReport) -> None:
        if request.out is not None:
            values = so_far(part).as_dict()
            used = {point["key"] for model in values["models"] for point in model["points"]}
            values["kept"] = {key: captions for key, captions in kept.items() if key not in used}
            write_json(request.out, values, indent=1, hint="choose another --out")

    for model in models:
        done.append(bench_model(model, request, device, dtype, report, show, keep, kept))
    return so_far()


def _kept_captions(out: Path | None) -> Kept:
    """Captions of an earlier run in its file, by what they depend on.

    Raises:
        UsageError: the file holds something else.
    """
    if out is None or not out.exists():
        return {}
    report = read_report(out)
    made = {point["key"]: point["captions"] for model in report["models"] for point in model["points"]}
    return {**report["kept"], **made}


def read_report(path: Path) -> dict[str, Any]:
    """What `BenchReport.as_dict` gave, from its file.

    Raises:
        UsageError: the file holds something else, or cannot be read.
    """
    if not path.exists():
        raise UsageError(f"no such file: {path}", "evlgen bench --out writes one")
    found = read_json(path)
    models = found.get("models") if isinstance(found, dict) else None
    if not isinstance(models, list) or not all(isinstance(one, dict) and "points" in one for one in models):
        raise UsageError(f"{path} is no report of evlgen bench", "evlgen bench --out writes one")
    return {"kept": {}, **found}


def bench_model(
    model: NamedModel,
    request: BenchRequest,
    device: torch.device,
    dtype: torch.dtype,
    report: Report,
    show: Show = lambda part: None,
    keep: Callable[[ModelReport], None] = lambda part: None,
    kept: Kept | None = None,
) -> ModelReport:
    """Measure one model.

    Args:
        model: which.
        request: at which r, and how often.
        device: for times.
        dtype: of matrix products, for times.
        report: progress.
        show: told of each part as it is known,
        keep: and of all that is known by then.
        kept: captions that need not be made again.
    """
    config = model.config
    skeleton = build_skeleton(config, report=report)
    rs = request.r or tuple(dict.fromkeys(("0", own_r(config) or "0")))
    compared = variants(config, rs, request.baselines, skeleton.vision.prefix_tokens)
    parts = parameters_by_part(skeleton)
    saved = saved_bytes(config.language.quantization, skeleton.language.layers, FROZEN_BYTES)

    def counted(done: int, total: int) -> None:
        report(f"{model.name}: FLOPs", done, total, "connectors")

    reason = _why_not_timed(model, parts) if request.timed else "not asked for"
    known = ModelReport(
        model.name, model.what, config.temporal.frames, config.vision.tokens, config.language.max_text_tokens,
        request.new_tokens, tuple(parts), memory_bytes(parts, saved),
        count_model(skeleton, compared, request.new_tokens, counted), not_timed=reason,
    )  # fmt: skip
    show(known)
    keep(known)

    def tell(what: str, done: int, total: int) -> None:
        report(f"{model.name}: {what}", done, total, "rounds")

    limits = TimeLimits(request.rounds, request.seconds)
    if request.timed:
        connector_times = time_connectors(
            compared, batch=request.batch, limits=limits, device=device, dtype=dtype, tell=tell
        )
        show(connector_times)
        known = replace(known, connector_times=tuple(connector_times))
        keep(known)
    if reason and request.data is None:
        return known
    arithmetic = EVLGEN.resolve_dtype("auto", str(device))  # that of evlgen caption
    real = load_captioner(model.name, LoadOptions(str(device), arithmetic), report).model
    if not reason:
        for batch in sorted({1, *request.caption_batches}):
            found = time_captions(
                real, compared, batch=batch, new_tokens=request.new_tokens, tell=tell, limits=limits,
                video=request.video,
            )  # fmt: skip
            show(found)
            peak = memory_used(device).get("memory_bytes")
            known = replace(known, caption_times=(*known.caption_times, *found), peak_memory_bytes=peak)
            keep(known)
    if request.data is not None:
        points = score_variants(
            real, model.name, compared, request.data, request.num_beams, kept or {}, report,
            lambda points: keep(replace(known, points=tuple(points))),
        )  # fmt: skip
        show(points)
        known = replace(known, points=tuple(points))
        keep(known)
    return known


def _why_not_timed(model: NamedModel, parts: Sequence[PartParameters]) -> str:
    if not model.trained:
        return "no trained weights under this name"
    frozen = sum(part.frozen for part in parts)
    return "" if frozen <= MOST_TIMED else f"{frozen / 1e9:.1f} billion frozen parameters are too many for a bench"
