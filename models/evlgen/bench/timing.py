"""Times side by side: every variant in every round, in alternating order, so that a busy machine hits all alike.

A variant's ratio to the first one is taken within a round; medians and ranges are over rounds.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from evlgen.bench.compared_connectors import Bridge, variants
from evlgen.configuration import EVLGenConfig
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import device_seconds
from evlgen.modeling.tomeformer import TomeFormer

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
        median_seconds, fastest_seconds, slowest_seconds: of a round.
        times_as_fast: median over rounds of the first variant's seconds divided by this one's.
        rounds: how many were measured.
    """

    median_seconds: float
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
        ratio = statistics.median(b / m for b, m in zip(base, mine, strict=True))
        times.append(Times(statistics.median(mine), min(mine), max(mine), ratio, len(mine)))
    return times


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
    config: EVLGenConfig, rs: Sequence[int], *, batch: int, limits: TimeLimits, device: torch.device,
    dtype: torch.dtype, tell: Tell,
) -> list[ConnectorTimes]:  # fmt: skip
    """Time what `variants` compares, with random weights and input.

    Args:
        config: sizes; of the towers nothing is built.
        rs: tokens merged per layer; the first is what others are compared with.
        batch: passes at once: items, or frames of items where frames meet behind the connector.
        limits: how often each runs.
        device: where.
        dtype: of matrix products; parameters are float32.
        tell: progress.
    """
    compared = variants(config, rs)
    bridges = {one.connector.kind: Bridge(one).to(device).train() for one in compared.values()}  # one at every r
    x = torch.randn(batch, config.vision.tokens, config.vision.width, device=device)

    def once(changed: EVLGenConfig) -> list[float]:
        module = bridges[changed.connector.kind]
        module.merge(changed)
        started = device_seconds(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            prompts = module(x)
        between = device_seconds(device)
        prompts.float().square().mean().backward()
        ended = device_seconds(device)
        module.zero_grad(set_to_none=True)
        return [between - started, ended - between, ended - started]

    runs: dict[str, Callable[[], Sequence[float]]] = {name: partial(once, one) for name, one in compared.items()}
    times = in_turn(runs, limits, lambda done, total: tell("connector", done, total))
    return [ConnectorTimes(name, *phases) for name, phases in times.items()]


@dataclass(frozen=True)
class CaptionTimes:
    """Times of whole captions, frames to text with their log-probabilities, of one batch of videos."""

    name: str
    batch: int
    caption: Times


def time_captions(
    model: EVLGenForConditionalGeneration, rs: Sequence[int], *, batch: int, new_tokens: int, limits: TimeLimits,
    tell: Tell,
) -> list[CaptionTimes]:  # fmt: skip
    """Time greedy captions of noise at every r, or as the model is if it merges nothing; all have as many tokens.

    Args:
        model: with its weights, on its device. Merging otherwise than it was trained changes what it says, and no
            longer than this takes.
        rs: tokens merged per layer; the first is what others are compared with.
        batch: videos at once.
        new_tokens: of every caption.
        limits: how often each runs.
        tell: progress.
    """
    config, connector = model.config, model.connector
    side, frames = config.vision.image_size, config.temporal.frames
    pixels = torch.randn(batch, frames, 3, side, side, device=model.device)

    def caption(changed: EVLGenConfig) -> list[float]:
        if isinstance(connector, TomeFormer):
            connector.merge_as(changed.merging("merge"))
        started = device_seconds(model.device)
        model.generate(pixels, num_beams=1, min_new_tokens=new_tokens, max_new_tokens=new_tokens)
        return [device_seconds(model.device) - started]

    compared = {name: one for name, one in variants(config, rs).items() if one.connector.kind == config.connector.kind}
    runs: dict[str, Callable[[], Sequence[float]]] = {name: partial(caption, one) for name, one in compared.items()}
    try:
        times = in_turn(runs, limits, lambda done, total: tell(f"captions, batch {batch}", done, total))
    finally:
        if isinstance(connector, TomeFormer):
            connector.merge_as(config.merging("merge"))
    return [CaptionTimes(name, batch, phases[0]) for name, phases in times.items()]
