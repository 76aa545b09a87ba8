"""The features of all of a recipe's data, by its frozen tower alone, or the index of its shards: what
`evlgen data prepare` does."""

from __future__ import annotations

from collections.abc import Callable

import torch

from evlgen.data.encoder import FrozenTower
from evlgen.data.features import Report
from evlgen.data.shards.checking import PreparedShards, prepare_shards
from evlgen.data.sources import Estimate, PreparedSource, ReadSource, estimate_source, prepare_source, read_sources
from evlgen.data.visual import choose_visual
from evlgen.errors import UsageError
from evlgen.modeling.hardware import keep_large_allocations, pick_device, pick_dtype
from evlgen.recipes import Recipe


def prepare_data(
    recipe: Recipe,
    *,
    device: str = "auto",
    report: Report | None = None,
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
    recipe: Recipe, *, report: Report | None = None, stop: Callable[[], bool] = lambda: False
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


def estimate_data(recipe: Recipe, *, device: str = "auto", report: Report | None = None) -> list[Estimate]:
    """Bytes and time that `prepare_data` would take; the time is measured on some items of every source.

    Raises:
        UsageError: as for `prepare_data`.
    """
    tower, sources = _load(recipe, device, report)
    return [estimate_source(tower, source, recipe.data) for source in sources]


def _load(recipe: Recipe, device: str, report: Report | None) -> tuple[FrozenTower, list[ReadSource]]:
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
