"""Times side by side: every variant in every round, in alternating order, so that a busy machine hits all alike.

A variant's ratio to the first one is taken within a round; medians, percentiles and ranges are over rounds. A GPU tells
times by events that pass in its own stream, everything else by the clock when all that was asked for is done.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evlgen.bench.variants import Bridge, Shaper, Variant, reducing
from evlgen.errors import VideoError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import device_seconds
from evlgen.modeling.temporal import TemporalContextualization
from evlgen.system.cpus import usable_cpus
from evlgen.video import ClipFrames, DecodePool, Sampler

Tell = Callable[[str, int, int], None]
"""Called with what is timed, rounds done, and rounds in all."""


@dataclass(frozen=True)
class TimeLimits:
    """How long one measurement may go on.

    Attributes:
        rounds: so many are measured at most.
        seconds: after so many no further round begins; one is always measured.
    """

    rounds: int
    seconds: float = math.inf


@dataclass(frozen=True)
class Times:
    """Times of one variant.

    Attributes:
        median_seconds, p95_seconds, fastest_seconds, slowest_seconds: of a round; the 95th percentile is interpolated.
        times_as_fast: median over rounds of the first variant's seconds divided by this one's.
        rounds: how many were measured.
    """

    median_seconds: float
    p95_seconds: float
    fastest_seconds: float
    slowest_seconds: float
    times_as_fast: float
    rounds: int


def in_turn(
    variants: Mapping[str, Callable[[], Sequence[float]]],
    limits: TimeLimits,
    tell: Callable[[int, int], None],
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, list[Times]]:
    """Time variants side by side, after a round that does not count.

    Args:
        variants: by name, what runs once and returns the seconds of its phases; the first is what others are
            compared with.
        limits: how often each runs.
        tell: called with rounds done, the first included, and rounds in all.
        clock: tells seconds.

    Returns:
        per variant, the times of each phase.
    """
    started = clock()
    found: dict[str, list[Sequence[float]]] = {name: [] for name in variants}
    for turn in range(limits.rounds + 1):
        order = list(variants) if turn % 2 else list(variants)[::-1]
        measured = {name: variants[name]() for name in order}
        if turn:
            for name, phases in measured.items():
                found[name].append(phases)
        late = turn > 0 and clock() - started >= limits.seconds
        tell(turn + 1, turn + 1 if late else limits.rounds + 1)
        if late:
            break
    first = found[next(iter(variants))]
    return {name: _phases(first, own) for name, own in found.items()}


def _phases(first: list[Sequence[float]], own: list[Sequence[float]]) -> list[Times]:
    times = []
    for base, mine in zip(zip(*first, strict=True), zip(*own, strict=True), strict=True):
        ratio = statistics.median(b / m if m else 1.0 for b, m in zip(base, mine, strict=True))
        p95 = float(np.percentile(mine, 95))
        times.append(Times(statistics.median(mine), p95, min(mine), max(mine), ratio, len(mine)))
    return times


class Stopwatch:
    """Moments on a device, and the seconds between them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> Any:
        """A moment: when all that was asked for so far is done."""
        if self.device.type != "cuda":
            return device_seconds(self.device)
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """From one moment to another; waits until both have passed."""
        if self.device.type != "cuda":
            return float(end - start)
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000


@dataclass(frozen=True)
class ConnectorTimes:
    """Times of a connector in training mode, one batch.

    Attributes:
        name: as of `ConnectorReport`.
        forward, backward, both: their times.
    """

    name: str
    forward: Times
    backward: Times
    both: Times


def time_connectors(
    compared: Mapping[str, Variant],
    *,
    batch: int,
    limits: TimeLimits,
    device: torch.device,
    dtype: torch.dtype,
    tell: Tell,
) -> list[ConnectorTimes]:
    """Time the connectors of variants, with random weights and input.

    Args:
        compared: by name; of the towers nothing is built. The first is what others are compared with.
        batch: passes at once: items, or frames of items where frames meet behind the connector.
        limits: how often each runs.
        device: where.
        dtype: of matrix products; parameters are float32.
        tell: progress.
    """
    watch = Stopwatch(device)
    made: dict[tuple[str, int], tuple[Bridge, torch.Tensor]] = {}  # one for all schedules
    for one in compared.values():
        key = one.config.connector.kind, one.config.vision.tokens
        if key not in made:
            x = torch.randn(batch, one.config.vision.tokens, one.config.vision.width, device=device)
            made[key] = Bridge(one.config).to(device).train(), x

    def once(variant: Variant) -> list[float]:
        module, x = made[variant.config.connector.kind, variant.config.vision.tokens]
        with reducing(module.connector, variant):
            started = watch.now()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                prompts = module(x)
            between = watch.now()
            prompts.float().square().mean().backward()
            ended = watch.now()
        module.zero_grad(set_to_none=True)
        moments = (started, between), (between, ended), (started, ended)
        return [watch.seconds(start, end) for start, end in moments]

    runs: dict[str, Callable[[], Sequence[float]]] = {name: partial(once, one) for name, one in compared.items()}
    times = in_turn(runs, limits, lambda done, total: tell("connector", done, total))
    return [ConnectorTimes(name, *phases) for name, phases in times.items()]


