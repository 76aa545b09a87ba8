"""Whether a recipe's frames come to training as cached features or as pixels; known before anything is loaded."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from evlgen.configuration import TemporalConfig, VisionConfig
from evlgen.errors import UsageError
from evlgen.modeling.vision import VisionTower
from evlgen.recipes import Recipe

Visual = Literal["features", "pixels"]


def choose_visual(recipe: Recipe) -> Visual:
    """What `data.visual` of a recipe comes to for its tower.

    Raises:
        UsageError: features are asked for, but there are shards, or temporal modules are trained inside the tower:
            features that were computed before would pass them by.
        EvlgenError: the tower's sizes do not fit each other.
    """
    vision, temporal, wanted = recipe.model.vision, recipe.model.temporal, recipe.data.visual
    if recipe.data.has_shards:
        if wanted == "features":
            raise UsageError(
                "data.visual features: pictures of shards are decoded in every step, their features are not cached",
                "set data.visual to auto or pixels",
            )
        return "pixels"
    if wanted == "pixels":
        return wanted
    if _cacheable(vision.model_dump_json(), temporal.model_dump_json() if temporal.fusion == "temporal" else None):
        return "features"
    if wanted == "features":
        raise UsageError(
            f"data.visual features: vision {vision.name} with fusion temporal has modules to train inside the tower, "
            "whose features cannot be cached",
            "set data.visual to auto or pixels, or choose a CNN tower or another fusion",
        )
    return "pixels"


@cache
def _cacheable(vision: str, temporal: str | None) -> bool:
    """Whether such a tower's features can be cached, by configurations as JSON: building one takes up to a second."""
    with torch.device("meta"):
        tower = VisionTower(
            VisionConfig.model_validate_json(vision),
            None if temporal is None else TemporalConfig.model_validate_json(temporal),
        )
    return tower.cacheable
