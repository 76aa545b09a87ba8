"""Frozen vision features, computed once and kept on disk.

A frozen tower gives the same tokens for the same picture every time, and on a CPU it costs more than the connector.
Features are stored as float16, one memory-mapped file per source; the folder's name is a hash of tower, transform,
views and the list of items, so a cache can never be used for something else.

Shapes: R rows of the cache (items x frames x views), N tokens, D width.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from evlgen.configuration import VisionConfig
from evlgen.data.captions import CaptionedItem, MediaStore, decode_frames
from evlgen.errors import EvlgenError
from evlgen.modeling import EVLGenForConditionalGeneration

BATCH_ROWS = 16
LAYOUT = 1  # raise when rows mean something else


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


def cache_name(vision: VisionConfig, items: list[CaptionedItem], media: str, views: int, max_frames: int) -> str:
    """A hash of everything that decides what the cache holds."""
    store = Path(media)
    stamp = [store.stat().st_size, store.stat().st_mtime_ns] if store.is_file() else []
    names = [i.name for i in items]
    facts: list[Any] = [LAYOUT, vision.model_dump(mode="json"), names, str(store), stamp, views, max_frames]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def build_features(
    model: EVLGenForConditionalGeneration,
    items: list[CaptionedItem],
    store: MediaStore,
    *,
    views: int,
    max_frames: int,
    folder: Path,
    report: Callable[[str, int, int | None], None] | None = None,
) -> FeatureCache:
    """Open the cache of a source, computing it first where it is not there yet.

    Args:
        model: its vision tower is used as it is (device and precision).
        items: what to encode.
        store: where the files are.
        views: variants per frame: 0 is the plain picture, the others are random crops, half of them mirrored.
        max_frames: frames kept per video.
        folder: where caches live.
        report: called with (what, done, total).

    Raises:
        EvlgenError: an item cannot be read, or the disk is too small; what was written is removed.
    """
    vision = model.config.vision
    target = folder / cache_name(vision, items, str(store.path), views, max_frames)
    if not (target / "index.json").is_file():
        partial = target.with_suffix(f".{os.getpid()}.partial")
        partial.mkdir(parents=True, exist_ok=True)
        try:
            _write(model, items, store, views, max_frames, partial, report)
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)
        except OSError as error:
            raise EvlgenError(f"features cannot be written to {target}: {error.strerror}", "free some disk") from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    index = json.loads((target / "index.json").read_text())
    shape = (sum(index["frames"]) * views, vision.tokens, vision.width)
    rows = np.memmap(target / "rows.f16", dtype=np.float16, mode="r", shape=shape)
    first = np.concatenate([[0], np.cumsum(index["frames"])[:-1]]) * views
    return FeatureCache(rows, first.tolist(), index["frames"], views)


def _write(
    model: EVLGenForConditionalGeneration,
    items: list[CaptionedItem],
    store: MediaStore,
    views: int,
    max_frames: int,
    folder: Path,
    report: Callable[[str, int, int | None], None] | None,
) -> None:
    counts: list[int] = []
    waiting: list[NDArray[np.uint8]] = []
    with (folder / "rows.f16").open("wb") as file:

        def flush() -> None:
            with torch.inference_mode():
                features: Tensor = model.encode(model.processor([f[None] for f in waiting]))
            file.write(features[:, 0].to(torch.float16).cpu().numpy().tobytes())
            waiting.clear()

        for number, item in enumerate(items):
            frames = decode_frames(item.name, store.read(item.name), max_frames)
            counts.append(len(frames))
            for variant in _variants(item.name, frames, views, model.config.vision.image_size):
                waiting.append(variant)
                if len(waiting) == BATCH_ROWS:
                    flush()
            if report is not None:
                report(f"features of {store.path.name}", number + 1, len(items))
        if waiting:
            flush()
        os.fsync(file.fileno())
    (folder / "index.json").write_text(json.dumps({"frames": counts}))


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
            box = (left, top, left + w, top + h)
            crop = picture.resize((side, side), Image.Resampling.BICUBIC, box=box)
            yield np.asarray(crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else crop)
