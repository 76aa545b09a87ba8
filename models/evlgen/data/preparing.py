"""The features of all of a recipe's data, by its frozen tower alone, or the index of its shards: what
`evlgen data prepare` does, and what it would take."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from evlgen.data.caption_sources import ReadSource, frames_of, read_sources
from evlgen.data.decoding import decode_items
from evlgen.data.encoder import Encoder, FrozenTower, encode_rows
from evlgen.data.features import BATCH_ROWS, PreparedSource, feature_store, prepare_source
from evlgen.data.planning import free_bytes, make_plan
from evlgen.data.shards.shard_facts import PreparedShards, prepare_shards
from evlgen.data.views import make_views
from evlgen.data.visual import choose_visual
from evlgen.errors import Failure, UsageError
from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype
from evlgen.recipes import Recipe
from evlgen.recipes.data_schema import DataConfig
from evlgen.system.progress import ProgressCallback

SAMPLE_ITEMS = 32
SAMPLE_SECONDS = 10.0


@dataclass(frozen=True)
class Estimate:
    """What building the features of a source would take.

    Attributes:
        name: of the source.
        items: all of them.
        todo: those that are to be encoded.
        bytes_at_most: exact but for videos with fewer frames than asked for.
        free_bytes: on the disk where they would go.
        seconds: None where nothing is to be done or nothing could be measured.
        place: the folder.
    """

    name: str
    items: int
    todo: int
    bytes_at_most: int
    free_bytes: int
    seconds: float | None
    place: Path

    def row(self) -> dict[str, Any]:
        """All of it for JSON."""
        return {**asdict(self), "place": str(self.place)}


def prepare_data(
    recipe: Recipe,
    *,
    device: str = "auto",
    report: ProgressCallback | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[PreparedSource]:
    """Compute what is missing of the features of every source, in the precision that training uses on that device.

    Args:
        recipe: a validated recipe.
        device: "auto", "cpu", "cuda" or "mps".
        report: told of downloads (bytes) and of features (items).
        stop: asked after every item; True ends early, and what is computed is kept.

    Returns:
        The sources that are done.

    Raises:
        UsageError: captions or media are not what they must be, or the recipe trains on pixels.
        EvlgenError: too many items are broken, or the disk is full.
    """
    tower, sources = _load(recipe, device, report)
    done: list[PreparedSource] = []
    for source in sources:
        prepared = prepare_source(tower, source, recipe.data, retry=True, report=report, stop=stop)
        if prepared is None:
            break
        done.append(prepared)
    return done


def prepare_all_shards(
    recipe: Recipe, *, report: ProgressCallback | None = None, stop: Callable[[], bool] = lambda: False
) -> list[PreparedShards]:
    """Make the index of every source of shards; pictures are decoded in every step, so there are no features.

    Args:
        recipe: a validated recipe.
        report: told of shards.
        stop: asked after every shard; True ends early, and what is done is kept.

    Returns:
        The sources that are done.

    Raises:
        UsageError, EvlgenError: see `prepare_shards`.
    """
    done: list[PreparedShards] = []
    for config in recipe.data.train:
        if not config.shards:
            continue
        prepared = prepare_shards(config, recipe.data, report=report, stop=stop)
        if prepared is None:
            break
        done.append(prepared)
    return done


def estimate_data(recipe: Recipe, *, device: str = "auto", report: ProgressCallback | None = None) -> list[Estimate]:
    """Bytes and time that `prepare_data` would take; the time is measured on some items of every source.

    Raises:
        UsageError: as for `prepare_data`.
    """
    tower, sources = _load(recipe, device, report)
    return [estimate_source(tower, source, recipe.data) for source in sources]


def _load(recipe: Recipe, device: str, report: ProgressCallback | None) -> tuple[FrozenTower, list[ReadSource]]:
    if choose_visual(recipe) == "pixels":
        raise UsageError(
            f"recipe {recipe.name} trains on the frames themselves (data.visual {recipe.data.visual}): it has no "
            "features to prepare",
            "start training; it counts frames first, and keeps the counts",
        )
    train, validation = read_sources(recipe.data)
    place = torch.device(pick_device(device))
    keep_large_allocations()
    tower = FrozenTower.from_config(
        recipe.model, dtype=pick_dtype(recipe.train.precision, place), device=place, report=report
    )
    return tower, [*train, *validation]


def estimate_source(encoder: Encoder, source: ReadSource, data: DataConfig) -> Estimate:
    """What building the features of a source would take; the time is measured on some of its items."""
    names, store = source.names, feature_store(encoder, source, data)
    plan = make_plan(names, source.media, store)
    todo = [names[n] for n in plan.todo]
    sample = todo[:: max(1, len(todo) // SAMPLE_ITEMS)][:SAMPLE_ITEMS]
    seconds = _measure(encoder, sample, source, frames_of(source, data, encoder.config))
    return Estimate(
        source.name,
        source.total,
        len(todo),
        plan.bytes_at_most,
        free_bytes(store.place),
        None if seconds is None else seconds * len(todo),
        store.place,
    )


def _measure(encoder: Encoder, names: Sequence[str], source: ReadSource, max_frames: int) -> float | None:
    """Seconds an item, start-up aside."""
    views, side = source.config.views, encoder.config.vision.image_size
    whole = side if views == 1 else None
    results = decode_items(
        names, source.media, lambda n, f: make_views(n, f, views, side), max_frames=max_frames, side=whole
    )
    started: float | None = None
    done = -1
    for _, made in results:
        rows = [] if isinstance(made, Failure) else made
        for at in range(0, len(rows), BATCH_ROWS):
            encode_rows(encoder, rows[at : at + BATCH_ROWS])
        done += 1
        if started is None:
            started = time.monotonic()
        elif time.monotonic() - started > SAMPLE_SECONDS:
            break
    if started is None or done < 1:
        return None
    return (time.monotonic() - started) / done
