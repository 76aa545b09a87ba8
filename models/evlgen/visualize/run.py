"""`visualize`: from a video and one or two models to pictures of how their tokens merged."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evlgen.captioners.opening import EVLGEN, kind_of
from evlgen.configuration import EVLGenConfig
from evlgen.decoding_options import DecodingOptions
from evlgen.errors import UsageError, VideoError
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.modeling.hardware import pick_device, pick_dtype
from evlgen.system.progress import ProgressCallback
from evlgen.video import ClipFrames, DecodePool, Sampler
from evlgen.visualize.tracing import Trace, trace_clip
from evlgen.weights.named_models import find_checkpoint

MOST_MODELS, MOST_FRAMES = 2, 32
SHOWN_SIDE_PIXELS = 480
"""The longest side that frames have in pictures; the model has them in its own size."""


@dataclass(frozen=True)
class VisualizeRequest:
    """What to draw.

    Attributes:
        video: a video or picture.
        outs: files to write; their suffixes say what: .html, .png, .mp4.
        models: one or two names or folders.
        frames: frames of the video; None: as many as each model is made for.
        prompt: text that captions go on from.
        r: tokens merged per layer (`EVLGenConfig.with_r`); None: as each model was trained.
        decoding: of the search.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, float32, bfloat16, float16.
        timeout_seconds: for reading the video.
    """

    video: Path
    outs: tuple[Path, ...]
    models: tuple[str, ...] = ("evlgen-mini",)
    frames: int | None = None
    prompt: str = ""
    r: str | None = None
    decoding: DecodingOptions = DecodingOptions()  # noqa: RUF009 - frozen
    device: str = "auto"
    dtype: str = "auto"
    timeout_seconds: float = 60.0


@dataclass(frozen=True, eq=False)
class Panel:
    """One model's half of a picture.

    Attributes:
        trace: what it did.
        pictures: the frames that it saw, uint8 RGB (F, H, W, 3), in the video's own shape.
        seconds: when they come on display.
        warnings: what the decoder says of the video.
    """

    trace: Trace
    pictures: NDArray[np.uint8]
    seconds: tuple[float, ...]
    warnings: tuple[str, ...] = ()


def visualize(request: VisualizeRequest, report: ProgressCallback | None = None) -> list[Panel]:
    """Caption a video with each model, write down how its tokens merged, and draw it.

    Args:
        request: what to draw.
        report: told of downloads.

    Returns:
        A panel for each model, in their order.

    Raises:
        UsageError: a suffix, a model or a number that cannot be; nothing is computed then.
        VideoError: the video cannot be decoded.
        WeightsError: a weight file is missing or damaged.
        EvlgenError: a file cannot be written.
    """
    writers = [(out, _writer(out)) for out in request.outs]
    configs = _configs(request.models, request.r)
    if request.frames is not None and not 1 <= request.frames <= MOST_FRAMES:
        raise UsageError(f"--frames {request.frames} is not 1 to {MOST_FRAMES}")
    panels = []
    decode = cache(partial(_decode, request))  # models of one make see the same
    for name, config in zip(request.models, configs, strict=True):
        count = request.frames or min(config.temporal.frames, MOST_FRAMES)
        side = config.vision.image_size
        clip = decode(count, (side, side))
        shown = decode(count, SHOWN_SIDE_PIXELS)
        trace = _trace(name, clip.frames, request, report)
        seconds = tuple(float(time) for time in clip.timestamps)
        panels.append(Panel(trace, shown.frames, seconds, clip.warnings))
    for out, write in writers:
        write(panels, out, request.video.name)
    return panels


Writer = Callable[[Sequence[Panel], Path, str], None]


def _writer(out: Path) -> Writer:
    """What draws into a file, by its suffix."""
    suffix = out.suffix.lower()
    if suffix in (".html", ".htm"):
        from evlgen.visualize.merging_page import write_page

        return write_page
    if suffix == ".png":
        from evlgen.visualize.sheet import write_sheet

        return write_sheet
    if suffix == ".mp4":
        from evlgen.visualize.movie import write_movie

        return write_movie
    raise UsageError(f"--out {out} ends in nothing that can be drawn", "end its name in .html, .png or .mp4")


def _configs(models: Sequence[str], r: str | None) -> list[EVLGenConfig]:
    if not 1 <= len(models) <= MOST_MODELS:
        raise UsageError(f"--model is given {len(models)} times", "one model is drawn by itself, or two side by side")
    for name in models:
        if kind_of(name) is not EVLGEN:
            raise UsageError(f"--model {name} merges no tokens that could be drawn", "name a model of evlgen's own")
    configs = [EVLGenConfig.from_pretrained(find_checkpoint(name)) for name in models]
    for name, config in zip(models, configs, strict=True):
        config.merging(f"--model {name} cannot be drawn")
    return configs if r is None else [one.with_r(r) for one in configs]


def _decode(request: VisualizeRequest, frames: int, size: tuple[int, int] | int) -> ClipFrames:
    with DecodePool(1, request.timeout_seconds, sampler=Sampler(frames=frames), size=size) as pool:
        clip = next(iter(pool.map([request.video])))
    if not isinstance(clip, ClipFrames):
        raise VideoError(clip.kind, clip.message)
    return clip


def _trace(name: str, frames: NDArray[np.uint8], request: VisualizeRequest, report: Any) -> Trace:
    where = pick_device(request.device)
    model = EVLGenForConditionalGeneration.from_pretrained(
        name, device=where, dtype=pick_dtype(request.dtype, where), report=report
    )
    if request.r is not None:
        model.use_r(request.r)
    trace = trace_clip(model, frames, name=name, prompt=request.prompt, decoding=request.decoding)
    del model
    gc.collect()  # the next one is as large
    return trace
