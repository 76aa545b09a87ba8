"""Frozen vision features, computed once and kept on disk.

A frozen tower gives the same tokens for the same picture every time, and on a CPU it costs more than the connector.
Features are stored as float16, one memory-mapped file per source. The cache's name is a hash of the tower with its
weights and precision, the transform, the views, and every item with the size and time of its file.

Shapes: R rows of the cache (items x frames x views), N tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evlgen.data.captions import CaptionedItem, MediaStore, decode_frames
from evlgen.modeling import EVLGenForConditionalGeneration
from evlgen.weights import derived

BATCH_ROWS = 16
LAYOUT = 2  # raise when rows mean something else

Report = Callable[[str, int, int | None], None]


@dataclass
class FeatureCache:
    """Features of one source.

    Attributes:
        rows: memory map (R, N, D), float16.
        first_row: item -> its first row; rows of an item are frames x views, views fastest.
        frames: item -> number of frames.
        views: variants of every frame.
    """

    rows: NDArray[np.float16]
    first_row: list[int]
    frames: list[int]
    views: int

    def get(self, item: int, frames: list[int], view: int) -> NDArray[np.float16]:
        """Features (F, N, D) of some frames of an item."""
        return self.rows[[self.first_row[item] + f * self.views + view for f in frames]]


class _Stopped(Exception):  # noqa: N818 - not an error
    """The caller asked to stop while features were computed."""


def cache_key(
    model: EVLGenForConditionalGeneration, items: list[CaptionedItem], store: MediaStore, views: int, max_frames: int
) -> str:
    """A name that changes with everything that decides what the cache holds."""
    files = [(item.name, *store.stamp(item.name)) for item in items]
    facts: list[Any] = [LAYOUT, model.config.vision.model_dump(mode="json"), files, str(store.path), views, max_frames]
    digest = hashlib.sha256(json.dumps(facts).encode())
    for name, tensor in model.vision.trunk.state_dict().items():  # the weights themselves, and their precision
        digest.update(f"{name} {tensor.dtype}".encode())
        digest.update(tensor.detach().to("cpu", torch.float32).numpy().tobytes())
    return f"features-{digest.hexdigest()[:24]}"


def build_features(
    model: EVLGenForConditionalGeneration,
    items: list[CaptionedItem],
    store: MediaStore,
    *,
    views: int,
    max_frames: int,
    folder: Path | None = None,
    report: Report | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> FeatureCache | None:
    """Open the cache of a source, computing it first where it is not there yet.

    Args:
        model: its vision tower is used as it is (device and precision).
        items: what to encode.
        store: where the files are.
        views: variants per frame: 0 is the plain picture, the others are random crops, every second one mirrored.
        max_frames: frames kept per video.
        folder: cache directory; the user's own if not given.
        report: called with (what, done, total).
        stop: asked after every item; True gives the computation up and returns None.

    Raises:
        EvlgenError: an item cannot be read or decoded.
        WeightsError: the cache cannot be written, or its disk is full; nothing half-written stays.
    """
    vision = model.config.vision

    def build(place: Path) -> None:
        _write(model, items, store, views, max_frames, place, report, stop)

    try:
        place = derived(cache_key(model, items, store, views, max_frames), build, cache_dir=folder)
    except _Stopped:
        return None
    frames = json.loads((place / "index.json").read_text())
    shape = (sum(frames) * views, vision.tokens, vision.width)
    rows = np.memmap(place / "rows.f16", dtype=np.float16, mode="r", shape=shape)
    first = np.concatenate([[0], np.cumsum(frames)[:-1]]) * views
    return FeatureCache(rows, first.tolist(), frames, views)


def _write(
    model: EVLGenForConditionalGeneration,
    items: list[CaptionedItem],
    store: MediaStore,
    views: int,
    max_frames: int,
    place: Path,
    report: Report | None,
    stop: Callable[[], bool],
) -> None:
    counts: list[int] = []
    waiting: list[NDArray[np.uint8]] = []
    with (place / "rows.f16").open("wb") as file:
        for number, item in enumerate(items):
            frames = decode_frames(item.name, store.read(item.name), max_frames)
            counts.append(len(frames))
            for variant in _variants(item.name, frames, views, model.config.vision.image_size):
                waiting.append(variant)
                if len(waiting) == BATCH_ROWS:
                    _flush(model, waiting, file)
            if report is not None:
                report(f"features of {store.path.name}", number + 1, len(items))
            if stop():
                raise _Stopped
        if waiting:
            _flush(model, waiting, file)
    (place / "index.json").write_text(json.dumps(counts))


def _flush(model: EVLGenForConditionalGeneration, waiting: list[NDArray[np.uint8]], file: BinaryIO) -> None:
    with torch.inference_mode():
        features: Tensor = model.encode(model.processor([f[None] for f in waiting]))
    file.write(features[:, 0].to(torch.float16).cpu().numpy().tobytes())
    waiting.clear()


def _variants(name: str, frames: list[NDArray[np.uint8]], views: int, side: int) -> Iterator[NDArray[np.uint8]]:
    """Every frame in every view. A view crops all frames of an item alike; the choice depends on the name only."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    generator = np.random.default_rng(seed)
    crops = [(generator.uniform(0.7, 1.0, 2), generator.uniform(0, 1, 2), v % 2 == 1) for v in range(1, views)]
    for frame in frames:
        picture = Image.fromarray(frame)
        width, height = picture.size
        yield np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
        for (scale_x, scale_y), (at_x, at_y), mirrored in crops:
            w, h = scale_x * width, scale_y * height
            left, top = at_x * (width - w), at_y * (height - h)
            crop = picture.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h))
            yield np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop)