@dataclass(frozen=True)
class CaptionTimes:
    """Times of whole captions, frames to text with their log-probabilities, of one batch of videos.

    Attributes:
        name: as of `ConnectorReport`.
        batch: videos at once.
        phases: decode (a video file, frames resized and normalised; only where one was given), vision (the tower, and
            tags where a model has them), temporal (the temporal modules, which are no part of vision; only where there
            are any), connector (LayerNorm, projections, connector), prefill (up to the first token of a caption),
            steps (the other tokens).
        caption: all of it.
        peak_memory_bytes: largest allocation of a GPU in any round; None elsewhere.
    """

    name: str
    batch: int
    phases: dict[str, Times]
    caption: Times
    peak_memory_bytes: int | None = None


def time_captions(
    model: EVLGenForConditionalGeneration, compared: Mapping[str, Variant], *, batch: int, new_tokens: int,
    limits: TimeLimits, tell: Tell, video: Path | None = None,
) -> list[CaptionTimes]:  # fmt: skip
    """Time greedy captions of noise as every variant; all have as many tokens.

    Args:
        model: with its weights, on its device. Merging otherwise than it was trained changes what it says, and no
            longer than this takes.
        compared: by name; those of another kind of connector are left out. The first is what others are compared with.
        batch: videos at once.
        new_tokens: of every caption.
        limits: how often each runs.
        tell: progress.
        video: is decoded in the place of noise, once for every video of the batch.

    Raises:
        VideoError: it cannot be decoded.
    """
    watch, shaper = Stopwatch(model.device), Shaper(model)
    temporal = [one for one in model.vision.modules() if isinstance(one, TemporalContextualization)]
    names = ["decode"] * (video is not None) + ["vision"] + ["temporal"] * bool(temporal)
    names += ["connector", "prefill", "steps"]
    peaks: dict[str, int] = {}
    with ExitStack() as open_pools:
        pools: dict[tuple[int, int], DecodePool] = {}

        def pixels_of(variant: Variant) -> torch.Tensor:
            side, frames = variant.config.vision.image_size, variant.config.temporal.frames
            if video is None:
                return torch.randn(batch, frames, 3, side, side, device=model.device)
            if (side, frames) not in pools:
                workers = max(1, min(batch, usable_cpus()))
                pool = DecodePool(workers, sampler=Sampler(frames=frames), size=(side, side))
                pools[side, frames] = open_pools.enter_context(pool)
            clips = [_decoded(clip) for clip in pools[side, frames].map([video] * batch)]
            pixels: torch.Tensor = model.processor([clip.frames for clip in clips])
            return pixels.to(model.device)

        def caption(variant: Variant) -> list[float]:
            with shaper.shaped(variant):
                if model.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(model.device)
                before = watch.now()
                pixels = pixels_of(variant)
                with _watched(model, watch) as (marks, inside):
                    started = watch.now()
                    model.generate(
                        pixels, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens,
                        on_tokens=lambda _: marks.append(watch.now()) if len(marks) == _CONNECTED else None,
                    )  # fmt: skip
                    ended = watch.now()
                if model.device.type == "cuda":
                    peak = torch.cuda.max_memory_allocated(model.device)
                    peaks[variant.name] = max(peak, peaks.get(variant.name, 0))
            moments = [started, *marks, ended]
            spans = [watch.seconds(start, end) for start, end in pairwise(moments)]
            found = [watch.seconds(before, started)] if video is not None else []
            if temporal:
                mixing = sum(watch.seconds(start, end) for start, end in inside)
                spans[:1] = [spans[0] - mixing, mixing]
            found += spans
            return [*found, sum(found)]

        kind = model.config.connector.kind
        runs: dict[str, Callable[[], Sequence[float]]] = {
            name: partial(caption, one) for name, one in compared.items() if one.config.connector.kind == kind
        }
        times = in_turn(runs, limits, lambda done, total: tell(f"captions, batch {batch}", done, total))
    return [
        CaptionTimes(name, batch, dict(zip(names, phases, strict=False)), phases[-1], peaks.get(name))
        for name, phases in times.items()
    ]


_CONNECTED = 2
"""Moments that `_watched` has noted when the soft prompts are made."""


@contextmanager
def _watched(
    model: EVLGenForConditionalGeneration, watch: Stopwatch
) -> Iterator[tuple[list[Any], list[tuple[Any, Any]]]]:
    """Note when the connector begins and when soft prompts are made; and beginning and end of temporal modules."""
    marks: list[Any] = []
    begun: list[Any] = []
    inside: list[tuple[Any, Any]] = []

    def begin(module: nn.Module, arguments: Any) -> None:
        begun.append(watch.now())

    def end(module: nn.Module, arguments: Any, output: Any) -> None:
        inside.append((begun.pop(), watch.now()))

    hooks = [
        model.ln_vision.register_forward_pre_hook(lambda module, arguments: marks.append(watch.now())),
        model.lm_proj.register_forward_hook(lambda module, arguments, output: marks.append(watch.now())),
    ]
    for module in model.vision.modules():
        if isinstance(module, TemporalContextualization):
            hooks += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
    try:
        yield marks, inside
    finally:
        for hook in hooks:
            hook.remove()


def _decoded(clip: Any) -> ClipFrames:
    if not isinstance(clip, ClipFrames):
        raise VideoError(clip.kind, clip.message)
    return clip
